//! Finds out from the log and from Postgres whether a message exists or was deleted.
//!
//! What must hold: every deletion acknowledged before the call counts, on any node, even if Postgres has not applied
//! it yet.

use protocol::{
    error::Error,
    event::{Event, EventName},
    id::{MessageId, RoomId, UserId},
    subject::Channel,
};
use tokio::time::Instant;

use super::log_write;
use crate::{commands::state::CommandState, queries::messages};

/// Maximum deletions of a room read from the log for one message, one request each. If Postgres lacks more, it is
/// waited for.
const DELETIONS_READ_MAX: usize = 100;

/// Requires that a message of that id was sent to the room, deleted or not; answers 404 if not.
pub(super) async fn require_exists(api: &CommandState, room: RoomId, id: MessageId) -> Result<(), Error> {
    let channel = Channel::Room(room);
    let shard = channel.shard(api.shards);
    let stored =
        log::get(&api.log.jetstream, shard, id.0).await.map_err(|e| Error::unavailable("The log", &e))?;
    let subject = channel.log_subject(api.shards, EventName::ChatMessage, None);
    if stored.is_some_and(|stored| stored.subject == subject)
        || messages::exists(&api.pool, shard, room, id).await?
    {
        return Ok(());
    }
    Err(Error::not_found())
}

/// The state of a message that was sent.
pub(super) enum MessageState {
    /// It exists.
    Present { author: UserId },
    /// The message was deleted; the sequence is that of the deletion's event.
    Deleted { by: u64 },
}

/// Returns the sequence of the last deletion in a room that the log still has; 0 if it has none.
///
/// The log is trimmed from its start, and a deletion is later than its message: if the log still has the message, it
/// still has the deletion.
pub(super) async fn last_deletion_seq(api: &CommandState, room: RoomId) -> Result<u64, Error> {
    let subject = Channel::Room(room).log_subject(api.shards, EventName::MessageDelete, None);
    let last = log::last(&api.log.jetstream, &subject).await;
    Ok(last.map_err(|error| Error::unavailable("The log", &error))?.map_or(0, |last| last.seq))
}

/// Finds the state of a message, given the result of [`last_deletion_seq`].
///
/// # Errors
/// Fails if the room has no such message, or if its state is not known by the deadline.
pub(super) async fn message_state(
    api: &CommandState,
    room: RoomId,
    id: MessageId,
    deletion: u64,
    deadline: Instant,
) -> Result<MessageState, Error> {
    let shard = Channel::Room(room).shard(api.shards);
    let sent = log::get_event(&api.log.jetstream, shard, id.0, &[EventName::ChatMessage]).await?;
    let author = sent.and_then(|(_, event)| match event {
        Event::ChatMessage(message) if message.room == room => Some(message.user),
        _ => None,
    });
    if deletion < id.0
        && let Some(author) = author
    {
        return Ok(MessageState::Present { author });
    }
    let applied = api.log.applied.current(shard).map_or(0, |applied| applied.seq);
    if deletion > applied {
        let from = if author.is_some() { id.0 } else { applied } + 1;
        match (find_deletion(api, room, id, from).await?, author) {
            (DeletionSearch::Found(by), _) => return Ok(MessageState::Deleted { by }),
            (DeletionSearch::None, Some(author)) => return Ok(MessageState::Present { author }),
            // The log has none after `applied`: Postgres knows the state.
            (DeletionSearch::None, None) => {}
            (DeletionSearch::TooMany, _) => {
                let remaining = deadline.saturating_duration_since(Instant::now());
                if !api.log.applied.wait(shard, deletion, remaining).await {
                    let why = "the room's last deletions are not applied yet";
                    return Err(Error::unavailable("The message", &why));
                }
            }
        }
    }
    match messages::author_and_deletion(&api.pool, shard, room, id).await? {
        Some((_, Some(by))) => Ok(MessageState::Deleted { by }),
        Some((author, None)) => Ok(MessageState::Present { author }),
        None => Err(Error::not_found()),
    }
}

/// The result of a search of the log for a deletion.
enum DeletionSearch {
    /// The event that deletes the message.
    Found(u64),
    /// The log has none.
    None,
    /// Not found among the first [`DELETIONS_READ_MAX`] deletions.
    TooMany,
}

/// Searches the log, from sequence `from` on, for the event that deletes a message.
async fn find_deletion(
    api: &CommandState,
    room: RoomId,
    id: MessageId,
    mut from: u64,
) -> Result<DeletionSearch, Error> {
    let subject = Channel::Room(room).log_subject(api.shards, EventName::MessageDelete, None);
    for _ in 0..DELETIONS_READ_MAX {
        let next = log::next(&api.log.jetstream, &subject, from).await;
        let Some(next) = next.map_err(|error| Error::unavailable("The log", &error))? else {
            return Ok(DeletionSearch::None);
        };
        if let Some(Event::MessageDelete(delete)) = log_write::decode_stored(&next)
            && delete.messages_ids.contains(&id)
        {
            return Ok(DeletionSearch::Found(next.seq));
        }
        from = next.seq + 1;
    }
    Ok(DeletionSearch::TooMany)
}
