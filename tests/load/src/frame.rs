//! The client's side of RFC 6455, as far as load needs it: server frames come unmasked and are looked at
//! where they lie, client frames are masked with zeros, so that they need no copy either.

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message, or a part of one.
    Data,
    /// The connection ends.
    Close,
    /// To be answered.
    Ping,
    /// An answer.
    Pong,
}

/// A frame of the server, where it lies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// What it is.
    pub(crate) kind: Kind,
    /// What it holds.
    pub(crate) payload: &'a [u8],
    /// Its length with its head.
    pub(crate) len: usize,
}

/// Not a frame that a server may send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The first frame of some bytes, once it is there as a whole.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let [head, short, rest @ ..] = bytes else { return Ok(None) };
    let (len, head_len): (usize, usize) = match (short, rest) {
        (0..126, _) => (usize::from(*short), 2),
        (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            let len = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (usize::try_from(len).map_err(|_| Malformed)?, 10)
        }
        (126 | 127, _) => return Ok(None),
        // A server never masks.
        _ => return Err(Malformed),
    };
    let kind = match head & 0x0f {
        0..=2 => Kind::Data,
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        _ => return Err(Malformed),
    };
    let end = head_len.checked_add(len).ok_or(Malformed)?;
    Ok(bytes.get(head_len..end).map(|payload| Frame { kind, payload, len: end }))
}

/// Appends a frame of a client.
pub(crate) fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..126 => out.push(0x80 | u8::try_from(len).unwrap_or(0)),
        len => match u16::try_from(len) {
            Ok(len) => {
                out.push(0x80 | 126);
                out.extend(len.to_be_bytes());
            }
            Err(_) => {
                out.push(0x80 | 127);
                out.extend((payload.len() as u64).to_be_bytes());
            }
        },
    }
    out.extend([0; 4]);
    out.extend(payload);
}

/// The opcode of a text.
pub(crate) const TEXT: u8 = 1;
/// The opcode of bytes.
pub(crate) const BINARY: u8 = 2;
/// The opcode of an answer to a ping.
pub(crate) const PONG: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn server(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write(&mut frame, opcode, payload);
        // The same without its mask.
        let head = match payload.len() {
            0..126 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        frame[1] &= 0x7f;
        frame.drain(head..head + 4);
        frame
    }

    #[test]
    fn frames_of_every_length_are_taken_once_they_are_whole() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let payload = vec![b'a'; len];
            let mut bytes = server(TEXT, &payload);
            let whole = bytes.len();
            bytes.extend(server(9, b"next"));
            let frame = first(&bytes).expect("well-formed").expect("whole");
            assert_eq!((frame.kind, frame.payload, frame.len), (Kind::Data, &payload[..], whole));
            for cut in [1, 2, 3, 9, whole - 1].into_iter().filter(|cut| *cut < whole) {
                assert_eq!(first(&bytes[..cut]), Ok(None), "{len} cut at {cut}");
            }
            let next = first(&bytes[whole..]).expect("well-formed").expect("whole");
            assert_eq!((next.kind, next.payload), (Kind::Ping, b"next".as_slice()));
        }
    }

    #[test]
    fn what_no_server_may_send_is_malformed() {
        let mut masked = Vec::new();
        write(&mut masked, TEXT, b"hi");
        assert_eq!(first(&masked), Err(Malformed));
        assert_eq!(first(&[0x83, 0]), Err(Malformed));
        assert_eq!(first(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255]), Err(Malformed));
    }
}
