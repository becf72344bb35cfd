//! Holds the event that frames are made of.

use async_nats::HeaderMap;

/// A stored event, as it came live or as it was read from the log.
#[derive(Clone, Copy)]
pub(crate) struct LiveEvent<'a> {
    pub(crate) name: &'a str,
    pub(crate) seq: u64,
    pub(crate) headers: Option<&'a HeaderMap>,
    pub(crate) payload: &'a [u8],
}
