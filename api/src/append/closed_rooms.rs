//! Remembers rooms that were closed a short time ago, as received on a connection that appends.
//!
//! What must hold: a stream's leader sends the live copy of a closing before it acknowledges events stored after it.
//! Both arrive on one connection in that order, so once an acknowledgement is read, the closing has been received and
//! waits in the subscription.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use async_nats::{Client, Message, Subscriber, header::NATS_SEQUENCE};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{task::unconstrained, time::Instant};

use protocol::{
    event::{Event, EventName},
    id::RoomId,
    subject::{self, Channel},
};

/// How long a closing is remembered: longer than a request takes from its check of the room to its append.
const CLOSING_KEPT_FOR: Duration = Duration::from_secs(60);
/// Maximum closings remembered.
const CLOSINGS_MAX: usize = 65_536;

/// The closings received on one connection.
#[derive(Debug)]
pub(super) struct ClosedRooms {
    updates: Subscriber,
    recent: RecentClosings,
}

impl ClosedRooms {
    /// Subscribes to updates of rooms.
    pub(super) async fn listen(client: &Client) -> anyhow::Result<Self> {
        let updates =
            client.subscribe(subject::live_filter_of_all_shards("room", EventName::RoomUpdate)).await?;
        Ok(Self { updates, recent: RecentClosings::default() })
    }

    /// Returns whether a room was closed before an event of its shard whose acknowledgement has been read.
    pub(super) fn is_closed_before(&mut self, room: RoomId, seq: u64) -> bool {
        self.note_received();
        self.recent.is_closed_before(room, seq)
    }

    /// Records the closings that wait in the subscription.
    pub(super) fn note_received(&mut self) {
        // Without the task's cooperative budget: once it is used up, the subscription would look empty.
        while let Some(Some(message)) = unconstrained(self.updates.next()).now_or_never() {
            if let Some((room, seq)) = parse_closing(&message) {
                self.recent.note(room, seq, Instant::now());
            }
        }
    }
}

/// Returns the room that an update closes, and the update's sequence.
fn parse_closing(message: &Message) -> Option<(RoomId, u64)> {
    let seq = message.headers.as_ref()?.get_last(NATS_SEQUENCE)?.as_str().parse().ok()?;
    let Channel::Room(room) = subject::parse(&message.subject).ok()?.channel else { return None };
    is_closing(&message.payload).then_some((room, seq))
}

/// Returns whether an update closes its room.
pub(super) fn is_closing(payload: &[u8]) -> bool {
    matches!(Event::decode(EventName::RoomUpdate, payload), Ok(Event::RoomUpdate(update)) if update.closed == Some(true))
}

/// Closed rooms, each with the first event that closed it, in the order in which they were received.
#[derive(Debug, Default)]
struct RecentClosings {
    rooms: HashMap<RoomId, u64>,
    oldest_first: VecDeque<(Instant, RoomId)>,
}

impl RecentClosings {
    fn note(&mut self, room: RoomId, seq: u64, now: Instant) {
        let is_over = |(at, _): &(Instant, RoomId)| *at + CLOSING_KEPT_FOR < now;
        while self.oldest_first.front().is_some_and(is_over) {
            self.forget_oldest();
        }
        // Closing is final: the first of several counts.
        if self.rooms.contains_key(&room) {
            return;
        }
        if self.oldest_first.len() >= CLOSINGS_MAX {
            self.forget_oldest();
        }
        self.rooms.insert(room, seq);
        self.oldest_first.push_back((now, room));
    }

    fn forget_oldest(&mut self) {
        if let Some((_, room)) = self.oldest_first.pop_front() {
            self.rooms.remove(&room);
        }
    }

    fn is_closed_before(&self, room: RoomId, seq: u64) -> bool {
        self.rooms.get(&room).is_some_and(|closed| *closed < seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_behind_a_closing_are_told_from_those_before_it() {
        let mut known = RecentClosings::default();
        let now = Instant::now();
        assert!(!known.is_closed_before(RoomId(1), 9));
        known.note(RoomId(1), 8, now);
        known.note(RoomId(1), 12, now);
        assert!(known.is_closed_before(RoomId(1), 9), "the first closing counts");
        assert!(!known.is_closed_before(RoomId(1), 7));
        assert!(!known.is_closed_before(RoomId(2), 9));
    }

    #[test]
    fn closings_are_forgotten_in_time_and_above_their_number() {
        let mut known = RecentClosings::default();
        let now = Instant::now();
        known.note(RoomId(1), 1, now);
        known.note(RoomId(2), 2, now + CLOSING_KEPT_FOR + Duration::from_secs(1));
        assert!(!known.is_closed_before(RoomId(1), 5));
        assert!(known.is_closed_before(RoomId(2), 5));
        for room in 0..=CLOSINGS_MAX as u64 {
            known.note(RoomId(10 + room), 3, now + CLOSING_KEPT_FOR + Duration::from_secs(1));
        }
        assert_eq!((known.rooms.len(), known.oldest_first.len()), (CLOSINGS_MAX, CLOSINGS_MAX));
        assert!(!known.is_closed_before(RoomId(2), 5), "the oldest made room");
    }

    #[test]
    fn room_is_closed_only_by_a_closing() {
        let update =
            |more: &str| format!(r#"{{"room":1,"by":"7","updated_at":"2026-11-21T08:51:26.593514Z"{more}}}"#);
        assert!(is_closing(update(r#","closed":true"#).as_bytes()));
        for other in ["", r#","closed":false"#, r#","private":true"#] {
            assert!(!is_closing(update(other).as_bytes()), "{other}");
        }
    }
}
