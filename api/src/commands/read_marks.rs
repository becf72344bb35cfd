//! Stores read marks: the last message of a room that a person has read.
//!
//! What must hold: a mark never goes back. Each node appends the marks of a person's sockets at most once a second
//! for each room, and always appends the last one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::append::LogPosition;
use protocol::{
    caller::Caller,
    error::Error,
    event::{Event, EventName, MessageRead},
    id::{MessageId, RoomId, UserId},
    subject::Channel,
};
use tokio::time::Instant;

use super::{
    log_write::{self, WriteRequest},
    message_state,
    request_context::RequestContext,
    require_read, require_still_joined,
};
use crate::{
    commands::state::{APPEND_TIMEOUT, CommandState},
    queries::messages as stored,
};

/// Minimum interval between two appended marks of one person in one room.
const APPEND_INTERVAL: Duration = Duration::from_secs(1);

/// A mark that waits for the end of the interval, and the deadline of its append.
type PendingMark = (MessageId, Instant);

/// By room and person with a mark appended within the last interval: the highest mark since.
#[derive(Default)]
pub(crate) struct ReadMarkThrottle(Mutex<HashMap<(RoomId, UserId), Option<PendingMark>>>);

impl ReadMarkThrottle {
    fn pending(&self) -> MutexGuard<'_, HashMap<(RoomId, UserId), Option<PendingMark>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether to append a mark now; if not, it is kept until the interval ends.
    fn is_due_now(&self, of: &(RoomId, UserId), mark: MessageId) -> bool {
        let mut waiting = self.pending();
        if let Some(next) = waiting.get_mut(of) {
            *next = (*next).max(Some((mark, Instant::now() + APPEND_INTERVAL + APPEND_TIMEOUT)));
            return false;
        }
        waiting.insert(of.clone(), None);
        true
    }

    /// Takes the mark that was kept during the interval; if there is none, forgets the person and room.
    fn take_pending(&self, of: &(RoomId, UserId)) -> Option<PendingMark> {
        let mut waiting = self.pending();
        let next = waiting.get_mut(of).and_then(Option::take);
        if next.is_none() {
            waiting.remove(of);
        }
        next
    }

    /// Appends the marks that are kept, at once. Called when the node stops.
    pub(crate) async fn flush(api: &CommandState) {
        let waiting: Vec<_> = api.read_marks.pending().drain().collect();
        for ((room, user), mark) in waiting {
            if let Some((mark, deadline)) = mark
                && let Err(error) =
                    append_mark(api, room, &user, mark, &RequestContext::new(None, deadline)).await
            {
                tracing::warn!(%error, %room, "could not append a read mark; it is dropped");
            }
        }
    }
}

/// Appends a mark without checking access.
pub(super) async fn append_mark(
    api: &CommandState,
    room: RoomId,
    user: &UserId,
    message_id: MessageId,
    request: &RequestContext<'_>,
) -> Result<LogPosition, Error> {
    let channel = Channel::Room(room);
    let event = Event::MessageRead(MessageRead { message_id, room, user: user.clone() });
    let written = log_write::append(api, request, WriteRequest::new(user, &channel, event, request)).await?;
    Ok(written.position)
}

/// Returns whether a person has read that far already, as of all acknowledged marks. If Postgres lags or does not
/// answer, false.
pub(super) async fn has_read_up_to(
    api: &CommandState,
    room: RoomId,
    user: &UserId,
    mark: MessageId,
) -> Result<bool, Error> {
    let channel = Channel::Room(room);
    if !api.wait_until_events_applied(&channel, &[EventName::MessageRead]).await? {
        return Ok(false);
    }
    let known = stored::read_mark(&api.pool, channel.shard(api.shards), room, user).await;
    // The mark is then appended: a second one of the same message changes nothing.
    Ok(known.is_ok_and(|known| known >= Some(mark)))
}

/// Stores a mark. Returns whether Postgres has it.
pub(crate) async fn mark_read(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    mark: MessageId,
    request: &RequestContext<'_>,
) -> Result<bool, Error> {
    require_read(api, room, caller).await?;
    message_state::require_exists(api, room, mark).await?;
    if has_read_up_to(api, room, &caller.user, mark).await? {
        return Ok(true);
    }
    let position = append_mark(api, room, &caller.user, mark, request).await?;
    Ok(api.wait_until_position_applied(position).await)
}

/// Stores a mark that a socket sent, within [`APPEND_INTERVAL`]. `is_in`: the socket has joined the room.
pub(crate) async fn mark_read_by_socket(
    api: &Arc<CommandState>,
    caller: &Caller,
    room: RoomId,
    mark: MessageId,
    is_in: bool,
    request: &RequestContext<'_>,
) -> Result<(), Error> {
    if is_in {
        require_still_joined(api, room, caller).await?;
    } else {
        require_read(api, room, caller).await?;
    }
    message_state::require_exists(api, room, mark).await?;
    let of = (room, caller.user.clone());
    if !api.read_marks.is_due_now(&of, mark) {
        return Ok(());
    }
    let appended = append_mark(api, room, &of.1, mark, request).await;
    let api: Arc<CommandState> = Arc::clone(api);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(APPEND_INTERVAL).await;
            let Some((mark, deadline)) = api.read_marks.take_pending(&of) else { return };
            if let Err(error) =
                append_mark(&api, of.0, &of.1, mark, &RequestContext::new(None, deadline)).await
            {
                tracing::warn!(%error, room = %of.0, "could not append a read mark; it is dropped");
            }
        }
    });
    appended.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_read_mark_of_an_interval_is_returned_once() {
        let marks = ReadMarkThrottle::default();
        let of = (RoomId(1), "7".parse().expect("an id"));
        assert!(marks.is_due_now(&of, MessageId(1)));
        assert!(!marks.is_due_now(&of, MessageId(3)));
        assert!(!marks.is_due_now(&of, MessageId(2)));
        let next = || marks.take_pending(&of).map(|(mark, _)| mark);
        assert_eq!(next(), Some(MessageId(3)));
        assert!(!marks.is_due_now(&of, MessageId(4)), "a new pause has begun");
        assert_eq!(next(), Some(MessageId(4)));
        assert_eq!(next(), None);
        assert!(marks.is_due_now(&of, MessageId(5)), "the pause is over");
    }
}
