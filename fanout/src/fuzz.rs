//! Doors to what reads clients' bytes, for `tests/fuzz`: cargo-fuzz alone builds them.

use crate::{encode::frame, session};

/// WebSocket frames, in pieces of as many bytes as the first says.
pub fn frames(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    // The highest bit: whether compression was agreed.
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

/// The text of a frame.
pub fn text(text: &str) {
    session::check_any_text(text);
}
