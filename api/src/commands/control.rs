//! Control writes: the one or more events of a request that changes rooms, teams or who may enter.
//!
//! What must hold: they are refused while the persister is behind; all events of a request are named
//! after its first, so that the same request again completes what was begun, and is answered alike.

use std::collections::BTreeMap;

use serde_json::Value;
use shared::{
    error::{Error, ErrorCode},
    event::{Event, EventName, header},
    id::{Shard, UserId},
    log::{Append, Appended, MsgId},
    rules::Caller,
    subject::Channel,
};
use tokio::time::Instant;

use super::{key, stored};
use crate::state::{APPEND, APPLY, Shared};

/// The keys whose values differ between two tries of one request.
const MOMENTS: [&str; 4] = ["created_at", "activity", "updated_at", "issued_at"];

/// The writes of one request.
pub(crate) struct Control<'a> {
    api: &'a Shared,
    id: MsgId,
    appended: u64,
    deadline: Instant,
    /// The last event of each shard.
    last: BTreeMap<Shard, u64>,
}

impl<'a> Control<'a> {
    /// A request named by its first event and the caller's key, or by nothing that comes again.
    pub(crate) fn new(
        api: &'a Shared,
        user: &UserId,
        channel: &Channel,
        first: EventName,
        idempotency_key: Option<&str>,
    ) -> Self {
        let id = MsgId::new(user, channel, first, &key(idempotency_key));
        Self { api, id, appended: 0, deadline: Instant::now() + APPEND, last: BTreeMap::new() }
    }

    /// Appends the next event of the request. Answers what is stored: the event itself, or the one of an
    /// earlier try.
    pub(crate) async fn append(&mut self, channel: &Channel, event: Event) -> Result<(u64, Event), Error> {
        let id = if self.appended == 0 { self.id } else { self.id.derived(self.appended) };
        self.append_as(channel, event, id).await
    }

    /// The same for an event that has a name of its own.
    pub(super) async fn append_as(
        &mut self,
        channel: &Channel,
        event: Event,
        id: MsgId,
    ) -> Result<(u64, Event), Error> {
        let shard = channel.shard(self.api.shards);
        if self.appended == 0 {
            // What was begun is completed: only the first is refused.
            self.api.behind.refuse(&self.api.applied, shard)?;
        }
        self.appended += 1;
        let appended = self.api.append(Append::new(channel, &event, id), self.deadline).await?;
        self.note(appended);
        if !appended.duplicate {
            return Ok((appended.seq, event));
        }
        let earlier = stored(&self.api.jetstream, shard, appended.seq, EventName::ALL).await?;
        let subject = channel.chat(self.api.shards, event.name(), None);
        match earlier {
            Some((stored, earlier)) if stored.subject == subject && is_same(&earlier, &event) => {
                Ok((appended.seq, earlier))
            }
            Some(_) => Err(key_reused()),
            None => {
                Err(Error::new(ErrorCode::OutcomeUnknown, "It was stored before, and can't be read now."))
            }
        }
    }

    /// The name of the request's first event.
    pub(super) const fn id(&self) -> MsgId {
        self.id
    }

    /// Appends the first event of the request as the next of its key, if the key's last event is still the
    /// `expected` one: see [`super::unique`].
    pub(super) async fn append_keyed(
        &mut self,
        channel: &Channel,
        event: &Event,
        key: &str,
        generation: u32,
        expected: u64,
        until: Instant,
    ) -> Result<Appended, Error> {
        self.api.behind.refuse(&self.api.applied, channel.shard(self.api.shards))?;
        let append = Append {
            key: Some(key),
            expected: Some(expected),
            headers: vec![(header::GENERATION, generation.to_string())],
            ..Append::new(channel, event, self.id)
        };
        let appended = self.api.append(append, self.deadline.min(until)).await?;
        self.appended = 1;
        self.note(appended);
        Ok(appended)
    }

    /// Something else was appended for the request.
    pub(crate) fn note(&mut self, appended: Appended) {
        let last = self.last.entry(appended.shard).or_default();
        *last = (*last).max(appended.seq);
    }

    /// Waits until Postgres has all of it; false where it has not, a second later.
    pub(crate) async fn applied(self) -> bool {
        let until = Instant::now() + APPLY;
        for (shard, seq) in self.last {
            let left = until.saturating_duration_since(Instant::now());
            if !self.api.applied.wait(shard, seq, left).await {
                return false;
            }
        }
        true
    }
}

/// A request of one event. Answers its sequence and what is stored, and whether Postgres has it.
pub(super) async fn write(
    api: &Shared,
    caller: &Caller,
    channel: &Channel,
    event: Event,
    idempotency_key: Option<&str>,
) -> Result<((u64, Event), bool), Error> {
    let mut control = Control::new(api, &caller.user, channel, event.name(), idempotency_key);
    let stored = control.append(channel, event).await?;
    Ok((stored, control.applied().await))
}

/// The caller's key names another request already.
pub(super) fn key_reused() -> Error {
    Error::new(ErrorCode::KeyReused, "This Idempotency-Key was used before, for something else.")
}

/// Whether two events say the same, but for when.
pub(super) fn is_same(one: &Event, other: &Event) -> bool {
    let timeless = |event: &Event| {
        let mut value: Value = serde_json::from_slice(&event.encode()).unwrap_or_default();
        if let Value::Object(fields) = &mut value {
            for moment in MOMENTS {
                fields.remove(moment);
            }
        }
        value
    };
    one.name() == other.name() && timeless(one) == timeless(other)
}
