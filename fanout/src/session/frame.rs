//! WebSocket frames (RFC 6455), as the server reads and writes them.
//!
//! What must hold: a frame made here is the same bytes for every socket, since a server's frames
//! are not masked. Whatever a client sends, reading it ends in a message or in a close code.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::deflate::{self, Inflate};

/// The largest message a client may send: the longest legal text, fully escaped, is 192 KiB.
pub(crate) const MESSAGE_MAX: usize = 256 << 10;

/// The message is compressed.
const RSV1: u8 = 0x40;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A whole message of text.
    Text(String),
    /// A whole message of bytes.
    Binary,
    /// Asks for a pong with the same payload.
    Ping(Vec<u8>),
    /// Answers a ping.
    Pong,
    /// Says goodbye, with a code where it gave one.
    Close(Option<u16>),
}

/// What a client did against the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A frame that RFC 6455 forbids.
    Protocol,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A message above [`MESSAGE_MAX`].
    TooBig,
}

/// Puts frames together again, out of whatever pieces the network delivers.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    /// The client may compress its messages.
    deflates: bool,
    /// The message that fragments have begun.
    message: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    opcode: u8,
    deflated: bool,
    payload: Vec<u8>,
}

struct Header {
    fin: bool,
    deflated: bool,
    opcode: u8,
    mask: [u8; 4],
    payload: std::ops::Range<usize>,
}

impl Decoder {
    /// Of a client that may compress its messages, where that was agreed.
    pub(crate) fn new(deflates: bool) -> Self {
        Self { deflates, ..Self::default() }
    }

    /// Takes what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message or control frame; `None` until more was read.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, Violation> {
        while let Some(header) = self.header()? {
            if self.buffer.len() < header.payload.end {
                return Ok(None);
            }
            let mut payload = self.buffer[header.payload.clone()].to_vec();
            for (byte, mask) in payload.iter_mut().zip(header.mask.iter().cycle()) {
                *byte ^= mask;
            }
            self.consume(header.payload.end);
            if let Some(incoming) = self.frame(&header, payload)? {
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }

    fn consume(&mut self, n: usize) {
        if n == self.buffer.len() {
            // An idle socket holds no buffer.
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..n);
        }
    }

    fn header(&self) -> Result<Option<Header>, Violation> {
        let [first, second, rest @ ..] = self.buffer.as_slice() else { return Ok(None) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        let deflated = first & RSV1 != 0;
        let may_deflate = self.deflates && matches!(opcode, TEXT | BINARY);
        let reserved = first & 0x30 != 0 || (deflated && !may_deflate);
        let masked = second & 0x80 != 0;
        if reserved || !masked {
            return Err(Violation::Protocol);
        }
        let (length, extended) = match second & 0x7F {
            126 => match rest.first_chunk::<2>() {
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        if opcode >= CLOSE && (!fin || length > 125) {
            return Err(Violation::Protocol);
        }
        let length = usize::try_from(length).map_err(|_| Violation::TooBig)?;
        let begun = self.message.as_ref().map_or(0, |begun| begun.payload.len());
        if length > MESSAGE_MAX || begun + length > MESSAGE_MAX {
            return Err(Violation::TooBig);
        }
        let Some(mask) = rest.get(extended..).and_then(<[u8]>::first_chunk::<4>) else { return Ok(None) };
        let start = 2 + extended + 4;
        Ok(Some(Header { fin, deflated, opcode, mask: *mask, payload: start..start + length }))
    }

    fn frame(&mut self, header: &Header, payload: Vec<u8>) -> Result<Option<Incoming>, Violation> {
        let Header { fin, deflated, opcode, .. } = *header;
        let begun = match (opcode, self.message.take()) {
            (PING, begun) => {
                self.message = begun;
                return Ok(Some(Incoming::Ping(payload)));
            }
            (PONG, begun) => {
                self.message = begun;
                return Ok(Some(Incoming::Pong));
            }
            (CLOSE, _) => return close_code(&payload).map(|code| Some(Incoming::Close(code))),
            (TEXT | BINARY, None) => Begun { opcode, deflated, payload },
            (CONTINUATION, Some(mut begun)) => {
                begun.payload.extend_from_slice(&payload);
                begun
            }
            _ => return Err(Violation::Protocol),
        };
        if fin {
            return begun.whole().map(Some);
        }
        self.message = Some(begun);
        Ok(None)
    }
}

impl Begun {
    fn whole(self) -> Result<Incoming, Violation> {
        let payload = if self.deflated {
            deflate::inflate(&self.payload, MESSAGE_MAX).map_err(|error| match error {
                Inflate::Corrupt => Violation::Protocol,
                Inflate::TooBig => Violation::TooBig,
            })?
        } else {
            self.payload
        };
        if self.opcode == BINARY {
            return Ok(Incoming::Binary);
        }
        String::from_utf8(payload).map(Incoming::Text).map_err(|_| Violation::NotUtf8)
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some(code) = payload.first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !allowed {
        return Err(Violation::Protocol);
    }
    match std::str::from_utf8(&payload[2..]) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(Violation::NotUtf8),
    }
}

/// The first byte says what it is; the parts need not be joined before.
fn encode(first: u8, parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = BytesMut::with_capacity(10 + length);
    frame.put_u8(0x80 | first);
    match length {
        0..=125 => frame.put_u8(u8::try_from(length).expect("at most 125")),
        126..=0xFFFF => {
            frame.put_u8(126);
            frame.put_u16(u16::try_from(length).expect("at most 65,535"));
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
    for part in parts {
        frame.put_slice(part);
    }
    frame.freeze()
}

/// A frame of text, made of parts that need not be joined before.
pub(crate) fn text(parts: &[&[u8]]) -> Bytes {
    encode(TEXT, parts)
}

/// The same frame compressed; `None` where that does not pay.
pub(crate) fn deflated(text: &Bytes) -> Option<Bytes> {
    let head = match text.get(1)? {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let message = text.get(head..).filter(|message| message.len() >= deflate::FROM)?;
    Some(encode(RSV1 | TEXT, &[&deflate::deflate(message)?]))
}

/// A ping.
pub(crate) fn ping() -> Bytes {
    encode(PING, &[])
}

/// The answer to a ping.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    encode(PONG, &[payload])
}

/// A goodbye; a reason of more than 123 bytes does not fit, and is left out.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let reason = if reason.len() <= 123 { reason.as_bytes() } else { &[] };
    encode(CLOSE, &[&code.to_be_bytes(), reason])
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).expect("short")];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn read(bytes: &[u8]) -> Result<Vec<Incoming>, Violation> {
        read_by(Decoder::default(), bytes)
    }

    fn read_by(mut decoder: Decoder, bytes: &[u8]) -> Result<Vec<Incoming>, Violation> {
        let mut all = Vec::new();
        // One byte at a time: no piece of the network may matter.
        for byte in bytes {
            decoder.push(&[*byte]);
            while let Some(incoming) = decoder.next()? {
                all.push(incoming);
            }
        }
        Ok(all)
    }

    #[test]
    fn messages_come_whole_whatever_their_fragments() {
        let bytes =
            [masked(0x01, b"he"), masked(0x89, b"now"), masked(0x80, b"llo"), masked(0x88, b"")].concat();
        let expected =
            vec![Incoming::Ping(b"now".to_vec()), Incoming::Text("hello".to_owned()), Incoming::Close(None)];
        assert_eq!(read(&bytes), Ok(expected));
    }

    #[test]
    fn what_the_protocol_forbids_is_refused() {
        let unmasked = [0x81, 0x00];
        for bad in [
            &unmasked[..],
            &masked(0xC1, b"reserved"),
            &masked(0x80, b"continues nothing"),
            &masked(0x09, b"fragmented ping"),
            &masked(0x83, b"unknown"),
            &masked(0x88, &[0x03]),
            &masked(0x88, &1005_u16.to_be_bytes()),
            &[masked(0x01, b"a"), masked(0x81, b"b")].concat(),
        ] {
            assert_eq!(read(bad), Err(Violation::Protocol), "{bad:?}");
        }
        assert_eq!(read(&masked(0x81, &[0xFF])), Err(Violation::NotUtf8));
        let huge = [0x81, 0xFF, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0, 0];
        assert_eq!(read(&huge), Err(Violation::TooBig));
    }

    #[test]
    fn a_compressed_message_is_what_it_was_where_that_was_agreed() {
        let message = deflate::deflate(&[b'x'; 200]).expect("it shrinks");
        let (first, second) = message.split_at(3);
        let pieces = [masked(0x41, first), masked(0x89, b""), masked(0x80, second)].concat();
        let expected = vec![Incoming::Ping(vec![]), Incoming::Text("x".repeat(200))];
        assert_eq!(read_by(Decoder::new(true), &pieces), Ok(expected));
        assert_eq!(read(&pieces), Err(Violation::Protocol));
        for bad in [masked(0xC9, b"ping"), masked(0xC1, &[0xFF; 3]), masked(0xE1, b"rsv2")] {
            assert_eq!(read_by(Decoder::new(true), &bad), Err(Violation::Protocol), "{bad:?}");
        }
        let bomb = deflate::deflate(&vec![b'x'; MESSAGE_MAX + 1]).expect("it shrinks");
        let frame =
            [&[0xC1, 0xFE][..], &u16::try_from(bomb.len()).expect("short").to_be_bytes(), &[0; 4], &bomb];
        assert_eq!(read_by(Decoder::new(true), &frame.concat()), Err(Violation::TooBig));
    }

    #[test]
    fn a_frame_is_compressed_where_that_pays() {
        let message = [b'x'; 2_000];
        let deflated = deflated(&text(&[&message])).expect("it pays");
        assert_eq!(deflated[0], 0xC1);
        assert_eq!(deflate::inflate(&deflated[2..], 2_000), Ok(message.to_vec()));
        assert_eq!(super::deflated(&text(&[&message[..deflate::FROM - 1]])), None);
    }

    /// Frames as a client might make them, few of them right.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let frame = (any::<bool>(), 0..16_u8, vec(any::<u8>(), 0..126));
        vec(frame, 1..5).prop_map(|frames| {
            let one =
                |(fin, opcode, payload): (bool, u8, Vec<u8>)| masked(u8::from(fin) << 7 | opcode, &payload);
            frames.into_iter().flat_map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_messages_or_a_violation(bytes in prop_oneof![vec(any::<u8>(), 0..300), frames()], at in any::<usize>(), deflates in any::<bool>()) {
            let mut decoder = Decoder::new(deflates);
            let mut whole = Vec::new();
            let (first, second) = bytes.split_at(at % (bytes.len() + 1));
            let mut read_all = |bytes: &[u8]| -> Result<(), Violation> {
                decoder.push(bytes);
                while let Some(incoming) = decoder.next()? {
                    whole.push(incoming);
                }
                Ok(())
            };
            // Where the network cuts says nothing.
            let result = read_all(first).and_then(|()| read_all(second));
            prop_assert_eq!(read_by(Decoder::new(deflates), &bytes), result.map(|()| whole));
        }

        #[test]
        fn a_text_comes_back_however_it_is_cut(text in ".{0,31}", cuts in vec(0..124_usize, 0..4)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut frames, mut from) = (Vec::new(), 0);
            for cut in cuts {
                frames.extend(masked(if frames.is_empty() { TEXT } else { CONTINUATION }, &text.as_bytes()[from..cut]));
                from = cut;
            }
            let last = 0x80 | if frames.is_empty() { TEXT } else { CONTINUATION };
            frames.extend(masked(last, &text.as_bytes()[from..]));
            prop_assert_eq!(read(&frames), Ok(vec![Incoming::Text(text)]));
        }
    }

    #[test]
    fn lengths_are_written_in_their_three_forms() {
        assert_eq!(text(&[b"ab", b"c"])[..2], [0x81, 3]);
        assert_eq!(text(&[&[b'x'; 126]])[..4], [0x81, 126, 0, 126]);
        assert_eq!(text(&[&[b'x'; 65_536]])[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(close(1000, "bye"), Bytes::from_static(b"\x88\x05\x03\xe8bye"));
    }
}
