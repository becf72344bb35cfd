//! Remembers rooms of a shard that were closed shortly before the events that are applied now.
//!
//! What must hold: a message or an edit that is in the log after its room's closing is not written: its sender was
//! answered that the room is closed, and no socket received it. Such an event was under way when the room was closed,
//! so it follows the closing within seconds. So a room needs to be remembered only for a while, and no row is read to
//! find out whether a room is closed.

use std::collections::{HashMap, VecDeque};

use protocol::id::{RoomId, Shard};
use sqlx::PgConnection;

use crate::database::to_i64;

/// Maximum rooms remembered for a shard; beyond it the oldest are forgotten.
const ROOMS_MAX: usize = 65_536;

/// Recently closed rooms, with the event that closed each.
#[derive(Debug, Default)]
pub(crate) struct RecentlyClosedRooms {
    closing_seqs: HashMap<RoomId, u64>,
    oldest_first: VecDeque<RoomId>,
}

impl RecentlyClosedRooms {
    /// Reads the rooms that were closed within the ten minutes before the event at the watermark. Each counts as closed
    /// by that event.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub(crate) async fn read(
        session: &mut PgConnection,
        shard: Shard,
        watermark_seq: u64,
    ) -> sqlx::Result<Self> {
        let rooms: Vec<i64> = sqlx::query_scalar(
            "SELECT s.room FROM room_state s
             WHERE s.shard = $1 AND s.closed_at > (
                 SELECT to_timestamp(coalesce(w.stored_at, 0) / 1e9) - interval '10 minutes'
                 FROM watermark w WHERE w.shard = $1)
             ORDER BY s.closed_at DESC LIMIT $2",
        )
        .bind(shard.number())
        .bind(to_i64(ROOMS_MAX as u64))
        .fetch_all(session)
        .await?;
        let mut closed_rooms = Self::default();
        for room in rooms.into_iter().rev().filter_map(|room| u64::try_from(room).ok()) {
            closed_rooms.note_closing(RoomId(room), watermark_seq);
        }
        Ok(closed_rooms)
    }

    /// Notes that an event closes a room. Closing is final: of several such events the first counts.
    pub(crate) fn note_closing(&mut self, room: RoomId, seq: u64) {
        if let Some(closing_seq) = self.closing_seqs.get_mut(&room) {
            *closing_seq = (*closing_seq).min(seq);
            return;
        }
        if self.oldest_first.len() >= ROOMS_MAX
            && let Some(oldest_room) = self.oldest_first.pop_front()
        {
            self.closing_seqs.remove(&oldest_room);
        }
        self.closing_seqs.insert(room, seq);
        self.oldest_first.push_back(room);
    }

    /// Whether a room was closed before that event.
    pub(crate) fn is_closed_before(&self, room: RoomId, seq: u64) -> bool {
        self.closing_seqs.get(&room).is_some_and(|closing_seq| *closing_seq < seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_room_is_remembered_until_many_others_are_closed() {
        let mut closed_rooms = RecentlyClosedRooms::default();
        closed_rooms.note_closing(RoomId(1), 7);
        closed_rooms.note_closing(RoomId(1), 9);
        assert!(closed_rooms.is_closed_before(RoomId(1), 8), "the first closing counts");
        assert!(!closed_rooms.is_closed_before(RoomId(1), 7));
        assert!(!closed_rooms.is_closed_before(RoomId(2), 8));
        for room in 0..ROOMS_MAX as u64 {
            closed_rooms.note_closing(RoomId(10 + room), 10);
        }
        assert_eq!(
            (closed_rooms.closing_seqs.len(), closed_rooms.oldest_first.len()),
            (ROOMS_MAX, ROOMS_MAX)
        );
        assert!(!closed_rooms.is_closed_before(RoomId(1), 8));
    }
}
