//! Implements the client side of RFC 6455, as far as `load` needs it. Server frames are unmasked and parsed in place;
//! client frames have a mask of zeros, which leaves the payload unchanged.

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// A message or a fragment of one.
    Data,
    /// The server closes the connection.
    Close,
    /// Must be answered by a pong.
    Ping,
    /// The answer to a ping.
    Pong,
}

/// A frame of the server; it borrows the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServerFrame<'a> {
    /// The kind.
    pub(crate) kind: FrameKind,
    /// The payload.
    pub(crate) payload: &'a [u8],
    /// Length of the frame in bytes, header included.
    pub(crate) len: usize,
}

/// The error for bytes that are not a valid frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MalformedFrame;

/// Parses the first frame of some bytes; `None` while it is incomplete.
pub(crate) fn parse_first(bytes: &[u8]) -> Result<Option<ServerFrame<'_>>, MalformedFrame> {
    let [head, short, rest @ ..] = bytes else { return Ok(None) };
    let (len, head_len): (usize, usize) = match (short, rest) {
        (0..126, _) => (usize::from(*short), 2),
        (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            let len = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (usize::try_from(len).map_err(|_| MalformedFrame)?, 10)
        }
        (126 | 127, _) => return Ok(None),
        // The mask bit is set, which a server must not do.
        _ => return Err(MalformedFrame),
    };
    let kind = match head & 0x0f {
        0..=2 => FrameKind::Data,
        8 => FrameKind::Close,
        9 => FrameKind::Ping,
        10 => FrameKind::Pong,
        _ => return Err(MalformedFrame),
    };
    let end = head_len.checked_add(len).ok_or(MalformedFrame)?;
    Ok(bytes.get(head_len..end).map(|payload| ServerFrame { kind, payload, len: end }))
}

/// Appends a client's frame with the mask 0.
pub(crate) fn write_client_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
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

/// The opcode of a text frame.
pub(crate) const OPCODE_TEXT: u8 = 1;
/// The opcode of a binary frame.
pub(crate) const OPCODE_BINARY: u8 = 2;
/// The opcode of a pong.
pub(crate) const OPCODE_PONG: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn server(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_client_frame(&mut frame, opcode, payload);
        // Makes it a server's frame: clears the mask bit and removes the mask.
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
    fn frames_of_every_length_are_parsed_once_complete() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let payload = vec![b'a'; len];
            let mut bytes = server(OPCODE_TEXT, &payload);
            let whole = bytes.len();
            bytes.extend(server(9, b"next"));
            let frame = parse_first(&bytes).expect("well-formed").expect("whole");
            assert_eq!((frame.kind, frame.payload, frame.len), (FrameKind::Data, &payload[..], whole));
            for cut in [1, 2, 3, 9, whole - 1].into_iter().filter(|cut| *cut < whole) {
                assert_eq!(parse_first(&bytes[..cut]), Ok(None), "{len} cut at {cut}");
            }
            let next = parse_first(&bytes[whole..]).expect("well-formed").expect("whole");
            assert_eq!((next.kind, next.payload), (FrameKind::Ping, b"next".as_slice()));
        }
    }

    #[test]
    fn frame_that_no_server_may_send_is_malformed() {
        let mut masked = Vec::new();
        write_client_frame(&mut masked, OPCODE_TEXT, b"hi");
        assert_eq!(parse_first(&masked), Err(MalformedFrame));
        assert_eq!(parse_first(&[0x83, 0]), Err(MalformedFrame));
        assert_eq!(parse_first(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255]), Err(MalformedFrame));
    }
}
