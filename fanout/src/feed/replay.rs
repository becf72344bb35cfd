//! Reading a channel back to what the client that is furthest behind has.
//!
//! One read serves all who wait. What must hold: a client is called recovered only where every
//! event between was read, and the log still began before them when the reading was over; a client that asks
//! for more than there is, and a log that can't be read, change nothing for the others. What a ring can never hold is
//! read once.

use std::{collections::VecDeque, time::Duration};

use anyhow::bail;
use bytes::Bytes;
use shared::{
    log::{self, Reader, StreamState},
    metric_names as names,
    subject::{self, Channel},
};

use super::{Feed, Source, work::Work};
use crate::{
    hub::{
        follower::Follower,
        ring::{BYTES_MAX, EVENTS_MAX},
    },
    render::native,
};

/// Channels of a shard that are read back at a time: each read takes a consumer of the broker.
const AT_ONCE: usize = 8;
/// Tries to read the log.
const TRIES: u32 = 3;
/// Between them.
const AGAIN: Duration = Duration::from_millis(500);

/// What a replay is to read: everything after `since`, up to `upto`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) since: u64,
    pub(super) upto: u64,
    pub(super) epoch: u64,
    /// Where the channel began to be heard: closed and opened again, it asks for itself.
    pub(super) began: u64,
    /// What its ring may take more: events, and bytes.
    pub(super) space: (usize, usize),
}

/// What it found.
pub(super) enum Found {
    /// All events in (base, upto], where the base is above `since` if there are too many before.
    Frames { base: u64, frames: Vec<(u64, Bytes)> },
    /// More than the ring may take, however far it is read: whoever has less than this can't be served.
    TooMuch(u64),
    /// The log begins with this event, which is later than what was asked for.
    Begins(u64),
    /// The log is another one.
    Another,
    /// The log can't be read now.
    Unreadable,
}

impl Found {
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Frames { .. } => "read",
            Self::TooMuch(_) => "too_much",
            Self::Begins(_) => "gone",
            Self::Another => "another_log",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A replay that is over.
pub(super) struct Replay {
    pub(super) asked: Asked,
    pub(super) found: Found,
}

impl Feed {
    /// Reads a channel back for those who wait, once it is its turn, unless it is read already.
    pub(super) fn replay(&mut self, channel: &Channel) {
        let Some(hub) = self.hub(channel) else { return };
        if hub.resuming.is_empty() || std::mem::replace(&mut hub.reading, true) {
            return;
        }
        if self.replaying < AT_ONCE {
            self.read_back(channel);
        } else {
            self.to_replay.push_back(channel.clone());
        }
    }

    fn read_back(&mut self, channel: &Channel) {
        let Some(hub) = self.hub(channel) else { return };
        let Some(since) = hub.resuming.iter().filter_map(Follower::reach).min() else {
            hub.reading = false;
            return;
        };
        let (epoch, began, space) = (hub.epoch, hub.began(), hub.ring.space());
        let asked = Asked { since, upto: hub.ring.base(), epoch, began, space };
        self.replaying += 1;
        self.todo.push(Work::Replay { channel: channel.clone(), asked });
    }

    /// A channel was read back: the next has its turn.
    fn replay_next(&mut self) {
        self.replaying = self.replaying.saturating_sub(1);
        while self.replaying < AT_ONCE
            && let Some(channel) = self.to_replay.pop_front()
        {
            self.read_back(&channel);
        }
    }

    pub(super) fn replayed(&mut self, channel: &Channel, replay: Replay) {
        self.replay_next();
        let Replay { asked, found } = replay;
        metrics::counter!(names::REPLAYS_TOTAL, "outcome" => found.outcome()).increment(1);
        let Some(hub) = self.hub(channel).filter(|hub| hub.began() == asked.began) else { return };
        hub.reading = false;
        hub.expect();
        // Who has less than this can't be served, now or later.
        let (from, least) = match found {
            Found::Frames { base, frames } => {
                if base > asked.since {
                    hub.ring.lose(base);
                }
                hub.ring.extend_back(base, asked.upto, frames);
                // Who has less than was asked for has come since, and has the next turn.
                (asked.since, hub.ring.base())
            }
            Found::TooMuch(least) => {
                hub.ring.lose(least);
                (0, least)
            }
            Found::Begins(first) => {
                hub.ring.lose(first - 1);
                (0, first - 1)
            }
            Found::Another => (0, u64::MAX),
            // Their `done` is dropped: each session answers that it could not be.
            Found::Unreadable => return hub.resuming.clear(),
        };
        for follower in std::mem::take(&mut hub.resuming) {
            let reach = follower.reach().unwrap_or(hub.last);
            if reach >= hub.ring.base() {
                hub.admit(follower, true);
            } else if (from..least).contains(&reach) {
                hub.admit(follower, false);
            } else {
                hub.resuming.push(follower);
            }
        }
        self.replay(channel);
    }
}

/// Reads a channel, with a few tries.
pub(super) async fn read(source: &Source, channel: &Channel, asked: Asked) -> Found {
    for tries in 1.. {
        match read_once(source, channel, asked).await {
            Ok(found) => return found,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), %channel, "a replay failed");
                if tries == TRIES {
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    Found::Unreadable
}

async fn read_once(source: &Source, channel: &Channel, asked: Asked) -> anyhow::Result<Found> {
    let Asked { since, upto, epoch, space, .. } = asked;
    let shard = channel.shard(source.shards);
    let lacks = |state: StreamState| {
        if state.epoch != epoch {
            Some(Found::Another)
        } else {
            (state.first > since + 1).then_some(Found::Begins(state.first))
        }
    };
    let state = log::state(&source.jetstream, shard).await?;
    if let Some(lacks) = lacks(state) {
        return Ok(lacks);
    }
    let filter = channel.chat_all(source.shards);
    // The leader knows how far the channel goes. A reader may be served by a replica that lags, and what it says is
    // waiting is a count.
    let last = log::last(&source.jetstream, &filter).await?.map_or(0, |stored| stored.seq);
    let end = last.min(upto);
    let mut reader = Reader::open(source.jetstream.clone(), shard, Some(filter), since + 1);
    let (mut base, mut frames, mut bytes) = (since, VecDeque::new(), 0);
    // Enough for the ring, and as much again: so each read that ends early takes the limit further by a ring's size.
    let (mut events_left, mut bytes_left) = (space.0 + EVENTS_MAX, space.1 + BYTES_MAX);
    let mut read_upto = since;
    while read_upto < end {
        let Some(read) = reader.next_stored().await? else {
            bail!("{channel} ends at {read_upto} for who reads it, at {end} for its leader");
        };
        let stored = read.stored;
        read_upto = stored.seq;
        if read_upto > upto {
            break;
        }
        let Ok(parsed) = subject::parse(&stored.subject) else { continue };
        if !native::is_replayed(parsed.event) {
            continue;
        }
        if let Some(frame) = native::push(channel, parsed.event, stored.seq, &stored.payload) {
            bytes += frame.len();
            let left = events_left.checked_sub(1).zip(bytes_left.checked_sub(frame.len()));
            frames.push_back((stored.seq, frame));
            while frames.len() > space.0 || bytes > space.1 {
                let Some((seq, frame)) = frames.pop_front() else { break };
                bytes -= frame.len();
                base = seq;
            }
            let Some(left) = left else { return Ok(Found::TooMuch(base)) };
            (events_left, bytes_left) = left;
        }
    }
    // Trimming may have passed `since` while we read: a consumer below the first event begins
    // there in silence.
    let state = log::state(&source.jetstream, shard).await?;
    Ok(lacks(state).unwrap_or_else(|| Found::Frames { base, frames: frames.into() }))
}
