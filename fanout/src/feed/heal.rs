//! Healing: what may have been lost on its way to this node is read from the log.
//!
//! One ordered read a shard serves all its channels, from the position that is surely heard, and
//! nothing newer is pushed before it is over. What a channel has already is skipped.

use std::time::Duration;

use shared::{
    log::{self, Reached, Reader, Stored},
    metric_names as names,
    subject::{self, Channel},
};
use tokio::sync::mpsc;

use super::{Done, Entry, Feed, Source};
use crate::hub::channel::Heard;

/// Events reported at once.
const BATCH: usize = 256;
/// Between tries while the log can't be read.
const AGAIN: Duration = Duration::from_millis(500);

/// How a healing goes.
pub(super) enum Healed {
    /// These were in the log.
    Events(Vec<Stored>),
    /// Everything up to here was reported.
    Upto { last: u64, epoch: u64 },
    /// The log no longer has what may have been lost.
    Gone,
}

impl Feed {
    /// Something may have been lost since the surely heard position, or since `after`; of the channels
    /// that are being opened too.
    pub(super) fn heal(&mut self, cause: &'static str, after: Option<u64>) {
        for entry in self.entries.values_mut() {
            if let Entry::Opening(opening) = entry {
                opening.doubt = true;
            }
        }
        self.heal_heard(cause, after);
    }

    /// The same where nothing can be lost of the channels that are being opened.
    pub(super) fn heal_heard(&mut self, cause: &'static str, after: Option<u64>) {
        self.position.doubt();
        let Some(sure) = self.position.sure() else { return };
        let after = after.map_or(sure, |after| after.min(sure));
        metrics::counter!(names::HEALS_TOTAL, "cause" => cause).increment(1);
        if self.healing.is_some() {
            self.heal_again = Some(self.heal_again.map_or(after, |again| again.min(after)));
            return;
        }
        self.healing = Some(self.highest());
        let (source, shard, done) = (self.source.clone(), self.shard, self.done.clone());
        tokio::spawn(async move {
            loop {
                match read(&source, shard, after, &done).await {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, %shard, "healing waits for the log"),
                }
                if done.is_closed() {
                    return;
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
    }

    pub(super) fn healed(&mut self, healed: Healed) {
        match healed {
            Healed::Events(events) => self.apply_healed(&events),
            Healed::Upto { last, epoch } => {
                // Also where the log ends before what was heard: ids may be given again. What began to be heard
                // meanwhile began where the log ended then: that may be later.
                let is_another = self.position.epoch().is_some_and(|known| known != epoch);
                let heard = self.healing.unwrap_or(0);
                if is_another || heard > last {
                    if !is_another {
                        self.tell_loss(epoch, heard);
                    }
                    self.close_all();
                    self.people.last = last;
                    self.position.begin_again(epoch, last);
                } else {
                    self.people.last = self.people.last.max(last);
                    self.position.healed(last);
                }
                self.over();
            }
            Healed::Gone => {
                self.close_all();
                self.over();
            }
        }
    }

    /// Says that the log has lost what was heard of it: the persister may not have seen it.
    fn tell_loss(&self, epoch: u64, seq: u64) {
        let (client, shard) = (self.source.client.clone(), self.shard);
        let Ok(word) = serde_json::to_vec(&Reached { epoch, seq }) else { return };
        tokio::spawn(async move {
            if let Err(error) = client.publish(subject::seen(shard), word.into()).await {
                tracing::warn!(%error, %shard, "nobody was told that the log has lost its end");
            }
        });
    }

    fn over(&mut self) {
        self.healing = None;
        if let Some(after) = self.heal_again.take() {
            // What was being opened when the cause came up was told of it then.
            self.heal_heard("again", Some(after));
        }
    }

    /// The last event that was heard.
    fn highest(&self) -> u64 {
        let hubs = self.entries.values().filter_map(|entry| match entry {
            Entry::Heard(hub) => Some(hub.last),
            Entry::Opening(_) => None,
        });
        hubs.chain([self.people.last]).max().unwrap_or(0)
    }

    fn apply_healed(&mut self, events: &[Stored]) {
        for stored in events {
            let Ok(parsed) = subject::parse(&stored.subject) else { continue };
            let Stored { seq, headers, payload, .. } = stored;
            if let Channel::User(user) = &parsed.channel {
                self.push_stored(user, &parsed.channel, parsed.event, *seq, payload);
            }
            let heard = Heard { event: parsed.event, seq: *seq, headers: Some(headers), payload };
            self.deliver(&parsed.channel, heard);
        }
    }
}

async fn read(
    source: &Source,
    shard: shared::id::Shard,
    after: u64,
    done: &mpsc::Sender<Done>,
) -> anyhow::Result<()> {
    let state = log::state(&source.jetstream, shard).await?;
    let mut reader = Reader::open(source.jetstream.clone(), shard, None, after + 1);
    // Reports fail only once the task has stopped.
    let report = |healed| async { done.send(Done::Healed(healed)).await.is_ok() };
    if state.first > after + 1 {
        report(Healed::Gone).await;
        return Ok(());
    }
    let mut batch = Vec::new();
    while reader.position() <= state.last {
        let Some(read) = reader.next_stored().await? else { break };
        batch.push(read.stored);
        if batch.len() >= BATCH && !report(Healed::Events(std::mem::take(&mut batch))).await {
            return Ok(());
        }
    }
    if report(Healed::Events(batch)).await {
        report(Healed::Upto { last: state.last, epoch: state.epoch }).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::id::{RoomId, ShardCount};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        feed::{Opening, bench::source},
        hub::channel::Hub,
    };

    /// Of a shard whose broker is not there.
    async fn feed() -> Feed {
        let shards = ShardCount::new(1).expect("1");
        Feed::new(Channel::Room(RoomId(1)).shard(shards), source(shards).await, mpsc::channel(8).0)
    }

    /// A room is heard from there on.
    fn open(feed: &mut Feed, room: u64, last: u64) {
        let (channel, shard) = (Channel::Room(RoomId(room)), feed.shard.index());
        let hub = Hub::new(channel.clone(), shard, last, 1, oneshot::channel().0, feed.metrics.clone());
        feed.entries.insert(channel, Entry::Heard(Box::new(hub)));
    }

    #[tokio::test]
    async fn what_one_channel_may_lack_is_no_doubt_of_those_that_are_being_opened() {
        let mut feed = feed().await;
        feed.position.begin(1, 5);
        let opening = Channel::Room(RoomId(2));
        feed.entries.insert(opening.clone(), Entry::Opening(Opening::default()));
        let doubt = |feed: &Feed| matches!(&feed.entries[&opening], Entry::Opening(opening) if opening.doubt);
        feed.heal_heard("opened", Some(5));
        assert!(!doubt(&feed));
        feed.heal("gap", None);
        assert!(doubt(&feed), "what was lost for one may be lost for all");
    }

    #[tokio::test]
    async fn what_began_to_be_heard_meanwhile_is_no_loss() {
        let mut feed = feed().await;
        feed.position.begin(1, 5);
        open(&mut feed, 1, 5);
        feed.heal("again", None);
        open(&mut feed, 2, 9);
        feed.healed(Healed::Upto { last: 7, epoch: 1 });
        assert_eq!(feed.entries.len(), 2, "the log had 7 when it was asked, and 9 since");

        feed.heal("again", None);
        feed.healed(Healed::Upto { last: 8, epoch: 1 });
        assert!(feed.entries.is_empty(), "the log had 9, and has lost it");
    }
}
