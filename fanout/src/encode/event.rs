//! Defines the event from which frames are encoded.

use async_nats::HeaderMap;

/// A stored event, received live or read from the log.
#[derive(Clone, Copy)]
pub(crate) struct LiveEvent<'a> {
    pub(crate) name: &'a str,
    pub(crate) seq: u64,
    pub(crate) headers: Option<&'a HeaderMap>,
    pub(crate) payload: &'a [u8],
}
