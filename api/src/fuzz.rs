//! Doors to what reads clients' bytes, for `tests/fuzz`: cargo-fuzz alone builds them.

use bytes::Bytes;

use crate::{dialects, pictures};

/// Bodies and frames of each dialect that speaks JSON.
pub fn json(bytes: &[u8]) {
    dialects::native::read_any(bytes);
    dialects::match_rooms::socket::read_any(bytes);
    dialects::direct::read_any(bytes);
    dialects::support::read_any(bytes);
}

/// A topic's body: of the type that its first byte says.
pub fn body(bytes: &[u8]) {
    const KINDS: [&str; 3] =
        ["multipart/form-data; boundary=line", "application/x-www-form-urlencoded", "application/json"];
    if let Some((kind, body)) = bytes.split_first() {
        dialects::topics::read_any(KINDS[usize::from(*kind) % KINDS.len()], Bytes::copy_from_slice(body));
    }
}

/// A picture.
pub fn picture(bytes: &[u8]) {
    let _ = pictures::decode(bytes);
}
