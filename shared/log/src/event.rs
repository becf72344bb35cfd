//! Reads single events of the log, decoded.

use async_nats::jetstream::Context;
use protocol::{
    error::Error,
    event::{Event, EventName},
    id::Shard,
    subject,
};

use crate::StoredEvent;

/// Reads the event of this sequence from the leader, and decodes it. Returns `None` if there is none, if its name is
/// not among `names`, or if it can't be decoded.
///
/// # Errors
/// When the leader does not answer.
pub async fn get_event(
    jetstream: &Context,
    shard: Shard,
    seq: u64,
    names: &[EventName],
) -> Result<Option<(StoredEvent, Event)>, Error> {
    let stored = crate::get(jetstream, shard, seq).await.map_err(|e| Error::unavailable("The log", &e))?;
    let Some(stored) = stored else { return Ok(None) };
    let name = subject::parse(&stored.subject).ok().and_then(|parsed| EventName::parse(parsed.event));
    let Some(name) = name.filter(|name| names.contains(name)) else { return Ok(None) };
    match Event::decode(name, &stored.payload) {
        Ok(event) => Ok(Some((stored, event))),
        Err(_) => Ok(None),
    }
}
