//! Runs the steps of a shard's task, one after another.
//!
//! What must hold: a step first takes live messages from their subscriptions, then reads all signals of a loss, and
//! only then handles the messages. So a message that came after a loss is handled only once the loss is known.

use std::time::Duration;

use anyhow::bail;
use log::{AppliedPosition, SyncHint};
use protocol::id::Shard;
use service::nats::NatsEvent;
use tokio::{
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{ChannelEntry, LossSignal, LossSignals, ShardCommand, ShardContext, ShardTask, WorkResult};

/// Maximum further commands handled after each step, so that a join does not wait for the live messages of busy rooms.
const COMMANDS_PER_PASS_MAX: usize = 1_024;

/// One step of a shard's task.
pub(super) enum TaskStep {
    /// Handle the live messages that have arrived.
    Receive,
    /// Take the result of slow work.
    WorkResult(WorkResult),
    /// Do what a session asks.
    Command(ShardCommand),
    /// Handle a signal that live messages may be lost.
    LossSignal(LossSignal),
    /// A second has passed; up to where Postgres has the shard, where the persister has said so.
    Tick(Option<AppliedPosition>),
}

impl ShardTask {
    /// Runs a shard's task until `stop`.
    pub(crate) async fn run(
        shard: Shard,
        context: ShardContext,
        mut commands: mpsc::Receiver<ShardCommand>,
        hints: broadcast::Receiver<SyncHint>,
        events: broadcast::Receiver<NatsEvent>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        // Work that has ended waits here until its report is taken.
        let (done, mut reports) = mpsc::channel(64);
        let signals = LossSignals::new(context.client.statistics(), events, context.losses.of(shard), hints);
        let mut task = Self::new(shard, context, signals);
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for work in task.new_work.drain(..) {
                work.start(shard, task.context.clone(), done.clone());
            }
            let receives = !task.catch_ups.is_running() && task.inbox.has_subscriptions();
            let step = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(()) = task.inbox.receive(), if receives => TaskStep::Receive,
                Some(report) = reports.recv() => TaskStep::WorkResult(report),
                command = commands.recv() => match command {
                    Some(command) => TaskStep::Command(command),
                    None => return Ok(()),
                },
                signal = task.loss_signals.next() => TaskStep::LossSignal(signal),
                _ = tick.tick() => TaskStep::Tick(task.context.applied.current(shard)),
            };
            task.step(step)?;
            for _ in 0..COMMANDS_PER_PASS_MAX {
                let Ok(command) = commands.try_recv() else { break };
                task.step(TaskStep::Command(command))?;
            }
        }
    }

    /// Takes one step.
    ///
    /// # Errors
    /// When the shard's events can't be received any more.
    pub(super) fn step(&mut self, step: TaskStep) -> anyhow::Result<()> {
        let is_drained = matches!(step, TaskStep::Receive | TaskStep::Tick(_)) && self.fill_inbox();
        let (step, signal) = match step {
            TaskStep::LossSignal(signal) => (TaskStep::Receive, Some(signal)),
            step => (step, None),
        };
        let mut next = signal.or_else(|| self.loss_signals.try_next());
        while let Some(signal) = next {
            self.handle_loss_signal(&signal)?;
            next = self.loss_signals.try_next();
        }
        let mut tick = None;
        match step {
            TaskStep::WorkResult(report) => self.take_work_result(report)?,
            TaskStep::Command(command) => self.handle_command(command),
            TaskStep::Tick(applied) => tick = Some(applied),
            TaskStep::Receive | TaskStep::LossSignal(_) => {}
        }
        self.process_inbox();
        self.flush_all();
        if let Some(applied) = tick {
            self.tick(applied, is_drained);
        }
        Ok(())
    }

    /// Takes the live messages that have arrived; none during a catch-up. True where none is left.
    fn fill_inbox(&mut self) -> bool {
        self.catch_ups.is_running() || self.inbox.fill()
    }

    /// Handles the messages that were taken, unless a catch-up is under way. Their frames are sent by the next flush.
    pub(super) fn process_inbox(&mut self) {
        while !self.catch_ups.is_running()
            && let Some(message) = self.inbox.pop()
        {
            self.receive(&message);
            self.evict_revoked();
        }
    }

    fn handle_loss_signal(&mut self, signal: &LossSignal) -> anyhow::Result<()> {
        match signal {
            LossSignal::Reconnected => self.start_catch_up("reconnect", None),
            LossSignal::SlowConsumer => {
                self.start_catch_up("slow_consumer", None);
                if self.catch_ups.is_running() {
                    // The log has these messages. Kept, they would fill the subscription until the catch-up is over,
                    // and so cause the next one.
                    self.inbox.discard();
                }
            }
            LossSignal::Election => self.start_catch_up("election", None),
            LossSignal::SignalsLost => self.start_catch_up("overrun", None),
            LossSignal::Hint(hint) => self.check_hint(hint),
            LossSignal::ConnectionClosed => bail!("the connection to the broker is closed"),
        }
        Ok(())
    }

    /// Does what is due each second. `is_drained`: every live message that had arrived was handled.
    fn tick(&mut self, applied: Option<AppliedPosition>, is_drained: bool) {
        if let Some(applied) = applied {
            if self.position.epoch().is_some_and(|epoch| epoch != applied.epoch) {
                self.start_catch_up("epoch", None);
            }
            if !self.loss_signals.is_connected() {
                // Without a connection no signal of a loss can arrive, so this second proves nothing.
                self.position.discard_pending();
            } else if is_drained && !self.catch_ups.is_running() {
                self.position.note_applied(applied.seq);
                if let Some(sure) = self.position.safe_seq() {
                    self.received.mark_complete_up_to(sure);
                    self.people.mark_complete_up_to(sure);
                }
            }
            self.confirm_due_channels(applied.seq);
        }
        self.catch_up_for_evictions();
        if !self.catch_ups.is_running() {
            // Everything up to this position was sent. During a catch-up it may lie further back than the last one.
            self.context.positions.set(self.shard, &self.position);
        }
        self.channels.retain(|_, entry| !matches!(entry, ChannelEntry::Open(channel_state) if channel_state.is_idle_timed_out()));
        self.push_presence();
        self.drop_old_from_rings();
    }

    /// Drops from rings the events that are older than all rings of the node may keep now.
    pub(super) fn drop_old_from_rings(&mut self) {
        self.forget_older(self.context.ring_budget.retention());
    }

    /// Drops from rings the events that are older than `age`.
    pub(super) fn forget_older(&mut self, age: Duration) {
        let (mut bytes, mut oldest) = (0, Duration::ZERO);
        for entry in self.channels.values_mut() {
            if let ChannelEntry::Open(channel_state) = entry {
                // A read ends at the ring's base: where that has moved, what it has found fits no more.
                if !channel_state.is_replaying {
                    channel_state.ring.drop_older_than(age);
                }
                bytes += channel_state.ring.memory_bytes();
                oldest = oldest.max(channel_state.ring.oldest_age());
            }
        }
        self.context.ring_budget.report(self.shard, bytes, oldest);
    }
}
