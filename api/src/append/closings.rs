//! Rooms that were closed a short time ago, as heard on a connection that appends.
//!
//! What must hold: a stream's leader sends the live copy of a closing before it acknowledges what it stores behind
//! it. Both come on the same connection and in that order, so once an acknowledgement is read, the closing has been
//! received: it only has to be looked at.

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

/// How long a closing is remembered: longer than a request may take from its look at the room to its append.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The most closings remembered.
const MOST: usize = 65_536;

/// What was heard of closed rooms.
#[derive(Debug)]
pub(super) struct ClosedRooms {
    updates: Subscriber,
    known: Known,
}

impl ClosedRooms {
    /// Listens from now on.
    pub(super) async fn listen(client: &Client) -> anyhow::Result<Self> {
        let updates =
            client.subscribe(subject::live_filter_of_all_shards("room", EventName::RoomUpdate)).await?;
        Ok(Self { updates, known: Known::default() })
    }

    /// Whether a room was closed before that event of its shard, whose acknowledgement has been read.
    pub(super) fn is_closed_before(&mut self, room: RoomId, seq: u64) -> bool {
        self.look();
        self.known.is_closed_before(room, seq)
    }

    /// Notes what has been received.
    pub(super) fn look(&mut self) {
        // Not limited by the task's budget: that would look as if nothing were there.
        while let Some(Some(message)) = unconstrained(self.updates.next()).now_or_never() {
            if let Some((room, seq)) = closing(&message) {
                self.known.note(room, seq, Instant::now());
            }
        }
    }
}

/// The room that an update closes, and the update's sequence.
fn closing(message: &Message) -> Option<(RoomId, u64)> {
    let seq = message.headers.as_ref()?.get_last(NATS_SEQUENCE)?.as_str().parse().ok()?;
    let Channel::Room(room) = subject::parse(&message.subject).ok()?.channel else { return None };
    is_closing(&message.payload).then_some((room, seq))
}

/// Whether a room's update closes it.
pub(super) fn is_closing(payload: &[u8]) -> bool {
    matches!(Event::decode(EventName::RoomUpdate, payload), Ok(Event::RoomUpdate(update)) if update.closed == Some(true))
}

/// Closed rooms with the first event that closed each, in the order in which they were heard.
#[derive(Debug, Default)]
struct Known {
    rooms: HashMap<RoomId, u64>,
    order: VecDeque<(Instant, RoomId)>,
}

impl Known {
    fn note(&mut self, room: RoomId, seq: u64, now: Instant) {
        let is_over = |(at, _): &(Instant, RoomId)| *at + REMEMBERED < now;
        while self.order.front().is_some_and(is_over) {
            self.forget_oldest();
        }
        // Closing is final: of several the first counts.
        if self.rooms.contains_key(&room) {
            return;
        }
        if self.order.len() >= MOST {
            self.forget_oldest();
        }
        self.rooms.insert(room, seq);
        self.order.push_back((now, room));
    }

    fn forget_oldest(&mut self) {
        if let Some((_, room)) = self.order.pop_front() {
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
    fn what_is_stored_behind_a_closing_is_told_from_what_was_before_it() {
        let mut known = Known::default();
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
        let mut known = Known::default();
        let now = Instant::now();
        known.note(RoomId(1), 1, now);
        known.note(RoomId(2), 2, now + REMEMBERED + Duration::from_secs(1));
        assert!(!known.is_closed_before(RoomId(1), 5));
        assert!(known.is_closed_before(RoomId(2), 5));
        for room in 0..=MOST as u64 {
            known.note(RoomId(10 + room), 3, now + REMEMBERED + Duration::from_secs(1));
        }
        assert_eq!((known.rooms.len(), known.order.len()), (MOST, MOST));
        assert!(!known.is_closed_before(RoomId(2), 5), "the oldest made room");
    }

    #[test]
    fn only_a_closing_closes() {
        let update =
            |more: &str| format!(r#"{{"room":1,"by":"7","updated_at":"2026-11-21T08:51:26.593514Z"{more}}}"#);
        assert!(is_closing(update(r#","closed":true"#).as_bytes()));
        for other in ["", r#","closed":false"#, r#","private":true"#] {
            assert!(!is_closing(update(other).as_bytes()), "{other}");
        }
    }
}
