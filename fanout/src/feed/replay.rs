//! Reading a channel back to what the client that is furthest behind has.
//!
//! One read serves all who wait. What must hold: a client is called recovered only where every
//! event between was read, and the log still began before them when the reading was over.

use bytes::Bytes;
use shared::{
    log::{self, Reader, StreamState},
    subject::{self, Channel},
};

use super::{Done, Feed, Source};
use crate::{hub::follower::Follower, render::native};

/// The most events that one replay reads; more are to be loaded over REST.
const EVENTS_MAX: usize = 10_000;

/// What a replay found.
pub(super) struct Replay {
    /// It was to read everything after this,
    since: u64,
    /// up to this,
    upto: u64,
    /// and found these; `None` where they are not all to be had.
    frames: Option<Vec<(u64, Bytes)>>,
}

impl Feed {
    /// Starts a replay for those who wait, unless one is under way.
    pub(super) fn replay(&mut self, channel: &Channel) {
        let (source, done) = (self.source.clone(), self.done.clone());
        let Some(hub) = self.hub(channel) else { return };
        let Some(since) = hub.resuming.iter().filter_map(Follower::reach).min() else { return };
        if std::mem::replace(&mut hub.reading, true) {
            return;
        }
        let (upto, epoch, channel) = (hub.ring.base(), hub.epoch, channel.clone());
        tokio::spawn(async move {
            let frames = match read(&source, &channel, since, upto, epoch).await {
                Ok(frames) => frames,
                Err(error) => {
                    tracing::warn!(%error, %channel, "a replay failed");
                    None
                }
            };
            // The task may have stopped meanwhile.
            let _ = done.send(Done::Replayed { channel, replay: Replay { since, upto, frames } }).await;
        });
    }

    pub(super) fn replayed(&mut self, channel: &Channel, replay: Replay) {
        let Some(hub) = self.hub(channel) else { return };
        hub.reading = false;
        let extended = match replay.frames {
            Some(frames) => hub.ring.extend_back(replay.since, replay.upto, frames),
            None => false,
        };
        for follower in std::mem::take(&mut hub.resuming) {
            let reach = follower.reach().unwrap_or(hub.last);
            if reach >= hub.ring.base() {
                hub.admit(follower, true);
            } else if !extended && reach <= replay.upto {
                hub.admit(follower, false);
            } else {
                hub.resuming.push(follower);
            }
        }
        self.replay(channel);
    }
}

/// All events in (since, upto] that a resume repeats; `None` where they are not all to be had.
async fn read(
    source: &Source,
    channel: &Channel,
    since: u64,
    upto: u64,
    epoch: u64,
) -> anyhow::Result<Option<Vec<(u64, Bytes)>>> {
    let shard = channel.shard(source.shards);
    let complete = |state: StreamState| state.epoch == epoch && state.first <= since + 1;
    if !complete(log::state(&source.jetstream, shard).await?) {
        return Ok(None);
    }
    let filter = Some(channel.chat_all(source.shards));
    let mut reader = Reader::open(source.jetstream.clone(), shard, filter, since + 1);
    let mut frames = Vec::new();
    while let Some(read) = reader.next_stored().await? {
        let stored = read.stored;
        if stored.seq > upto {
            break;
        }
        let Ok(parsed) = subject::parse(&stored.subject) else { continue };
        if !native::is_replayed(parsed.event) {
            continue;
        }
        if let Some(frame) = native::push(channel, parsed.event, stored.seq, &stored.payload) {
            frames.push((stored.seq, frame));
        }
        if frames.len() > EVENTS_MAX {
            return Ok(None);
        }
    }
    // Trimming may have passed `since` while we read: a consumer below the first event begins
    // there in silence.
    Ok(complete(log::state(&source.jetstream, shard).await?).then_some(frames))
}
