//! Exposes the decoders of client input to `tests/fuzz`; built by cargo-fuzz only.

use bytes::Bytes;

use crate::{dialects, pictures};

/// Decodes bodies and frames of each dialect that uses JSON.
pub fn json(bytes: &[u8]) {
    dialects::native::read_any(bytes);
    dialects::match_rooms::socket::read_any(bytes);
    dialects::direct::read_any(bytes);
    dialects::support::read_any(bytes);
}

/// Decodes a topic's body; the first byte selects the media type.
pub fn body(bytes: &[u8]) {
    const KINDS: [&str; 3] =
        ["multipart/form-data; boundary=line", "application/x-www-form-urlencoded", "application/json"];
    if let Some((kind, body)) = bytes.split_first() {
        dialects::topics::read_any(KINDS[usize::from(*kind) % KINDS.len()], Bytes::copy_from_slice(body));
    }
}

/// Decodes a picture.
pub fn picture(bytes: &[u8]) {
    let _ = pictures::decode(bytes);
}
