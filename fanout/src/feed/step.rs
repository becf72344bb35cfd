//! The steps of a shard's task, one after another.
//!
//! What must hold: a step first takes live messages from their subscriptions, then reads all signals of a loss, and
//! only then handles the messages. So a message that came after a loss is handled only once the loss is known.

use std::time::Duration;

use anyhow::bail;
use futures_util::{FutureExt as _, StreamExt as _};
use log::{AppliedPosition, SyncHint};
use protocol::id::Shard;
use service::nats::NatsEvent;
use tokio::{
    sync::{broadcast, mpsc},
    task::coop::unconstrained,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Command, Done, Entry, Feed, Signal, Signals, Source};

/// Maximum live messages that are handled before a flush, so that a socket gets their frames in one write.
const PASS: usize = 1_024;
/// Maximum further commands handled after each step, so that a join does not wait for the live messages of busy rooms.
const COMMANDS: usize = 1_024;
/// Capacity of the queue of taken messages that stays allocated while it is empty.
const KEPT: usize = 64;

/// One step of a shard's task.
pub(super) enum Step {
    /// Handle the live messages that have arrived.
    Hear,
    /// Take the result of slow work.
    Report(Done),
    /// Do what a session asks.
    Command(Command),
    /// Handle a signal that live messages may be lost.
    Signal(Signal),
    /// A second has passed; up to where Postgres has the shard, where the persister has said so.
    Tick(Option<AppliedPosition>),
}

impl Feed {
    /// Runs a shard's task until `stop`.
    pub(crate) async fn run(
        shard: Shard,
        source: Source,
        mut commands: mpsc::Receiver<Command>,
        hints: broadcast::Receiver<SyncHint>,
        events: broadcast::Receiver<NatsEvent>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        // Work that has ended waits here until its report is taken.
        let (done, mut reports) = mpsc::channel(64);
        let signals = Signals::new(source.client.statistics(), events, source.losses.of(shard), hints);
        let mut feed = Self::new(shard, source, signals);
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for work in feed.todo.drain(..) {
                work.start(shard, feed.source.clone(), done.clone());
            }
            let hears = feed.healing.is_none() && !feed.live.is_empty();
            let step = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(live) = feed.live.next(), if hears => {
                    feed.taken.push_back(live);
                    Step::Hear
                }
                Some(report) = reports.recv() => Step::Report(report),
                command = commands.recv() => match command {
                    Some(command) => Step::Command(command),
                    None => return Ok(()),
                },
                signal = feed.signals.next() => Step::Signal(signal),
                _ = tick.tick() => Step::Tick(feed.source.applied.current(shard)),
            };
            feed.step(step)?;
            for _ in 0..COMMANDS {
                let Ok(command) = commands.try_recv() else { break };
                feed.step(Step::Command(command))?;
            }
        }
    }

    /// Takes one step.
    ///
    /// # Errors
    /// When the shard's events can't be received any more.
    pub(super) fn step(&mut self, step: Step) -> anyhow::Result<()> {
        let is_drained = matches!(step, Step::Hear | Step::Tick(_)) && self.take_waiting();
        let (step, signal) = match step {
            Step::Signal(signal) => (Step::Hear, Some(signal)),
            step => (step, None),
        };
        let mut next = signal.or_else(|| self.signals.try_next());
        while let Some(signal) = next {
            self.signalled(&signal)?;
            next = self.signals.try_next();
        }
        let mut tick = None;
        match step {
            Step::Report(report) => self.report(report)?,
            Step::Command(command) => self.command(command),
            Step::Tick(applied) => tick = Some(applied),
            Step::Hear | Step::Signal(_) => {}
        }
        self.hear_taken();
        self.send_all();
        if let Some(applied) = tick {
            self.tick(applied, is_drained);
        }
        Ok(())
    }

    /// Takes the live messages that have arrived, up to [`PASS`]; none during a healing. True where none is left.
    fn take_waiting(&mut self) -> bool {
        while self.healing.is_none() && self.taken.len() < PASS {
            match unconstrained(self.live.next()).now_or_never() {
                Some(Some(live)) => self.taken.push_back(live),
                _ => return true,
            }
        }
        false
    }

    /// Handles the messages that were taken, unless a healing is under way. Their frames are sent by the next flush.
    pub(super) fn hear_taken(&mut self) {
        while self.healing.is_none()
            && let Some(live) = self.taken.pop_front()
        {
            self.hear(&live);
            self.end_rights();
        }
        if self.taken.is_empty() && self.taken.capacity() > KEPT {
            self.taken.shrink_to(KEPT);
        }
    }

    /// Drops all live messages that have arrived and were not handled.
    pub(super) fn forget_waiting(&mut self) {
        self.taken.clear();
        while let Some(Some(_)) = unconstrained(self.live.next()).now_or_never() {}
    }

    fn signalled(&mut self, signal: &Signal) -> anyhow::Result<()> {
        match signal {
            Signal::Reconnected => self.heal("reconnect", None),
            Signal::SlowConsumer => {
                self.heal("slow_consumer", None);
                if self.healing.is_some() {
                    // The log has these messages. Kept, they would fill the subscription until the healing is over,
                    // and so cause the next one.
                    self.forget_waiting();
                }
            }
            Signal::Election => self.heal("election", None),
            Signal::Overrun => self.heal("overrun", None),
            Signal::Hint(hint) => self.hint(hint),
            Signal::Closed => bail!("the connection to the broker is closed"),
        }
        Ok(())
    }

    /// Does what is due each second. `is_drained`: every live message that had arrived was handled.
    fn tick(&mut self, applied: Option<AppliedPosition>, is_drained: bool) {
        if let Some(applied) = applied {
            if self.position.epoch().is_some_and(|epoch| epoch != applied.epoch) {
                self.heal("epoch", None);
            }
            if !self.signals.is_connected() {
                // Without a connection no signal of a loss can arrive, so this second proves nothing.
                self.position.doubt();
            } else if is_drained && self.healing.is_none() {
                self.position.note(applied.seq);
                if let Some(sure) = self.position.sure() {
                    self.heard.raise(sure);
                    self.people.raise(sure);
                }
            }
            self.confirm_rights(applied.seq);
        }
        self.heal_leaving();
        if self.healing.is_none() {
            // Everything up to this position was sent. During a healing it may lie further back than the last one.
            self.source.positions.set(self.shard, &self.position);
        }
        self.entries.retain(|_, entry| !matches!(entry, Entry::Heard(hub) if hub.is_stale()));
        self.count_crowds();
        self.forget_old();
    }

    /// Drops from rings the events that are older than all rings of the node may keep now.
    pub(super) fn forget_old(&mut self) {
        self.forget_older(self.source.rings.age());
    }

    /// Drops from rings the events that are older than `age`.
    pub(super) fn forget_older(&mut self, age: Duration) {
        let (mut bytes, mut oldest) = (0, Duration::ZERO);
        for entry in self.entries.values_mut() {
            if let Entry::Heard(hub) = entry {
                // A read ends at the ring's base: where that has moved, what it has found fits no more.
                if !hub.reading {
                    hub.ring.forget(age);
                }
                bytes += hub.ring.size();
                oldest = oldest.max(hub.ring.oldest());
            }
        }
        self.source.rings.note(self.shard, bytes, oldest);
    }
}
