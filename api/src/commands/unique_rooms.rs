//! Creates rooms that exist once for each key, such as a pair of people or a title.
//!
//! The key is the last token of the subject of the room's creation, so that the broker can compare and set: an append
//! names the sequence of the subject's last event that was read. What must hold: of all requests that create a room
//! of one key at once, on any nodes, exactly one creates it, and each gets that room. After the room is closed,
//! exactly one creates the next generation. The log is read before Postgres, so that a creation that is trimmed in
//! between is found in Postgres; and an append relies on what was read for a far shorter time than events stay in the
//! log.

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
use crate::{commands::state::CommandState, queries::rooms};

/// Maximum time for which an append relies on the last event that was read.
const LATEST_KNOWN_FOR: Duration = Duration::from_secs(5);

/// Returns the key of a room that is unique by these parts together: 128 bits of SHA-256, in hexadecimal digits.
pub(super) fn unique_key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Their lengths keep "a", "bc" and "ab", "c" apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The open room of a key.
pub(super) struct UniqueRoom {
    pub(super) room: RoomId,
    /// The room as it was created, if the log still has its creation.
    pub(super) new_room: Option<RoomEvent>,
    /// Whether this request created it, now or by an earlier attempt.
    pub(super) is_new: bool,
    /// Whether Postgres has it.
    pub(super) is_applied: bool,
}

/// The latest room of a key, open or closed.
struct LatestRoom {
    room: RoomId,
    generation: u32,
    /// The room's creation, if the log still has it.
    creation: Option<RoomCreation>,
}

/// The stored creation of a room.
struct RoomCreation {
    event: Event,
    /// The message id of the append; `None` if it was not read from the log.
    msg_id: Option<String>,
}

impl LatestRoom {
    /// Decodes a stored creation.
    fn from_stored(stored: &StoredEvent) -> Result<Self, Error> {
        let generation = stored.headers.get_last(header::GENERATION);
        let generation = generation.and_then(|value| value.as_str().parse().ok());
        match (generation, log_write::decode_stored(stored)) {
            (Some(generation), Some(event)) => {
                let msg_id = stored.headers.get_last(NATS_MESSAGE_ID).map(|id| id.as_str().to_owned());
                let creation = Some(RoomCreation { event, msg_id });
                Ok(Self { room: RoomId(stored.seq), generation, creation })
            }
            _ => {
                Err(Error::internal(&format!("{} does not hold a valid creation of a room", stored.subject)))
            }
        }
    }

    /// Returns whether an earlier attempt of this request created the room; fails if the caller used the key for
    /// another request.
    fn was_created_by(&self, write: &IdempotentWrite<'_>, event: &Event) -> Result<bool, Error> {
        let Some(creation) = &self.creation else { return Ok(false) };
        if creation.msg_id.as_ref().is_none_or(|id| *id != write.first_id().to_string()) {
            return Ok(false);
        }
        if is_same_request(&creation.event, event) { Ok(true) } else { Err(key_reused_error(event.name())) }
    }

    /// The sequence of the creation; 0 if it has left the log.
    fn log_seq(&self) -> u64 {
        if self.creation.is_some() { self.room.0 } else { 0 }
    }
}

/// Returns the open room of a key; creates it from `event` if there is none.
pub(super) async fn get_or_create(
    api: &CommandState,
    write: IdempotentWrite<'_>,
    key: &str,
    event: Event,
) -> Result<UniqueRoom, Error> {
    get_or_create_if(api, write, key, event, || Ok(())).await
}

/// Like [`get_or_create`], but calls `may_make` once before it first tries to create the room; an error ends the
/// request.
pub(super) async fn get_or_create_if(
    api: &CommandState,
    mut write: IdempotentWrite<'_>,
    key: &str,
    event: Event,
    may_make: impl FnOnce() -> Result<(), Error>,
) -> Result<UniqueRoom, Error> {
    let (last, is_new) = find_or_create(api, &mut write, key, event, may_make).await?;
    if last.creation.is_some() {
        write.note_appended(LogPosition { shard: Shard::SYSTEM, seq: last.log_seq() });
    }
    let applied = write.wait_until_applied().await;
    let created = last.creation.and_then(|creation| match creation.event {
        Event::Chatroom(created) | Event::RoomMade(created) => Some(created),
        _ => None,
    });
    let mut holder = UniqueRoom { room: last.room, new_room: created, is_new, is_applied: applied };
    if applied {
        // Postgres decides: the persister leaves out a second creation of one key and generation.
        let row = rooms::find_by_key(&api.pool, key, Some(last.generation)).await?;
        let (room, _) = row.ok_or_else(|| {
            Error::internal(&"the room of a key is missing although its creation is applied")
        })?;
        holder.is_new &= room == holder.room;
        holder.room = room;
    }
    Ok(holder)
}

async fn find_or_create(
    api: &CommandState,
    write: &mut IdempotentWrite<'_>,
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
            Some(last) if last.was_created_by(write, &event)? => {
                write.note_found();
                return Ok((last, true));
            }
            Some(last) if !is_closed(api, last.room).await? => return Ok((last, false)),
            Some(last) => (last.log_seq(), last.generation + 1),
        };
        if let Some(may_make) = may_make.take() {
            may_make()?;
        }
        let tried = write.append_unique(&Channel::System, &event, key, generation, expected, until).await;
        match tried {
            // The event stored under this message id may be of another generation: read it.
            Ok((position, Some(_))) => return created_before(api, position).await,
            Ok((position, None)) => {
                let creation = Some(RoomCreation { event, msg_id: None });
                return Ok((LatestRoom { room: RoomId(position.seq), generation, creation }, true));
            }
            // Another request was faster; or it was an earlier attempt of this one: brokers since 2.12 check the
            // expected sequence before the message id.
            Err(error) if error.code == ErrorCode::Conflict => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads the room that an earlier attempt of this request created.
async fn created_before(api: &CommandState, position: LogPosition) -> Result<(LatestRoom, bool), Error> {
    let stored = log::get(&api.log.jetstream, position.shard, position.seq).await;
    let stored = stored.map_err(|error| Error::unavailable("The log", &error))?;
    let stored = stored
        .ok_or_else(|| Error::new(ErrorCode::OutcomeUnknown, "It was stored, and can't be read now."))?;
    Ok((LatestRoom::from_stored(&stored)?, true))
}

async fn find_latest(api: &CommandState, subject: &str, key: &str) -> Result<Option<LatestRoom>, Error> {
    let last = log::last(&api.log.jetstream, subject).await.map_err(|e| Error::unavailable("The log", &e))?;
    if let Some(stored) = last {
        return LatestRoom::from_stored(&stored).map(Some);
    }
    let row = rooms::find_by_key(&api.pool, key, None).await?;
    Ok(row.map(|(room, generation)| LatestRoom { room, generation, creation: None }))
}

/// Returns whether a room is closed, counting every acknowledged closing.
async fn is_closed(api: &CommandState, room: RoomId) -> Result<bool, Error> {
    let subject = Channel::Room(room).log_subject(api.shards, EventName::RoomUpdate, None);
    let last =
        log::last(&api.log.jetstream, &subject).await.map_err(|e| Error::unavailable("The log", &e))?;
    if let Some(last) = last
        && !api.wait_until_applied(last.shard, last.seq).await
    {
        return Err(Error::unavailable("The room", &"the last update of the room is not applied yet"));
    }
    Ok(api.access.load(room, &[], Instant::now()).await?.room.is_closed)
}
