//! Gives `tests/fuzz` access to the code that parses clients' bytes. Only cargo-fuzz compiles this module.

use crate::{encode::frame, session};

/// Decodes WebSocket frames. The low 7 bits of the first byte are the size of the pieces in which the rest is read.
pub fn frames(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    // The highest bit of the first byte says whether compression was negotiated.
    let mut decoder = frame::Decoder::<{ frame::MESSAGE_BYTES_MAX }>::new(size & 0x80 != 0);
    for piece in bytes.chunks(usize::from(size & 0x7F).max(1)) {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// Parses the payload of a text frame.
pub fn text(text: &str) {
    session::check_any_text(text);
}
