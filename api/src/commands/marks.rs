//! Read marks: up to where a person has read a room.
//!
//! What must hold: a mark never goes back. What sockets say is appended by each node at most once a second
//! for a person and room, and the last of it always.

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
    append::{self, WriteRequest},
    message_state,
    request::RequestContext,
    require_read, require_still_joined,
};
use crate::{
    commands::state::{APPEND_TIMEOUT, Api, ApiState},
    queries::messages as stored,
};

/// Between two appends of what a person's sockets say of one room.
const PAUSE: Duration = Duration::from_secs(1);

/// A mark that waits for the end of a pause, and until when it may be appended.
type PendingMark = (MessageId, Instant);

/// People and rooms with a mark appended less than a second ago, and the mark that came since.
#[derive(Default)]
pub(crate) struct ReadMarkThrottle(Mutex<HashMap<(RoomId, UserId), Option<PendingMark>>>);

impl ReadMarkThrottle {
    fn waiting(&self) -> MutexGuard<'_, HashMap<(RoomId, UserId), Option<PendingMark>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a mark is to be appended now; else it waits for the end of the pause.
    fn is_first(&self, of: &(RoomId, UserId), mark: MessageId) -> bool {
        let mut waiting = self.waiting();
        if let Some(next) = waiting.get_mut(of) {
            *next = (*next).max(Some((mark, Instant::now() + PAUSE + APPEND_TIMEOUT)));
            return false;
        }
        waiting.insert(of.clone(), None);
        true
    }

    /// The mark that came during a pause; where none came the pause is over.
    fn next(&self, of: &(RoomId, UserId)) -> Option<PendingMark> {
        let mut waiting = self.waiting();
        let next = waiting.get_mut(of).and_then(Option::take);
        if next.is_none() {
            waiting.remove(of);
        }
        next
    }

    /// The node stops: what waits is appended at once.
    pub(crate) async fn flush(api: &ApiState) {
        let waiting: Vec<_> = api.marks.waiting().drain().collect();
        for ((room, user), mark) in waiting {
            if let Some((mark, deadline)) = mark
                && let Err(error) = append(api, room, &user, mark, &RequestContext::new(None, deadline)).await
            {
                tracing::warn!(%error, %room, "a read mark is lost");
            }
        }
    }
}

/// Stores a mark, whoever may.
pub(super) async fn append(
    api: &ApiState,
    room: RoomId,
    user: &UserId,
    message_id: MessageId,
    request: &RequestContext<'_>,
) -> Result<LogPosition, Error> {
    let channel = Channel::Room(room);
    let event = Event::MessageRead(MessageRead { message_id, room, user: user.clone() });
    let written = append::append(api, request, WriteRequest::new(user, &channel, event, request)).await?;
    Ok(written.position)
}

/// Whether a person has read as far already, by all that was acknowledged.
pub(super) async fn stands(
    api: &ApiState,
    room: RoomId,
    user: &UserId,
    mark: MessageId,
) -> Result<bool, Error> {
    let channel = Channel::Room(room);
    if !api.is_all_applied(&channel, &[EventName::MessageRead]).await? {
        return Ok(false);
    }
    let known = stored::mark(&api.pool, channel.shard(api.shards), room, user).await;
    // Where Postgres does not answer, the mark is appended: twice does no harm.
    Ok(known.is_ok_and(|known| known >= Some(mark)))
}

/// Stores a mark. Answers whether Postgres has it.
pub(crate) async fn put(
    api: &ApiState,
    caller: &Caller,
    room: RoomId,
    mark: MessageId,
    request: &RequestContext<'_>,
) -> Result<bool, Error> {
    require_read(api, room, caller).await?;
    message_state::exists(api, room, mark).await?;
    if stands(api, room, &caller.user, mark).await? {
        return Ok(true);
    }
    let position = append(api, room, &caller.user, mark, request).await?;
    Ok(api.has_applied(position).await)
}

/// A socket has shown a room up to a message: stored within a second.
pub(crate) async fn push(
    api: &Api,
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
    message_state::exists(api, room, mark).await?;
    let of = (room, caller.user.clone());
    if !api.marks.is_first(&of, mark) {
        return Ok(());
    }
    let appended = append(api, room, &of.1, mark, request).await;
    let api: Api = Arc::clone(api);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(PAUSE).await;
            let Some((mark, deadline)) = api.marks.next(&of) else { return };
            if let Err(error) = append(&api, of.0, &of.1, mark, &RequestContext::new(None, deadline)).await {
                tracing::warn!(%error, room = %of.0, "a read mark is lost");
            }
        }
    });
    appended.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mark_of_a_pause_is_given_once() {
        let marks = ReadMarkThrottle::default();
        let of = (RoomId(1), "7".parse().expect("an id"));
        assert!(marks.is_first(&of, MessageId(1)));
        assert!(!marks.is_first(&of, MessageId(3)));
        assert!(!marks.is_first(&of, MessageId(2)));
        let next = || marks.next(&of).map(|(mark, _)| mark);
        assert_eq!(next(), Some(MessageId(3)));
        assert!(!marks.is_first(&of, MessageId(4)), "a new pause has begun");
        assert_eq!(next(), Some(MessageId(4)));
        assert_eq!(next(), None);
        assert!(marks.is_first(&of, MessageId(5)), "the pause is over");
    }
}
