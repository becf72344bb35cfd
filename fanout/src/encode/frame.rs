//! Reads and writes WebSocket frames (RFC 6455).
//!
//! What must hold: an encoded frame has the same bytes for every socket, since servers do not mask frames. Whatever
//! bytes a client sends, decoding them gives messages or a [`Violation`].

use bytes::{BufMut as _, Bytes, BytesMut};

use super::deflate::{self, InflateError};

/// Maximum bytes of a client's message. The longest valid text, with all characters escaped, takes 192 KiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// The bit that marks a message as compressed.
const RSV1: u8 = 0x40;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// A message or control frame from a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A whole text message.
    Text(String),
    /// A whole binary message. Sessions refuse all of them; only the echo server of a test reads the payload.
    Binary(Vec<u8>),
    /// A ping, which asks for a pong with the same payload.
    Ping(Vec<u8>),
    /// A pong, which answers a ping.
    Pong,
    /// A close frame, with its code if it has one.
    Close(Option<u16>),
}

/// How a client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A frame that RFC 6455 forbids.
    Protocol,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A message above the decoder's limit, which is [`MESSAGE_BYTES_MAX`] for sessions.
    TooBig,
}

/// Decodes messages of at most `MAX` bytes from frames that arrive in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Decoder<const MAX: usize = MESSAGE_BYTES_MAX> {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that are decoded already. They are dropped together, at the next `push`.
    consumed: usize,
    /// Whether compression was negotiated, so that messages may be compressed.
    deflates: bool,
    /// The message whose first fragments have arrived.
    message: Option<PartialMessage>,
}

#[derive(Debug)]
struct PartialMessage {
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

impl<const MAX: usize> Decoder<MAX> {
    /// Creates a decoder; `deflates` says whether compression was negotiated.
    pub(crate) fn new(deflates: bool) -> Self {
        Self { deflates, ..Self::default() }
    }

    /// Adds bytes that were read from the socket.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..std::mem::take(&mut self.consumed));
        self.buffer.extend_from_slice(bytes);
    }

    /// Decodes the next message or control frame; `None` if its bytes have not all arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, Violation> {
        while let Some(header) = self.header()? {
            let Some(payload) = self.rest().get(header.payload.clone()) else { return Ok(None) };
            let mut payload = payload.to_vec();
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

    /// The bytes that are not decoded yet.
    fn rest(&self) -> &[u8] {
        &self.buffer[self.consumed..]
    }

    fn consume(&mut self, n: usize) {
        self.consumed += n;
        if self.consumed == self.buffer.len() {
            // Frees the buffer: an idle socket holds none.
            (self.buffer, self.consumed) = (Vec::new(), 0);
        }
    }

    fn header(&self) -> Result<Option<Header>, Violation> {
        let [first, second, rest @ ..] = self.rest() else { return Ok(None) };
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
        if length > MAX || begun + length > MAX {
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
            (TEXT | BINARY, None) => PartialMessage { opcode, deflated, payload },
            (CONTINUATION, Some(mut begun)) => {
                begun.payload.extend_from_slice(&payload);
                begun
            }
            _ => return Err(Violation::Protocol),
        };
        if fin {
            return begun.finish(MAX).map(Some);
        }
        self.message = Some(begun);
        Ok(None)
    }
}

impl PartialMessage {
    fn finish(self, at_most: usize) -> Result<Incoming, Violation> {
        let payload = if self.deflated {
            deflate::inflate(&self.payload, at_most).map_err(|error| match error {
                InflateError::Corrupt => Violation::Protocol,
                InflateError::TooBig => Violation::TooBig,
            })?
        } else {
            self.payload
        };
        if self.opcode == BINARY {
            return Ok(Incoming::Binary(payload));
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

/// Encodes an unfragmented frame. `first` is its first byte without the FIN bit; the payload is `parts`, concatenated.
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

/// Encodes a binary message.
#[cfg(feature = "echo")]
pub(crate) fn binary(payload: &[u8]) -> Bytes {
    encode(BINARY, &[payload])
}

/// Encodes a text message from its parts.
pub(crate) fn text(parts: &[&[u8]]) -> Bytes {
    encode(TEXT, parts)
}

/// Compresses the frame of a text message; `None` if it has fewer than [`deflate::COMPRESS_FROM_BYTES`], or would not
/// become shorter.
pub(crate) fn deflated(text: &Bytes) -> Option<Bytes> {
    let head = match text.get(1)? {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let message = text.get(head..).filter(|message| message.len() >= deflate::COMPRESS_FROM_BYTES)?;
    Some(encode(RSV1 | TEXT, &[&deflate::deflate(message)?]))
}

/// Encodes a ping.
pub(crate) fn ping() -> Bytes {
    encode(PING, &[])
}

/// Encodes the answer to a ping with this payload.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    encode(PONG, &[payload])
}

/// Encodes a close frame. A reason of more than 123 bytes does not fit, and is left out.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let reason = if reason.len() <= 123 { reason.as_bytes() } else { &[] };
    encode(CLOSE, &[&code.to_be_bytes(), reason])
}

#[cfg(test)]
mod tests;
