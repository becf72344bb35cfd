//! Rooms of a shard that were closed a short time before what is written now.
//!
//! What must hold: a message or an edit that stands in the log behind its room's closing is not written: its sender
//! was told that the room is closed, and no socket was pushed it. Such an event was on its way when the room was
//! closed, so that it comes seconds behind the closing: no room has to be remembered for long, and no row is asked
//! for.

use std::collections::{HashMap, VecDeque};

use protocol::id::{RoomId, Shard};
use sqlx::PgConnection;

use crate::watermark::number;

/// The most rooms remembered of a shard; the oldest make room.
const MOST: usize = 65_536;

/// Rooms with the event that closed each.
#[derive(Debug, Default)]
pub(crate) struct ClosedRooms {
    rooms: HashMap<RoomId, u64>,
    order: VecDeque<RoomId>,
}

impl ClosedRooms {
    /// The rooms that were closed within the ten minutes before the event at the watermark, all of them by an event up
    /// to that.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub(crate) async fn read(session: &mut PgConnection, shard: Shard, watermark: u64) -> sqlx::Result<Self> {
        let rooms: Vec<i64> = sqlx::query_scalar(
            "SELECT s.room FROM room_state s
             WHERE s.shard = $1 AND s.closed_at > (
                 SELECT to_timestamp(coalesce(w.stored_at, 0) / 1e9) - interval '10 minutes'
                 FROM watermark w WHERE w.shard = $1)
             ORDER BY s.closed_at DESC LIMIT $2",
        )
        .bind(shard.number())
        .bind(number(MOST as u64))
        .fetch_all(session)
        .await?;
        let mut closed = Self::default();
        for room in rooms.into_iter().rev().filter_map(|room| u64::try_from(room).ok()) {
            closed.note(RoomId(room), watermark);
        }
        Ok(closed)
    }

    /// An event closes a room. Closing is final: of several the first counts.
    pub(crate) fn note(&mut self, room: RoomId, seq: u64) {
        if let Some(known) = self.rooms.get_mut(&room) {
            *known = (*known).min(seq);
            return;
        }
        if self.order.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.rooms.remove(&oldest);
        }
        self.rooms.insert(room, seq);
        self.order.push_back(room);
    }

    /// Whether a room was closed before that event.
    pub(crate) fn is_closed_before(&self, room: RoomId, seq: u64) -> bool {
        self.rooms.get(&room).is_some_and(|closed| *closed < seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_room_is_remembered_until_many_others_are_closed() {
        let mut closed = ClosedRooms::default();
        closed.note(RoomId(1), 7);
        closed.note(RoomId(1), 9);
        assert!(closed.is_closed_before(RoomId(1), 8), "the first closing counts");
        assert!(!closed.is_closed_before(RoomId(1), 7));
        assert!(!closed.is_closed_before(RoomId(2), 8));
        for room in 0..MOST as u64 {
            closed.note(RoomId(10 + room), 10);
        }
        assert_eq!((closed.rooms.len(), closed.order.len()), (MOST, MOST));
        assert!(!closed.is_closed_before(RoomId(1), 8));
    }
}
