//! One task a shard: it hears the shard's live events and pushes them to who follows.
//!
//! All of a shard's channels are owned by its task, so nothing here is locked. What must hold:
//! before a channel is followed its subscription stands and the stream's leader was asked, on the
//! same connection, where the stream ends (the barrier): whatever is stored after that is heard.
//! Slow work (asking, reading the log) runs beside the task and reports back to it.

#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
mod heal;
mod latency;
mod live;
mod open;
mod people;
mod position;
mod replay;
mod rights;
mod snapshot;
mod wide;

pub(crate) use people::PeopleHeard;
pub(crate) use position::Positions;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::{Client, Message, Subscriber, jetstream::Context};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream::SelectAll};
use shared::{
    id::{Shard, ShardCount},
    log::{AppliedWatch, StreamState, SyncHint},
    nats::NatsEvent,
    rules::Caller,
    subject::Channel,
};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::coop::unconstrained,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ask::Ask,
    hub::{
        channel::{Deliveries, Heard, Hub, Sender},
        follower::Follower,
        sessions::Sessions,
    },
    session::close::CloseReason,
};
use latency::Latency;
use people::People;
use position::Position;
use wide::Interest;

/// What sessions ask of a shard's task.
pub(crate) enum Command {
    /// Follow a channel.
    Follow {
        /// The channel, of this shard.
        channel: Channel,
        /// Who.
        follower: Follower,
    },
    /// Tell when an event of the socket's own was pushed to it.
    Answer {
        /// The channel, of this shard.
        channel: Channel,
        /// Whose event it is.
        sender: Sender,
    },
    /// An event of a socket's own is late: its live copy may be lost.
    Late {
        /// The event.
        seq: u64,
    },
    /// A socket that follows a channel, or guards it, goes on as another caller.
    ChangeCaller {
        /// The channel, of this shard.
        channel: Channel,
        /// Whose socket it is.
        connection: u64,
        /// Who it is from now on.
        caller: Caller,
    },
    /// Follow it no more.
    Unfollow {
        /// The channel, of this shard.
        channel: Channel,
        /// Who.
        connection: u64,
        /// What later frames have asked for stands.
        frame: u64,
        /// As a guard, who is pushed nothing.
        guard: bool,
        /// Resolves once nothing more of it is pushed.
        done: oneshot::Sender<()>,
    },
}

/// What slow work reports.
enum Done {
    People(anyhow::Result<people::Opened>),
    Opened { channel: Channel, result: anyhow::Result<open::Opened> },
    Widened(anyhow::Result<Subscriber>),
    Snapshot { channel: Channel, upto: u64, result: anyhow::Result<Vec<snapshot::Word>> },
    Barrier { channel: Channel, follower: Follower, result: anyhow::Result<StreamState> },
    Replayed { channel: Channel, replay: replay::Replay },
    Confirmed { channel: Channel, result: Option<rights::Confirmed> },
    Healed(heal::Healed),
}

/// What all feeds of a node share.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    pub(crate) shards: ShardCount,
    pub(crate) applied: AppliedWatch,
    pub(crate) ask: Ask,
    pub(crate) sessions: Sessions,
    pub(crate) positions: Arc<Positions>,
    pub(crate) people: PeopleHeard,
}

enum Entry {
    Opening(Opening),
    Heard(Box<Hub>),
}

/// A channel whose beginning is being asked for.
#[derive(Default)]
struct Opening {
    /// These wait for it.
    waiting: Vec<Follower>,
    /// What is heard meanwhile, where it is heard with others.
    gate: Vec<Message>,
    /// Something may have been lost meanwhile.
    doubt: bool,
}

/// Events that wait behind a gate; what comes more is healed from the log.
const GATE: usize = 1_000;

/// Events that are heard before the first of them is sent: what a socket gets of them leaves in one write.
const PASS: usize = 1_024;

/// A live message, and by which sort of subscription it came.
enum Live {
    Channel(Message),
    People(Message),
    Election,
}

type LiveStream = std::pin::Pin<Box<dyn Stream<Item = Live> + Send>>;

/// One shard's task.
pub(crate) struct Feed {
    shard: Shard,
    source: Source,
    entries: HashMap<Channel, Entry>,
    live: SelectAll<LiveStream>,
    interest: Interest,
    people: People,
    position: Position,
    /// While it is being healed nothing newer is pushed; the last event that was heard before.
    healing: Option<u64>,
    /// Another cause came up meanwhile: from here.
    heal_again: Option<u64>,
    done: mpsc::Sender<Done>,
    /// Channels whose sockets are to be sent something.
    unsent: Vec<Channel>,
    metrics: Arc<Deliveries>,
    latency: Latency,
}

impl Feed {
    /// Nothing is heard yet; slow work reports to `done`.
    fn new(shard: Shard, source: Source, done: mpsc::Sender<Done>) -> Self {
        Self {
            shard,
            source,
            entries: HashMap::new(),
            live: SelectAll::new(),
            interest: Interest::default(),
            people: People::default(),
            position: Position::default(),
            healing: None,
            heal_again: None,
            done,
            unsent: Vec::new(),
            metrics: Arc::new(Deliveries::new()),
            latency: Latency::new(),
        }
    }

    /// Runs a shard's task until `stop`.
    pub(crate) async fn run(
        shard: Shard,
        source: Source,
        mut commands: mpsc::Receiver<Command>,
        mut hints: broadcast::Receiver<SyncHint>,
        mut events: broadcast::Receiver<NatsEvent>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        // Reports are as bounded as the work that is under way.
        let (done, mut reports) = mpsc::channel(64);
        let mut feed = Self::new(shard, source, done);
        feed.open_people();
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let hears = feed.healing.is_none() && !feed.live.is_empty();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(live) = feed.live.next(), if hears => feed.hear_all(&live),
                Some(report) = reports.recv() => feed.report(report),
                command = commands.recv() => match command {
                    Some(command) => feed.command(command),
                    None => return Ok(()),
                },
                hint = hints.recv() => match hint {
                    Ok(hint) => feed.hint(&hint),
                    Err(broadcast::error::RecvError::Lagged(_)) => feed.heal("hint", None),
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                event = events.recv() => match event {
                    Ok(NatsEvent::Connected) => feed.heal("reconnect", None),
                    Ok(NatsEvent::SlowConsumer) => feed.heal("slow_consumer", None),
                    Ok(NatsEvent::Disconnected) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => feed.heal("reconnect", None),
                    Ok(NatsEvent::Closed) | Err(broadcast::error::RecvError::Closed) => {
                        anyhow::bail!("the connection to the broker is closed");
                    }
                },
                _ = tick.tick() => feed.tick(),
            }
            feed.send_all();
        }
    }

    /// Hears all that has come, so that it leaves together.
    fn hear_all(&mut self, first: &Live) {
        self.hear(first);
        for _ in 1..PASS {
            if self.healing.is_some() {
                return;
            }
            let Some(Some(live)) = unconstrained(self.live.next()).now_or_never() else { return };
            self.hear(&live);
        }
    }

    /// An event is to be sent to those who follow its channel.
    fn deliver(&mut self, channel: &Channel, heard: Heard<'_>) {
        if let Some(hub) = self.hub(channel)
            && hub.deliver(heard)
        {
            self.unsent.push(channel.clone());
        }
    }

    /// Sends all that is to be sent.
    fn send_all(&mut self) {
        for channel in std::mem::take(&mut self.unsent) {
            if let Some(hub) = self.hub(&channel) {
                hub.send();
            }
        }
        self.latency.record();
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Follow { channel, follower } => match self.entries.get_mut(&channel) {
                Some(Entry::Opening(opening)) => opening.waiting.push(follower),
                Some(Entry::Heard(_)) => self.resume(&channel, follower),
                None => {
                    self.open(channel.clone());
                    let opening = Opening { waiting: vec![follower], ..Opening::default() };
                    self.entries.insert(channel, Entry::Opening(opening));
                    self.widen();
                }
            },
            Command::Answer { channel, sender } => {
                // A channel that is not followed pushes nothing: the session answers by itself.
                if let Some(hub) = self.hub(&channel) {
                    hub.answers(sender);
                }
            }
            Command::ChangeCaller { channel, connection, caller } => {
                if let Some(hub) = self.hub(&channel) {
                    hub.change_caller(connection, &caller);
                }
            }
            Command::Late { seq } => self.heal("late", Some(seq.saturating_sub(1))),
            Command::Unfollow { channel, connection, frame, guard, done } => {
                match self.entries.get_mut(&channel) {
                    Some(Entry::Opening(opening)) => {
                        opening.waiting.retain(|follower| !follower.is_by(connection, frame, guard));
                    }
                    Some(Entry::Heard(hub)) => hub.remove(connection, frame, guard),
                    None => {}
                }
                // The session may be gone meanwhile: then nobody waits.
                let _ = done.send(());
            }
        }
    }

    fn report(&mut self, report: Done) {
        match report {
            Done::People(result) => self.people_opened(result),
            Done::Opened { channel, result } => self.opened(&channel, result),
            Done::Widened(result) => self.widened(result),
            Done::Snapshot { channel, upto, result } => self.snapshot_taken(&channel, upto, result),
            Done::Barrier { channel, follower, result } => self.barrier(&channel, follower, result),
            Done::Replayed { channel, replay } => self.replayed(&channel, replay),
            Done::Confirmed { channel, result } => self.confirmed(&channel, result),
            Done::Healed(healed) => self.healed(healed),
        }
    }

    fn hub(&mut self, channel: &Channel) -> Option<&mut Hub> {
        match self.entries.get_mut(channel) {
            Some(Entry::Heard(hub)) => Some(hub),
            _ => None,
        }
    }

    fn hint(&mut self, hint: &SyncHint) {
        if hint.channel.shard(self.source.shards) != self.shard {
            return;
        }
        let people_lack = matches!(hint.channel, Channel::User(_)) && self.people.last < hint.seq;
        if people_lack || self.hub(&hint.channel).is_some_and(|hub| hub.last < hint.seq) {
            self.heal("hint", Some(hint.seq.saturating_sub(1)));
        }
    }

    fn tick(&mut self) {
        if let Some(applied) = self.source.applied.current(self.shard) {
            if self.position.epoch().is_some_and(|epoch| epoch != applied.epoch) {
                self.heal("epoch", None);
            }
            self.position.note(applied.seq);
            self.confirm_rights(applied.seq);
        }
        self.source.positions.set(self.shard, &self.position);
        self.entries.retain(|_, entry| !matches!(entry, Entry::Heard(hub) if hub.is_stale()));
        self.count_crowds();
    }

    /// Closes every socket of the shard: the log has no longer what the node may have missed.
    fn close_all(&mut self) {
        for entry in self.entries.values() {
            if let Entry::Heard(hub) = entry {
                hub.outboxes().for_each(|outbox| outbox.close(CloseReason::Heal));
            }
        }
        // Those whose channels are being opened are let in by what the log says then.
        self.entries.retain(|_, entry| matches!(entry, Entry::Opening(_)));
    }
}
