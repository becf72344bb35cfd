//! Writes the events of a request that changes rooms, teams or members, so that a repeated request is harmless.
//!
//! What must hold: the first event is refused while the persister lags behind. The message ids of all events of a
//! request derive from the first, so that a repeated request completes what an earlier attempt began, and gets the
//! same answer.

use std::collections::BTreeMap;

use crate::append::{AppendRequest, LogPosition, MsgId};
use protocol::{
    caller::Caller,
    error::Error,
    event::{Event, EventName, header},
    id::{Shard, UserId},
    subject::Channel,
};
use tokio::time::Instant;

use super::{
    log_write::{self, WriteRequest, WrittenEvent},
    request_context::RequestContext,
    request_key,
};
use crate::{commands::state::CommandState, database::APPLIED_TIMEOUT};

/// The events that one request appends, in order.
pub(crate) struct IdempotentWrite<'a> {
    api: &'a CommandState,
    request: &'a RequestContext<'a>,
    first_id: MsgId,
    appended_count: u64,
    /// By shard: the sequence of the last event of the request.
    last_seq_by_shard: BTreeMap<Shard, u64>,
}

impl<'a> IdempotentWrite<'a> {
    /// Starts a request without events yet; its message ids derive from user, channel, first event and the caller's
    /// key.
    pub(crate) fn new(
        api: &'a CommandState,
        user: &UserId,
        channel: &Channel,
        first: EventName,
        request: &'a RequestContext<'a>,
    ) -> Self {
        let id = MsgId::new(user, channel, first, &request_key(request.idempotency_key));
        Self { api, request, first_id: id, appended_count: 0, last_seq_by_shard: BTreeMap::new() }
    }

    /// Appends the next event of the request. Returns the stored event: this one, or that of an earlier attempt.
    pub(crate) async fn append(&mut self, channel: &Channel, event: Event) -> Result<WrittenEvent, Error> {
        let id =
            if self.appended_count == 0 { self.first_id } else { self.first_id.derived(self.appended_count) };
        self.append_with_id(channel, event, id).await
    }

    /// Appends an event under a message id that the caller chooses.
    pub(super) async fn append_with_id(
        &mut self,
        channel: &Channel,
        event: Event,
        id: MsgId,
    ) -> Result<WrittenEvent, Error> {
        if self.appended_count == 0 {
            // Only the first event is refused: a request that has begun is completed.
            self.api.persister_lag.check(&self.api.log.applied, channel.shard(self.api.shards))?;
        }
        self.appended_count += 1;
        let headers = self.request.event_headers();
        let written =
            log_write::append(self.api, self.request, WriteRequest { channel, event, id, headers }).await?;
        self.note_appended(written.position);
        // The node applies its own decision at once, before it receives the event from the log.
        self.api.access.note_control_event(channel, &written.event, written.position.seq);
        Ok(written)
    }

    /// Returns the message id of the request's first event.
    pub(super) const fn first_id(&self) -> MsgId {
        self.first_id
    }

    /// Appends the request's first event as the next generation of a unique key, if the sequence of the key's last
    /// event is still `expected`; see [`super::unique_rooms`]. Returns its position, and the stored event if an
    /// earlier attempt stored it.
    pub(super) async fn append_unique(
        &mut self,
        channel: &Channel,
        event: &Event,
        key: &str,
        generation: u32,
        expected: u64,
        until: Instant,
    ) -> Result<(LogPosition, Option<Event>), Error> {
        self.api.persister_lag.check(&self.api.log.applied, channel.shard(self.api.shards))?;
        let append = AppendRequest {
            key: Some(key),
            expected: Some(expected),
            headers: vec![(header::GENERATION, generation.to_string())],
            ..AppendRequest::new(channel, event, self.first_id)
        };
        let (position, earlier) =
            log_write::append_until_acknowledged(self.api, self.request, append, until).await?;
        self.appended_count = 1;
        self.note_appended(position);
        Ok((position, earlier))
    }

    /// Records that an earlier attempt has stored the request's first event.
    pub(super) fn note_found(&mut self) {
        self.request.progress.note_stored();
        self.appended_count = self.appended_count.max(1);
    }

    /// Records an event that [`Self::wait_until_applied`] must wait for, whichever attempt stored it.
    pub(crate) fn note_appended(&mut self, position: LogPosition) {
        let last = self.last_seq_by_shard.entry(position.shard).or_default();
        *last = (*last).max(position.seq);
    }

    /// Waits up to one second until Postgres has all events of the request; false if it still lacks one.
    pub(crate) async fn wait_until_applied(self) -> bool {
        let until = Instant::now() + APPLIED_TIMEOUT;
        for (shard, seq) in self.last_seq_by_shard {
            let remaining = until.saturating_duration_since(Instant::now());
            if !self.api.log.applied.wait(shard, seq, remaining).await {
                return false;
            }
        }
        true
    }
}

/// Writes a request of one event. Returns the stored event, and whether Postgres has it.
pub(super) async fn write_one(
    api: &CommandState,
    caller: &Caller,
    channel: &Channel,
    event: Event,
    request: &RequestContext<'_>,
) -> Result<(WrittenEvent, bool), Error> {
    let mut write = IdempotentWrite::new(api, &caller.user, channel, event.name(), request);
    let written = write.append(channel, event).await?;
    Ok((written, write.wait_until_applied().await))
}
