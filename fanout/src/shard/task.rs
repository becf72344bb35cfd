//! Runs the task of a shard, one step after another, and passes on what its parts decide.
//!
//! What must hold: a step first takes live messages from their subscriptions, then reads all signals of a loss, and
//! only then handles the messages. So a message that came after a loss is handled only once the loss is known.

mod results;

use std::time::Duration;

use anyhow::bail;
use async_nats::Message;
use log::{AppliedPosition, StreamState, SyncHint};
use protocol::{id::Shard, subject::Channel};
use service::{metric_names as names, nats::NatsEvent};
use tokio::{
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    ShardCommand, ShardContext,
    catch_up::{CatchUpRange, CatchUps},
    channel::{AdmissionStep, ChannelState},
    channels::{Channels, SubscribeStep},
    confirm,
    evictions::PendingEvictions,
    inbox::{Inbox, LiveMessage},
    interest::RoomInterest,
    latency::DeliveryLatency,
    live::{self, Gap},
    loss_signals::{LossSignal, LossSignals},
    people::People,
    position::SafePosition,
    push_waiter::PushWaiter,
    replay::Replays,
    work::{Work, WorkResult},
};

/// Maximum further commands handled after each step, so that a join does not wait for the live messages of busy rooms.
const COMMANDS_PER_PASS_MAX: usize = 1_024;

/// One shard's task. Its fields are visible to the shard's tests.
pub(crate) struct ShardTask {
    pub(super) shard: Shard,
    pub(super) context: ShardContext,
    pub(super) channels: Channels,
    pub(super) inbox: Inbox,
    loss_signals: LossSignals,
    room_interest: RoomInterest,
    people: People,
    pub(super) position: SafePosition,
    /// While a catch-up runs no live event is pushed.
    pub(super) catch_ups: CatchUps,
    pub(super) pending_evictions: PendingEvictions,
    replays: Replays,
    /// Slow work to start.
    pub(super) new_work: Vec<Work>,
    latency: DeliveryLatency,
}

/// One step of a shard's task.
pub(super) enum TaskStep {
    /// Handle the live messages that have arrived.
    Receive,
    /// Take the result of slow work.
    WorkResult(WorkResult),
    /// Do what a session asks for.
    Command(ShardCommand),
    /// Handle a signal that live messages may be lost.
    LossSignal(LossSignal),
    /// A second has passed. With the position up to which Postgres has the shard, if the persister has published one.
    Tick(Option<AppliedPosition>),
}

impl ShardTask {
    /// A shard without channels or subscriptions; the first work subscribes for its people.
    pub(super) fn new(shard: Shard, context: ShardContext, signals: LossSignals) -> Self {
        Self {
            shard,
            channels: Channels::new(shard, context.positions.clone()),
            context,
            inbox: Inbox::new(),
            loss_signals: signals,
            room_interest: RoomInterest::default(),
            people: People::default(),
            position: SafePosition::default(),
            catch_ups: CatchUps::default(),
            pending_evictions: PendingEvictions::default(),
            replays: Replays::default(),
            new_work: vec![Work::People],
            latency: DeliveryLatency::new(),
        }
    }

    /// Runs a shard's task until `stop`.
    pub(crate) async fn run(
        shard: Shard,
        context: ShardContext,
        mut commands: mpsc::Receiver<ShardCommand>,
        hints: broadcast::Receiver<SyncHint>,
        events: broadcast::Receiver<NatsEvent>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        // Results of slow work wait here until the task takes them.
        let (done, mut results) = mpsc::channel(64);
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
                Some(result) = results.recv() => TaskStep::WorkResult(result),
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
            TaskStep::WorkResult(result) => self.take_work_result(result)?,
            TaskStep::Command(command) => self.handle_command(command),
            TaskStep::Tick(applied) => tick = Some(applied),
            TaskStep::Receive | TaskStep::LossSignal(_) => {}
        }
        self.process_inbox();
        self.flush();
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
    fn process_inbox(&mut self) {
        while !self.catch_ups.is_running()
            && let Some(message) = self.inbox.pop()
        {
            match &message {
                LiveMessage::Channel(message) => drop(self.receive_channel_message(message)),
                LiveMessage::People(message) => {
                    self.people.receive(message, &self.context.sockets, &self.channels);
                }
            }
            self.pending_evictions.apply_due(&mut self.channels);
        }
    }

    /// Handles a live message of a channel. False if it shows that an event before it was lost: then both are caught
    /// up.
    fn receive_channel_message(&mut self, message: &Message) -> bool {
        match live::receive_channel_message(&mut self.channels, &mut self.latency, message) {
            Ok(()) => true,
            Err(Gap { after }) => {
                self.start_catch_up("gap", Some(after));
                false
            }
        }
    }

    /// Sends the frames of all events that were delivered.
    fn flush(&mut self) {
        self.channels.flush();
        self.latency.record();
    }

    fn handle_loss_signal(&mut self, signal: &LossSignal) -> anyhow::Result<()> {
        match signal {
            LossSignal::Reconnected => self.start_catch_up("reconnect", None),
            LossSignal::SlowConsumer => {
                self.start_catch_up("slow_consumer", None);
                if self.catch_ups.is_running() {
                    // The log has these messages. Left in the subscription, they would fill it until the catch-up is
                    // over, and so cause the next one.
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
                if let Some(safe_seq) = self.position.safe_seq() {
                    self.channels.mark_complete_up_to(safe_seq);
                    self.people.mark_complete_up_to(safe_seq);
                }
            }
            let questions = confirm::start_due(&mut self.channels, self.shard, applied.seq);
            self.new_work.extend(questions.map(Work::Confirm));
        }
        self.catch_up_for_evictions();
        if !self.catch_ups.is_running() {
            // Everything up to this position was sent. During a catch-up it may lie further back than the last one.
            self.context.positions.set(self.shard, &self.position);
        }
        self.channels.drop_idle();
        self.channels.push_presence();
        self.drop_old_from_rings();
    }

    /// Looks in the log for events that pending evictions still wait for.
    pub(super) fn catch_up_for_evictions(&mut self) {
        self.pending_evictions.apply_due(&mut self.channels);
        let missing = self.pending_evictions.first_missing_seq().filter(|_| !self.catch_ups.is_running());
        if let Some(missing) = missing {
            self.catch_up_open_channels("leaving", Some(missing.saturating_sub(1)));
        }
    }

    /// Drops from rings the events that are older than all rings of the node may keep now.
    pub(super) fn drop_old_from_rings(&mut self) {
        self.drop_from_rings_older_than(self.context.ring_budget.retention());
    }

    /// Drops from rings the events that are older than `age`.
    pub(super) fn drop_from_rings_older_than(&mut self, age: Duration) {
        let (bytes, oldest) = self.channels.drop_from_rings_older_than(age);
        self.context.ring_budget.report(self.shard, bytes, oldest);
    }

    fn handle_command(&mut self, command: ShardCommand) {
        match command {
            ShardCommand::Subscribe { channel, request } => {
                match self.channels.subscribe(&channel, request) {
                    SubscribeStep::Wait => {}
                    SubscribeStep::Open => self.start_opening_first(channel),
                    SubscribeStep::Admission(step) => self.take_admission_step(&channel, step),
                }
            }
            ShardCommand::NotifyWhenPushed { channel, waiter } => self.notify_when_pushed(&channel, waiter),
            ShardCommand::PushIsLate { channel, seq } => {
                if self.channels.is_missing(&channel, seq) {
                    self.start_catch_up("late", Some(seq.saturating_sub(1)));
                }
            }
            ShardCommand::ChangeCaller { channel, socket_id, caller } => {
                if let Some(channel_state) = self.channels.get_mut(&channel) {
                    channel_state.change_caller(socket_id, &caller);
                }
            }
            ShardCommand::Unsubscribe { channel, socket_id, frame_number, is_watcher, done } => {
                self.channels.unsubscribe(&channel, socket_id, frame_number, is_watcher);
                // The session may be gone: then the answer is dropped.
                let _ = done.send(());
            }
        }
    }

    /// Opens a channel for its first subscriber, and begins to receive all rooms together if there are many.
    fn start_opening_first(&mut self, channel: Channel) {
        self.start_opening(channel);
        if self.room_interest.start_wildcard_if_many(self.channels.len()) {
            self.new_work.push(Work::OpenWildcard);
        }
    }

    /// Begins to subscribe to a channel and to ask for its barrier.
    fn start_opening(&mut self, channel: Channel) {
        let is_covered_by_wildcard = self.room_interest.covers(&channel);
        self.new_work.push(Work::Open { channel, is_covered_by_wildcard });
    }

    fn take_admission_step(&mut self, channel: &Channel, step: AdmissionStep) {
        match step {
            AdmissionStep::Decided => {}
            AdmissionStep::AskStreamEnd(request) => {
                self.new_work.push(Work::StreamEnd { channel: channel.clone(), request });
            }
            AdmissionStep::Replay => self.request_replay(channel),
        }
    }

    /// Requests a read of the log for the subscribers of a channel that wait for one.
    fn request_replay(&mut self, channel: &Channel) {
        if self.channels.get_mut(channel).is_some_and(ChannelState::begin_replay) {
            self.replays.queue(channel.clone());
            self.start_replays();
        }
    }

    fn start_replays(&mut self) {
        let started = self.replays.start(&mut self.channels);
        self.new_work.extend(started.map(|(channel, request)| Work::Replay { channel, request }));
    }

    /// Answers a socket once its own event was pushed to it. If the event is missing though later ones were pushed,
    /// drops `waiter.done` instead, as no push will answer: the session answers by itself. The same for a channel
    /// without subscribers.
    fn notify_when_pushed(&mut self, channel: &Channel, waiter: PushWaiter) {
        let seq = waiter.seq;
        let is_missing = self.channels.is_missing(channel, seq);
        let Some(channel_state) = self.channels.get_mut(channel) else { return };
        if is_missing && seq <= channel_state.last_seq() {
            self.start_catch_up("late", Some(seq - 1));
        } else {
            channel_state.notify_when_pushed(waiter);
        }
    }

    /// Handles api's hint that a live event may have been lost.
    fn check_hint(&mut self, hint: &SyncHint) {
        if hint.channel.shard(self.context.shards) != self.shard {
            return;
        }
        // The event may have been stored after the barrier.
        self.channels.mark_opening_incomplete(&hint.channel);
        let is_missing_for_people =
            matches!(hint.channel, Channel::User(_)) && self.people.is_missing(hint.seq);
        if is_missing_for_people || self.channels.is_missing(&hint.channel, hint.seq) {
            self.catch_up_open_channels("hint", Some(hint.seq.saturating_sub(1)));
        }
    }

    /// Notes the stream's epoch and end, if they are not known yet.
    fn set_first_position(&mut self, state: StreamState) {
        if self.position.safe_seq().is_none() {
            self.position.set_first(state.epoch, state.last);
            self.channels.reset_received(state.last);
        }
    }

    /// Begins a catch-up, because events may have been lost since the safe position, or since `after`. The channels
    /// that are being opened may lack events too.
    pub(super) fn start_catch_up(&mut self, cause: &'static str, after: Option<u64>) {
        self.mark_openings_incomplete();
        self.catch_up_open_channels(cause, after);
    }

    fn mark_openings_incomplete(&mut self) {
        self.channels.mark_openings_incomplete();
        self.people.note_possible_loss();
    }

    /// Begins a catch-up where the channels that are being opened can't lack events.
    pub(super) fn catch_up_open_channels(&mut self, cause: &'static str, after: Option<u64>) {
        self.position.discard_pending();
        let Some(safe_seq) = self.position.safe_seq() else { return };
        metrics::counter!(names::HEALS_TOTAL, "cause" => cause).increment(1);
        if self.catch_ups.is_running() {
            return self.catch_ups.note_another(after);
        }
        let after = after.map_or(safe_seq, |after| after.min(safe_seq));
        let highest_received = self.channels.highest_received_seq().max(self.people.last_seq());
        let range = CatchUpRange { after, highest_received, epoch: self.position.epoch() };
        tracing::info!(shard = %self.shard, cause, after, highest = range.highest_received, "events may have been lost: catching up from the log");
        self.catch_ups.begin(range);
        self.new_work.push(Work::CatchUp(range));
    }
}
