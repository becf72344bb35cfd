//! Healing: what may have been lost on its way to this node is read from the log.
//!
//! One ordered read a shard serves all its channels, from the position that is surely heard, and
//! nothing newer is pushed before it is over. What was heard already is skipped; what a channel lacks though
//! it has pushed later events can't be pushed in order any more, and closes the sockets that should have got it.

use std::time::Duration;

use anyhow::bail;
use log::{LogEnd, LogReader, StoredEvent, StreamState};
use protocol::{
    id::{Shard, UserId},
    subject::{self, Channel},
};
use service::metric_names as names;
use tokio::sync::mpsc;

use super::{Done, Entry, Feed, Source, work::Work};
use crate::hub::channel::Heard;

/// Events reported at once.
const BATCH: usize = 256;
/// Between tries while the log can't be read.
const AGAIN: Duration = Duration::from_millis(500);
/// Panics after which a healing is not begun again: its process ends, and another one begins from nothing.
const PANICS_MAX: u32 = 5;

/// What a healing reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// Everything after this.
    pub(super) after: u64,
    /// The last event that was heard before: a log that ends earlier has lost it.
    pub(super) highest: u64,
    /// The epoch that is followed.
    pub(super) epoch: Option<u64>,
}

/// A healing that is under way.
#[derive(Debug)]
pub(super) struct Healing {
    pub(super) range: Range,
    panics: u32,
}

/// How a healing goes.
#[derive(Debug)]
pub(super) enum Healed {
    /// These were in the log.
    Events(Vec<StoredEvent>),
    /// Everything up to here was reported.
    Upto(u64),
    /// It is another log, or it has no longer all that may have been lost.
    Another(StreamState),
    /// Nothing more comes of it.
    Panicked,
}

impl Range {
    /// Whether a log that stands so has all of it.
    pub(super) fn is_in(&self, state: StreamState) -> bool {
        let same_epoch = self.epoch.is_none_or(|epoch| epoch == state.epoch);
        same_epoch && state.first <= self.after + 1 && state.last >= self.highest
    }
}

impl Feed {
    /// Something may have been lost since the surely heard position, or since `after`; of the channels
    /// that are being opened too.
    pub(super) fn heal(&mut self, cause: &'static str, after: Option<u64>) {
        self.doubt_openings();
        self.heal_heard(cause, after);
    }

    /// What is being opened may lack what came meanwhile.
    fn doubt_openings(&mut self) {
        for entry in self.entries.values_mut() {
            if let Entry::Opening(opening) = entry {
                opening.doubt = true;
            }
        }
        self.people.doubt();
    }

    /// The same where nothing can be lost of the channels that are being opened.
    pub(super) fn heal_heard(&mut self, cause: &'static str, after: Option<u64>) {
        self.position.doubt();
        let Some(sure) = self.position.sure() else { return };
        metrics::counter!(names::HEALS_TOTAL, "cause" => cause).increment(1);
        if self.healing.is_some() {
            // What the one under way has read will be sure then.
            let after = after.unwrap_or(u64::MAX);
            self.heal_again = Some(self.heal_again.map_or(after, |again| again.min(after)));
            return;
        }
        let after = after.map_or(sure, |after| after.min(sure));
        let range = Range { after, highest: self.highest(), epoch: self.position.epoch() };
        tracing::info!(shard = %self.shard, cause, after, highest = range.highest, "something may have been lost");
        self.healing = Some(Healing { range, panics: 0 });
        self.todo.push(Work::Heal(range));
    }

    /// # Errors
    /// Where healing panics again and again.
    pub(super) fn healed(&mut self, healed: Healed) -> anyhow::Result<()> {
        let Some(healing) = &mut self.healing else { return Ok(()) };
        match healed {
            Healed::Events(events) => {
                for stored in &events {
                    self.hear_again(stored);
                    self.end_rights();
                }
            }
            Healed::Upto(last) => {
                self.position.healed(last);
                self.heard.raise(last);
                self.people.healed(last);
                self.over();
            }
            Healed::Another(state) => {
                let Range { highest, epoch, .. } = healing.range;
                if epoch == Some(state.epoch) && highest > state.last {
                    // The persister may not have seen it.
                    self.todo.push(Work::TellLoss(LogEnd { epoch: state.epoch, seq: highest }));
                }
                self.begin_again(state);
                self.over();
            }
            Healed::Panicked => {
                healing.panics += 1;
                if healing.panics == PANICS_MAX {
                    bail!("healing shard {} has panicked {PANICS_MAX} times", self.shard);
                }
                self.todo.push(Work::Heal(healing.range));
            }
        }
        Ok(())
    }

    fn over(&mut self) {
        self.healing = None;
        if let Some(after) = self.heal_again.take() {
            // What was being opened when the cause came up was told of it then.
            return self.heal_heard("again", Some(after));
        }
        for (channel, opened) in std::mem::take(&mut self.kept) {
            self.opened(&channel, Ok(opened));
        }
    }

    /// What the node may have missed is gone, so every socket of the shard is closed, those too that are there
    /// for their person alone. Whoever comes next begins with the log as it is now.
    fn begin_again(&mut self, state: StreamState) {
        let position = self.source.positions.frame();
        for entry in self.entries.values() {
            if let Entry::Heard(hub) = entry {
                hub.outboxes().for_each(|outbox| outbox.close_to_heal(&position));
            }
        }
        let (shard, shards) = (self.shard, self.source.shards);
        let lives_here = |user: &UserId| Channel::User(user.clone()).shard(shards) == shard;
        for outbox in self.source.sessions.of_all(lives_here) {
            outbox.close_to_heal(&position);
        }
        // Those whose channels are being opened are let in by what the log says then.
        self.entries.retain(|_, entry| matches!(entry, Entry::Opening(_)));
        // What waits to be heard may be of the log that is gone.
        self.forget_waiting();
        self.doubt_openings();
        self.position.begin_again(state.epoch, state.last);
        self.heard.begin_again(state.last);
        self.people.begin_again(state.last);
        self.heal_again = self.heal_again.map(|_| u64::MAX);
    }

    /// The last event that was heard.
    fn highest(&self) -> u64 {
        let hubs = self.entries.values().filter_map(|entry| match entry {
            Entry::Heard(hub) => Some(hub.last),
            Entry::Opening(_) => None,
        });
        hubs.chain([self.people.last()]).max().unwrap_or(0)
    }

    /// An event as it is in the log.
    fn hear_again(&mut self, stored: &StoredEvent) {
        let Ok(parsed) = subject::parse(&stored.subject) else { return };
        let StoredEvent { seq, headers, payload, .. } = stored;
        if let Channel::User(user) = &parsed.channel {
            self.push_stored(user, &parsed.channel, parsed.event, *seq, payload);
        }
        let heard = Heard { event: parsed.event, seq: *seq, headers: Some(headers), payload };
        self.deliver(&parsed.channel, heard);
    }
}

/// Reads a range and reports what it has, however long the log can't be read.
pub(super) async fn read(source: &Source, shard: Shard, mut range: Range, done: &mpsc::Sender<Done>) {
    while let Err(error) = read_on(source, shard, &mut range, done).await {
        tracing::warn!(error = format!("{error:#}"), %shard, "healing waits for the log");
        if done.is_closed() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Reads on from where it had come to. What was reported is not read again.
async fn read_on(
    source: &Source,
    shard: Shard,
    range: &mut Range,
    done: &mpsc::Sender<Done>,
) -> anyhow::Result<()> {
    let state = log::state(&source.jetstream, shard).await?;
    // Reports fail only once the task has stopped.
    let report = |healed| async { done.send(Done::Healed(healed)).await.is_ok() };
    if !range.is_in(state) {
        report(Healed::Another(state)).await;
        return Ok(());
    }
    let mut reader = LogReader::open(source.jetstream.clone(), shard, None, range.after + 1);
    while range.after < state.last {
        let mut batch = Vec::new();
        while batch.len() < BATCH && reader.position() <= state.last {
            let Some(read) = reader.next_stored().await? else { break };
            batch.push(read.stored);
        }
        let Some(last) = batch.last().map(|stored| stored.seq) else {
            // A replica that lags, or what was there was trimmed: its leader knows.
            bail!("the log ends at {} for who reads it, and at {} for its leader", range.after, state.last);
        };
        if !report(Healed::Events(batch)).await {
            return Ok(());
        }
        range.after = last;
    }
    report(Healed::Upto(state.last)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use protocol::id::RoomId;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        feed::{Opening, bench},
        hub::{channel::Hub, rings::Rings},
    };

    /// A room is heard from there on.
    fn open(feed: &mut Feed, room: u64, last: u64) {
        let (channel, shard) = (Channel::Room(RoomId(room)), feed.shard.index());
        let hub = Hub::new(channel.clone(), shard, last, 1, oneshot::channel().0, feed.metrics.clone());
        feed.entries.insert(channel, Entry::Heard(Box::new(hub)));
    }

    const fn state(first: u64, last: u64, epoch: u64) -> StreamState {
        StreamState { first, last, epoch, messages: 0, bytes: 0, max_bytes: 0, replicas: 1 }
    }

    #[tokio::test]
    async fn what_one_channel_may_lack_is_no_doubt_of_those_that_are_being_opened() {
        let (mut feed, _said) = bench::feed().await;
        feed.position.begin(1, 5);
        let opening = Channel::Room(RoomId(2));
        feed.entries.insert(opening.clone(), Entry::Opening(Opening::default()));
        let doubt = |feed: &Feed| matches!(&feed.entries[&opening], Entry::Opening(opening) if opening.doubt);
        feed.heal_heard("opened", Some(5));
        assert!(!doubt(&feed));
        feed.heal("gap", None);
        assert!(doubt(&feed), "what was lost for one may be lost for all");
    }

    #[tokio::test(start_paused = true)]
    async fn rings_of_two_thousand_busy_rooms_stay_near_their_bound() {
        const MAX: usize = 4 << 20;
        let (mut feed, _said) = bench::feed().await;
        feed.source.rings = Arc::new(Rings::new(feed.source.shards, MAX, Duration::from_secs(600)));
        for room in 0..2_000 {
            open(&mut feed, room, 0);
        }
        // Half a megabyte a second, of which ten minutes would be kept.
        let payload = Bytes::from(vec![b'0'; 200]);
        for seq in 1..=240_000_u64 {
            let channel = Channel::Room(RoomId(seq % 2_000));
            let heard = Heard { event: "chat-message", seq, headers: None, payload: &payload };
            feed.deliver(&channel, heard);
            if seq % 2_000 == 0 {
                tokio::time::advance(Duration::from_secs(1)).await;
                feed.forget_old();
                feed.source.rings.note(Shard::SYSTEM, 0, Duration::ZERO);
                let held: usize = feed
                    .entries
                    .values()
                    .map(|entry| match entry {
                        Entry::Heard(hub) => hub.ring.size(),
                        Entry::Opening(_) => 0,
                    })
                    .sum();
                assert!(held < 2 * MAX, "{held} bytes after {} s", seq / 2_000);
            }
        }
    }

    #[tokio::test]
    async fn range_is_in_a_log_that_has_all_of_it_and_of_what_was_heard() {
        let range = Range { after: 5, highest: 9, epoch: Some(1) };
        assert!(range.is_in(state(6, 9, 1)) && range.is_in(state(1, 20, 1)));
        assert!(!range.is_in(state(7, 9, 1)), "6 was trimmed");
        assert!(!range.is_in(state(1, 8, 1)), "9 was heard, and is lost");
        assert!(!range.is_in(state(1, 20, 2)), "another epoch");
    }

    #[tokio::test]
    async fn what_began_to_be_heard_meanwhile_is_no_loss() {
        let (mut feed, _said) = bench::feed().await;
        feed.position.begin(1, 5);
        open(&mut feed, 1, 5);
        feed.heal("again", None);
        open(&mut feed, 2, 9);
        assert!(matches!(feed.todo[..], [Work::Heal(Range { after: 5, highest: 5, .. })]));
        feed.healed(Healed::Upto(7)).expect("no panic");
        assert_eq!(feed.entries.len(), 2, "the log had 7 when it was asked, and 9 since");

        feed.heal("again", None);
        assert!(matches!(feed.todo[..], [_, Work::Heal(Range { after: 7, highest: 9, .. })]));
        feed.healed(Healed::Another(state(1, 8, 1))).expect("no panic");
        assert!(feed.entries.is_empty(), "the log had 9, and has lost it");
        assert!(matches!(feed.todo[2..], [Work::TellLoss(LogEnd { epoch: 1, seq: 9 })]));
    }

    #[tokio::test]
    async fn after_a_log_that_is_gone_the_next_cause_begins_where_it_is_now() {
        let (mut feed, _said) = bench::feed().await;
        feed.position.begin(1, 5);
        open(&mut feed, 1, 5);
        feed.heal("reconnect", None);
        feed.healed(Healed::Another(state(50, 80, 1))).expect("no panic");
        feed.heal("reconnect", None);
        let range = feed.healing.as_ref().expect("healing").range;
        assert!(range.after == 80 && range.is_in(state(50, 80, 1)), "{range:?}");
    }

    #[tokio::test]
    async fn healing_that_panics_begins_again_and_ends_the_task_at_last() {
        let (mut feed, _said) = bench::feed().await;
        feed.position.begin(1, 5);
        feed.heal("reconnect", None);
        for _ in 1..PANICS_MAX {
            feed.healed(Healed::Panicked).expect("begun again");
        }
        assert_eq!(feed.todo.len(), usize::try_from(PANICS_MAX).expect("small"));
        feed.healed(Healed::Panicked).expect_err("the task ends");
    }
}
