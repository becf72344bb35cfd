//! Makes rooms of which there is one for each key, such as a pair or a title.
//!
//! The key is the last token of the creation's subject, so the broker can compare: an append counts on
//! the key's last event that was seen. What must hold: of all who make a room of one key at once, on
//! whatever nodes, one makes it, and each is given that one; after it was closed, one makes the next
//! generation. The log is asked before Postgres, by which what has left the log since is found; and an
//! append counts on what was seen for a far shorter time than anything stays in the log.

use std::time::Duration;

use crate::append::LogPosition;
use async_nats::header::NATS_MESSAGE_ID;
use log::StoredEvent;
use protocol::{
    error::{Error, ErrorCode},
    event::{Event, EventName, Room as RoomEvent, header},
    id::{RoomId, Shard},
    subject::Channel,
};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    idempotent_write::IdempotentWrite,
    log_write::{self, is_same_request, key_reused_error},
};
use crate::{commands::state::ApiState, queries::rooms};

/// How long what was seen may be counted on.
const LATEST_KNOWN_FOR: Duration = Duration::from_secs(5);

/// The key of what is unique by these parts together.
pub(super) fn unique_key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Their lengths keep "a", "bc" and "ab", "c" apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who holds a key.
pub(super) struct UniqueRoom {
    pub(super) room: RoomId,
    /// As it was made, where the log has that still.
    pub(super) new_room: Option<RoomEvent>,
    /// This request made it.
    pub(super) is_new: bool,
    /// Whether Postgres has it.
    pub(super) is_applied: bool,
}

/// The last room of a key, as it was found.
struct LatestRoom {
    room: RoomId,
    generation: u32,
    /// Its creation, where the log has that still.
    creation: Option<RoomCreation>,
}

/// How a room was made.
struct RoomCreation {
    event: Event,
    /// Names the request that made it.
    msg_id: Option<String>,
}

impl LatestRoom {
    /// Reads a creation.
    fn from_stored(stored: &StoredEvent) -> Result<Self, Error> {
        let generation = stored.headers.get_last(header::GENERATION);
        let generation = generation.and_then(|value| value.as_str().parse().ok());
        match (generation, log_write::decode_stored(stored)) {
            (Some(generation), Some(event)) => {
                let msg_id = stored.headers.get_last(NATS_MESSAGE_ID).map(|id| id.as_str().to_owned());
                let creation = Some(RoomCreation { event, msg_id });
                Ok(Self { room: RoomId(stored.seq), generation, creation })
            }
            _ => Err(Error::internal(&format!("{} is no creation of a room", stored.subject))),
        }
    }

    /// Whether this request made it: as an earlier try, or under the same key of the caller's.
    fn was_created_by(&self, control: &IdempotentWrite<'_>, event: &Event) -> Result<bool, Error> {
        let Some(creation) = &self.creation else { return Ok(false) };
        if creation.msg_id.as_ref().is_none_or(|id| *id != control.first_id().to_string()) {
            return Ok(false);
        }
        if is_same_request(&creation.event, event) { Ok(true) } else { Err(key_reused_error(event.name())) }
    }

    /// Its place in the log; 0 where it has left that.
    fn log_seq(&self) -> u64 {
        if self.creation.is_some() { self.room.0 } else { 0 }
    }
}

/// The room of a key, made by `event` where there is none that is open.
pub(super) async fn get_or_create(
    api: &ApiState,
    control: IdempotentWrite<'_>,
    key: &str,
    event: Event,
) -> Result<UniqueRoom, Error> {
    get_or_create_if(api, control, key, event, || Ok(())).await
}

/// The same; before one is made, `may_make` is asked once.
pub(super) async fn get_or_create_if(
    api: &ApiState,
    mut control: IdempotentWrite<'_>,
    key: &str,
    event: Event,
    may_make: impl FnOnce() -> Result<(), Error>,
) -> Result<UniqueRoom, Error> {
    let (last, is_new) = find_or_create(api, &mut control, key, event, may_make).await?;
    if last.creation.is_some() {
        control.note_appended(LogPosition { shard: Shard::SYSTEM, seq: last.log_seq() });
    }
    let applied = control.wait_until_applied().await;
    let made = last.creation.and_then(|creation| match creation.event {
        Event::Chatroom(made) | Event::RoomMade(made) => Some(made),
        _ => None,
    });
    let mut holder = UniqueRoom { room: last.room, new_room: made, is_new, is_applied: applied };
    if applied {
        // The row has the last word.
        let row = rooms::find_by_key(&api.pool, key, Some(last.generation)).await?;
        let (room, _) = row.ok_or_else(|| Error::internal(&"a room of a key was not made"))?;
        holder.is_new &= room == holder.room;
        holder.room = room;
    }
    Ok(holder)
}

async fn find_or_create(
    api: &ApiState,
    control: &mut IdempotentWrite<'_>,
    key: &str,
    event: Event,
    may_make: impl FnOnce() -> Result<(), Error>,
) -> Result<(LatestRoom, bool), Error> {
    let mut may_make = Some(may_make);
    let subject = Channel::System.log_subject(api.shards, event.name(), Some(key));
    loop {
        let until = Instant::now() + LATEST_KNOWN_FOR;
        let last = find_latest(api, &subject, key).await?;
        let (expected, generation) = match last {
            None => (0, 0),
            Some(last) if last.was_created_by(control, &event)? => {
                control.note_found();
                return Ok((last, true));
            }
            Some(last) if !is_closed(api, last.room).await? => return Ok((last, false)),
            Some(last) => (last.log_seq(), last.generation + 1),
        };
        if let Some(may_make) = may_make.take() {
            may_make()?;
        }
        let tried = control.append_unique(&Channel::System, &event, key, generation, expected, until).await;
        match tried {
            // An earlier event of the same name may be of another generation: it says so itself.
            Ok((position, Some(_))) => return created_before(api, position).await,
            Ok((position, None)) => {
                let creation = Some(RoomCreation { event, msg_id: None });
                return Ok((LatestRoom { room: RoomId(position.seq), generation, creation }, true));
            }
            // Somebody was faster; or it was an earlier try of our own, which brokers since 2.12 refuse
            // for the sequence before they look at the name.
            Err(error) if error.code == ErrorCode::Conflict => {}
            Err(error) => return Err(error),
        }
    }
}

/// The room that the same request made before.
async fn created_before(api: &ApiState, position: LogPosition) -> Result<(LatestRoom, bool), Error> {
    let stored = log::get(&api.jetstream, position.shard, position.seq).await;
    let stored = stored.map_err(|error| Error::unavailable("The log", &error))?;
    let stored = stored
        .ok_or_else(|| Error::new(ErrorCode::OutcomeUnknown, "It was stored, and can't be read now."))?;
    Ok((LatestRoom::from_stored(&stored)?, true))
}

async fn find_latest(api: &ApiState, subject: &str, key: &str) -> Result<Option<LatestRoom>, Error> {
    let last = log::last(&api.jetstream, subject).await.map_err(|e| Error::unavailable("The log", &e))?;
    if let Some(stored) = last {
        return LatestRoom::from_stored(&stored).map(Some);
    }
    let row = rooms::find_by_key(&api.pool, key, None).await?;
    Ok(row.map(|(room, generation)| LatestRoom { room, generation, creation: None }))
}

/// Whether a room is closed; no close that was acknowledged is missed.
async fn is_closed(api: &ApiState, room: RoomId) -> Result<bool, Error> {
    let subject = Channel::Room(room).log_subject(api.shards, EventName::RoomUpdate, None);
    let last = log::last(&api.jetstream, &subject).await.map_err(|e| Error::unavailable("The log", &e))?;
    if let Some(last) = last
        && !api.wait_until_applied(last.shard, last.seq).await
    {
        return Err(Error::unavailable("The room", &"what became of it is not applied yet"));
    }
    Ok(api.access.load(room, &[], Instant::now()).await?.room.is_closed)
}
