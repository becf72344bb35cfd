//! The steps of a shard's task, one after another.
//!
//! What must hold: live messages are taken first, then everything is looked at that says what was lost, then
//! the messages are heard. So one that came after a loss is never heard as if nothing had been.

use std::time::Duration;

use anyhow::bail;
use futures_util::{FutureExt as _, StreamExt as _};
use shared::{
    id::Shard,
    log::{Applied, SyncHint},
    nats::NatsEvent,
};
use tokio::{
    sync::{broadcast, mpsc},
    task::coop::unconstrained,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Command, Done, Entry, Feed, Signal, Signals, Source};

/// Events that are heard before the first of them is sent: what a socket gets of them leaves in one write.
const PASS: usize = 1_024;
/// Commands that are done between two of those passes: who joins one room does not wait behind another one's sockets.
const COMMANDS: usize = 1_024;
/// Places for messages that are kept from one pass to the next.
const KEPT: usize = 64;

/// What a task does next.
pub(super) enum Step {
    /// Hears what has come.
    Hear,
    /// Takes a report of its work.
    Report(Done),
    /// Does what a session asks.
    Command(Command),
    /// Looks at what may have been lost.
    Signal(Signal),
    /// A second has passed, and up to there the shard is in Postgres.
    Tick(Option<Applied>),
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
        // Reports are as bounded as the work that is under way.
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
    /// Where the shard can't be heard any more.
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

    /// Takes what has come, unless it has to wait. True where nothing more had.
    fn take_waiting(&mut self) -> bool {
        while self.healing.is_none() && self.taken.len() < PASS {
            match unconstrained(self.live.next()).now_or_never() {
                Some(Some(live)) => self.taken.push_back(live),
                _ => return true,
            }
        }
        false
    }

    /// Hears what was taken, so that it leaves together.
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

    /// Drops what waits to be heard.
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
                    // The log has it. Else what waits would fill the subscription until the healing is over, and
                    // that would be the cause of the next.
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

    /// A second has passed. `is_drained`: all that had come was heard.
    fn tick(&mut self, applied: Option<Applied>, is_drained: bool) {
        if let Some(applied) = applied {
            if self.position.epoch().is_some_and(|epoch| epoch != applied.epoch) {
                self.heal("epoch", None);
            }
            if !self.signals.is_connected() {
                // No time passes in which a loss would have been heard of.
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
            // All of it was sent before: a healing may have gone back behind it.
            self.source.positions.set(self.shard, &self.position);
        }
        self.entries.retain(|_, entry| !matches!(entry, Entry::Heard(hub) if hub.is_stale()));
        self.count_crowds();
        self.forget_old();
    }

    /// Drops from rings what they may hold no longer.
    pub(super) fn forget_old(&mut self) {
        let (age, mut bytes, mut oldest) = (self.source.rings.age(), 0, Duration::ZERO);
        for entry in self.entries.values_mut() {
            if let Entry::Heard(hub) = entry {
                hub.ring.forget(age);
                bytes += hub.ring.size();
                oldest = oldest.max(hub.ring.oldest());
            }
        }
        self.source.rings.note(self.shard, bytes, oldest);
    }
}
