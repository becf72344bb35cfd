//! Models everything around a shard's task, and applies incidents in any order.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use async_nats::Message;
use futures_util::{StreamExt as _, stream};
use log::{AppliedPosition, SyncHint};
use protocol::{caller::Caller, subject::Channel};
use service::nats::NatsEvent;
use tokio::sync::mpsc;

use super::{
    Incident, Loss,
    client::Client,
    log::{Log, channel, person},
};
use crate::shard::{
    access::AccessAnswer,
    bench::{self, LossSources},
    catch_up::CatchUpReport,
    confirm::ChannelConfirmation,
    inbox::MessageStream,
    loss_signals::LossSignal,
    open, people,
    replay::FinishedReplay,
    task::{ShardTask, TaskStep},
    work::{Work, WorkResult},
};

/// A subscription of the task.
#[derive(PartialEq, Eq)]
enum ModelSubscription {
    Channel(Channel),
    Rooms,
    Invitations,
    Elections,
}

/// The task and everything around it.
pub(super) struct World {
    task: ShardTask,
    loss_sources: LossSources,
    log: Log,
    applied: u64,
    is_connected: bool,
    subscriptions: Vec<(ModelSubscription, mpsc::UnboundedSender<Message>)>,
    works: Vec<Work>,
    reports: VecDeque<WorkResult>,
    clients: Vec<Client>,
    connections: u64,
    hints: Vec<SyncHint>,
    is_elected: bool,
    /// Seconds since an event was lost that no signal has reported yet.
    unnoticed_loss_secs: u64,
    /// The log has lost its end, and the persister has not noticed.
    is_shorter: bool,
}

impl World {
    /// Four clients of three people, and nothing in the log but one event.
    pub(super) async fn new() -> Self {
        let (task, loss_sources) = bench::shard_task().await;
        let shard = task.shard;
        let log = Log::new(shard);
        let mut world = Self {
            task,
            loss_sources,
            log,
            applied: 0,
            is_connected: true,
            subscriptions: Vec::new(),
            works: vec![Work::People],
            reports: VecDeque::new(),
            clients: Vec::new(),
            connections: 0,
            hints: Vec::new(),
            is_elected: false,
            unnoticed_loss_secs: 0,
            is_shorter: false,
        };
        world.log.append(0, 0, 0);
        world.work(0);
        world.report();
        for n in 0..4 {
            let caller = Caller { user: person(n % 3), is_admin: false, org_id: None };
            world.connections += 1;
            let client = Client::new(&world.task.context, caller, world.connections, &world.log);
            world.clients.push(client);
        }
        world
    }

    fn step(&mut self, step: TaskStep) {
        self.task.step(step).expect("no failure");
        self.works.append(&mut self.task.new_work);
    }

    /// Applies one incident.
    pub(super) fn apply(&mut self, event: Incident) {
        match event {
            Incident::Append(n, kind, user, loss) => self.append(n, kind, user, loss),
            Incident::Disconnect => self.disconnect(),
            Incident::Reconnect => self.reconnect(),
            Incident::Receive => self.step(TaskStep::Receive),
            Incident::Work(n) => self.work(n),
            Incident::Report => self.report(),
            Incident::Hint(seq) => self.hint(seq),
            Incident::Ticks(seconds) => (0..seconds).for_each(|_| self.tick()),
            Incident::Follow(n, of) => {
                let command = self.clients[n].subscribe(channel(of), &self.log);
                command.into_iter().for_each(|command| self.step(TaskStep::Command(command)));
            }
            Incident::Unfollow(n, of) => {
                // Frames that it has not read yet are of channels that it follows.
                self.read(n);
                let unfollow = self.clients[n].unsubscribe(&channel(of), &self.log);
                self.step(TaskStep::Command(unfollow));
            }
            Incident::Read(n) => drop(self.read(n)),
            Incident::Return(n, follows) => {
                // A client that leaves while a loss is not signalled yet claims to have the events after the loss.
                if !self.read(n) && self.hints.is_empty() && !self.task.catch_ups.is_running() {
                    self.come_back(n);
                    let _ = follows && self.follow_again(n);
                }
            }
            Incident::Trim(tenths) => self.log.trim((self.applied * tenths) / 10 + 1),
            Incident::Forget => self.task.drop_from_rings_older_than(Duration::ZERO),
            Incident::Kill(lost, is_noticed) => self.kill(lost, is_noticed),
        }
    }

    fn append(&mut self, n: usize, kind: usize, user: usize, loss: Loss) {
        self.notice_shorter();
        let logged = self.log.append(n, kind, user);
        if !self.is_connected {
            return;
        }
        match loss {
            Loss::None => {}
            Loss::Election => {
                self.is_elected = true;
                return;
            }
            Loss::Unhinted => {
                self.hints.push(SyncHint { channel: logged.channel, seq: logged.seq });
                return;
            }
            Loss::SlowConsumer => {
                // Nobody but the task receives it.
                let _ = self.loss_sources.events.send(NatsEvent::SlowConsumer);
                return;
            }
        }
        self.elect();
        let message = logged.message(self.task.context.shards);
        self.publish(&message, |interest| match interest {
            ModelSubscription::Channel(channel) => *channel == logged.channel,
            ModelSubscription::Rooms => matches!(logged.channel, Channel::Room(_)),
            ModelSubscription::Invitations => logged.event == "invitation",
            ModelSubscription::Elections => false,
        });
    }

    fn publish(&mut self, message: &Message, reaches: impl Fn(&ModelSubscription) -> bool) {
        self.subscriptions
            .retain(|(interest, sender)| !reaches(interest) || sender.send(message.clone()).is_ok());
    }

    /// A new leader publishes that it was elected before it publishes events.
    fn elect(&mut self) {
        if std::mem::take(&mut self.is_elected) {
            let message = self.log.all[0].message(self.task.context.shards);
            self.publish(&message, |interest| *interest == ModelSubscription::Elections);
        }
    }

    fn subscribe(&mut self, interest: ModelSubscription) -> MessageStream {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.subscriptions.push((interest, sender));
        stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }).boxed()
    }

    fn disconnect(&mut self) {
        if std::mem::take(&mut self.is_connected) {
            // Nobody but the task receives it.
            let _ = self.loss_sources.events.send(NatsEvent::Disconnected);
        }
        self.is_elected = false;
    }

    fn reconnect(&mut self) {
        if !self.is_connected {
            self.is_connected = true;
            self.loss_sources.statistics.connects.add(1, Ordering::Relaxed);
            let _ = self.loss_sources.events.send(NatsEvent::Connected);
        }
    }

    fn kill(&mut self, lost: u64, is_noticed: bool) {
        self.disconnect();
        let remaining = self.log.all.len().saturating_sub(usize::try_from(lost).expect("small")).max(1);
        self.log.all.truncate(remaining);
        self.log.first = self.log.first.min(self.log.last() + 1);
        self.applied = self.applied.min(self.log.last());
        self.hints.clear();
        self.is_shorter = true;
        if is_noticed {
            self.notice_shorter();
        }
        self.reconnect();
    }

    fn notice_shorter(&mut self) {
        if std::mem::take(&mut self.is_shorter) {
            self.log.epoch += 1;
        }
    }

    fn tick(&mut self) {
        self.unnoticed_loss_secs =
            if self.hints.is_empty() && !self.is_elected { 0 } else { self.unnoticed_loss_secs + 1 };
        if self.unnoticed_loss_secs > 20 {
            self.elect();
            while !self.hints.is_empty() {
                self.hint(0);
            }
        }
        if self.is_connected {
            self.applied = self.log.last();
        }
        let applied = AppliedPosition { epoch: self.log.epoch, seq: self.applied };
        self.step(TaskStep::Tick(Some(applied)));
        let frame = self.task.context.positions.frame();
        self.clients.iter().for_each(|client| client.push_position(&frame));
    }

    fn hint(&mut self, seq: u64) {
        let other = || {
            let logged = self.log.all.iter().find(|logged| logged.seq == seq);
            logged.map(|logged| SyncHint { channel: logged.channel.clone(), seq })
        };
        if let Some(hint) = self.hints.pop().or_else(other) {
            self.step(TaskStep::LossSignal(LossSignal::Hint(hint)));
        }
    }

    fn work(&mut self, n: usize) {
        if self.works.is_empty() {
            return;
        }
        let work = self.works.remove(n % self.works.len());
        let unreachable = || anyhow::anyhow!("no connection");
        let state = self.is_connected.then(|| self.log.state());
        let done = match work {
            Work::People => {
                let people = vec![self.subscribe(ModelSubscription::Invitations)];
                let elections = self.subscribe(ModelSubscription::Elections);
                let opened = |state| people::OpenedPeople { messages: people, elections, state };
                WorkResult::People(state.map(opened).ok_or_else(unreachable))
            }
            Work::Open { channel, is_covered_by_wildcard } => {
                let messages = (!is_covered_by_wildcard)
                    .then(|| self.subscribe(ModelSubscription::Channel(channel.clone())));
                let opened = |barrier| open::OpenedChannel { messages, barrier, participants: Ok(vec![]) };
                WorkResult::Opened { channel, result: state.map(opened).ok_or_else(unreachable) }
            }
            Work::OpenWildcard => {
                let messages = self.subscribe(ModelSubscription::Rooms);
                WorkResult::WildcardOpened(state.map(|_| messages).ok_or_else(unreachable))
            }
            Work::StreamEnd { channel, request } => {
                WorkResult::StreamEnd { channel, request, result: state.ok_or_else(unreachable) }
            }
            Work::Replay { channel, request } => {
                let outcome = self.log.replay(&channel, request);
                WorkResult::Replayed { channel, replay: FinishedReplay { request, outcome } }
            }
            Work::CatchUp(range) => {
                let Some(state) = state else { return self.works.push(work) };
                if !range.is_covered_by(state) {
                    return self.reports.push_back(WorkResult::CatchUp(CatchUpReport::NotInLog(state)));
                }
                let shards = self.task.context.shards;
                let new: Vec<_> = self.log.all.iter().filter(|logged| logged.seq > range.after).collect();
                for some in new.chunks(2) {
                    let events = some.iter().map(|logged| logged.stored(shards)).collect();
                    self.reports.push_back(WorkResult::CatchUp(CatchUpReport::Events(events)));
                }
                WorkResult::CatchUp(CatchUpReport::CompleteUpTo(state.last))
            }
            Work::Confirm(question) => {
                let answers = question.into_iter().map(|(channel, callers)| {
                    let answer = self.confirm(&channel, callers);
                    (channel, Some(answer))
                });
                WorkResult::Confirmed(answers.collect())
            }
            Work::Snapshot { .. } | Work::PublishLogEnd(_) => return,
        };
        self.reports.push_back(done);
    }

    fn confirm(&self, channel: &Channel, callers: Vec<Caller>) -> ChannelConfirmation {
        let has_lost_access = |caller: &Caller| {
            self.clients.iter().any(|client| client.has_lost_access(&caller.user, channel, &self.log))
        };
        ChannelConfirmation {
            revoked: callers.into_iter().filter(has_lost_access).collect(),
            access: AccessAnswer { is_public: false, is_closed: false, as_of: self.log.last() },
            last_event: self.log.of(channel).last().map_or(0, |logged| logged.seq),
        }
    }

    fn report(&mut self) {
        if let Some(report) = self.reports.pop_front() {
            self.step(TaskStep::WorkResult(report));
        }
    }

    /// A client reads its frames. True if it was closed, and has come back.
    fn read(&mut self, n: usize) -> bool {
        let (is_closed, commands) = self.clients[n].read(&self.log, self.log.shard.index());
        commands.into_iter().for_each(|command| self.step(TaskStep::Command(command)));
        if is_closed {
            self.come_back(n);
            self.follow_again(n);
        }
        is_closed
    }

    fn come_back(&mut self, n: usize) {
        self.connections += 1;
        let commands = self.clients[n].come_back(&self.task.context, self.connections, &self.log);
        commands.into_iter().for_each(|command| self.step(TaskStep::Command(command)));
    }

    /// Subscribes a client to the channels that it does not follow yet. True if there are any.
    fn follow_again(&mut self, n: usize) -> bool {
        let wanted = self.clients[n].wanted();
        for channel in &wanted {
            let command = self.clients[n].subscribe(channel.clone(), &self.log);
            command.into_iter().for_each(|command| self.step(TaskStep::Command(command)));
        }
        !wanted.is_empty()
    }

    /// Whether no right has to be confirmed by api: it is asked about few channels at a time.
    fn is_confirmed(&self) -> bool {
        let mut rooms = self.task.channels.iter().filter(|(channel, _)| matches!(channel, Channel::Room(_)));
        let is_due = rooms.any(|(_, channel_state)| {
            !channel_state.is_empty() && channel_state.access.confirm_priority(self.log.last()).is_some()
        });
        !is_due && self.task.pending_evictions.len() == 0
    }

    /// Finishes all work under way, and checks every client.
    pub(super) fn settle(&mut self) {
        self.notice_shorter();
        self.reconnect();
        self.elect();
        let mut calm = 0;
        for _ in 0..1_000 {
            while !self.hints.is_empty() {
                self.hint(0);
            }
            self.tick();
            while !self.works.is_empty() {
                self.work(0);
            }
            while !self.reports.is_empty() {
                self.report();
            }
            let mut is_over = !self.task.catch_ups.is_running() && self.works.is_empty();
            for n in 0..self.clients.len() {
                is_over &= !self.read(n) && !self.follow_again(n);
            }
            is_over &= self.task.position.safe_seq() == Some(self.log.last()) && self.is_confirmed();
            calm = if is_over { calm + 1 } else { 0 };
            if calm == 3 {
                return self.clients.iter().for_each(|client| client.check(&self.log));
            }
        }
        panic!(
            "it does not settle: safe position {:?} of {}",
            self.task.position.safe_seq(),
            self.log.last()
        );
    }
}
