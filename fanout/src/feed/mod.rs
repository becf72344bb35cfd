//! One task a shard: it hears the shard's live events and pushes them to who follows.
//!
//! All of a shard's channels are owned by its task, so nothing here is locked. What must hold:
//! before a channel is followed its subscription stands and the stream's leader was asked, on the
//! same connection, where the stream ends (the barrier): whatever is stored after that is heard.
//! What says that something was lost is known before anything that came after it is heard.
//! The task only decides: slow work (asking, reading the log) is begun beside it and reports back.

#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
mod heal;
mod heard;
mod latency;
mod live;
#[cfg(test)]
mod model;
mod open;
mod people;
mod position;
mod replay;
mod rights;
mod signals;
mod snapshot;
mod step;
mod wide;
mod work;

pub(crate) use people::PeopleHeard;
pub(crate) use position::Positions;

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
};

use async_nats::{Client, Message, jetstream::Context};
use futures_util::{Stream, StreamExt as _, stream::SelectAll};
use shared::{
    id::{Shard, ShardCount},
    log::{AppliedWatch, StreamState, SyncHint},
    metric_names as names,
    nats::Losses,
    rules::Caller,
    subject::Channel,
};
use tokio::sync::oneshot;

use crate::{
    ask::Ask,
    hub::{
        channel::{Deliveries, Heard, Hub, Sender},
        follower::Follower,
        rings::Rings,
        sessions::Sessions,
    },
};
use heal::Healing;
use heard::HeardSet;
use latency::Latency;
use people::People;
use position::Position;
use signals::{Signal, Signals};
use wide::Interest;
use work::Work;

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
        /// The channel, of this shard.
        channel: Channel,
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
    Widened(anyhow::Result<Messages>),
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
    /// Who carries which subscription of that client.
    pub(crate) losses: Losses,
    /// A connection of its own for what is never stored: however much of that comes, nothing stored is lost by it.
    pub(crate) unstored: Client,
    pub(crate) jetstream: Context,
    pub(crate) shards: ShardCount,
    pub(crate) applied: AppliedWatch,
    pub(crate) ask: Ask,
    pub(crate) sessions: Sessions,
    pub(crate) positions: Arc<Positions>,
    pub(crate) rings: Arc<Rings>,
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
const GATE: usize = if cfg!(test) { 3 } else { 1_000 };

/// A live message, and by which sort of subscription it came.
enum Live {
    Channel(Message),
    People(Message),
}

/// What a subscription brings.
type Messages = Pin<Box<dyn Stream<Item = Message> + Send>>;

impl Source {
    /// A subscription that the shard carries: what it loses, that shard heals.
    async fn subscribe(&self, shard: Shard, subject: String) -> anyhow::Result<Messages> {
        Ok(self.losses.carry(shard, self.client.subscribe(subject).await?).boxed())
    }
}

/// One shard's task.
pub(crate) struct Feed {
    shard: Shard,
    source: Source,
    entries: HashMap<Channel, Entry>,
    live: SelectAll<Pin<Box<dyn Stream<Item = Live> + Send>>>,
    /// Taken from there, and heard once it is known whether something was lost before.
    taken: VecDeque<Live>,
    signals: Signals,
    interest: Interest,
    people: People,
    position: Position,
    /// What the channels were pushed above that position.
    heard: HeardSet,
    /// While it is being healed nothing newer is pushed.
    healing: Option<Healing>,
    /// Another cause came up meanwhile: from here, or from what will be sure then if that is less.
    heal_again: Option<u64>,
    /// Channels that were opened during a healing, until it is over.
    kept: Vec<(Channel, open::Opened)>,
    /// People who may not be where they are.
    leaving: Vec<rights::Leaving>,
    /// Channels that are read back now,
    replaying: usize,
    /// and those that wait for their turn.
    to_replay: VecDeque<Channel>,
    /// To be begun beside the task.
    todo: Vec<Work>,
    /// Channels whose sockets are to be sent something.
    unsent: Vec<Channel>,
    metrics: Arc<Deliveries>,
    latency: Latency,
}

impl Feed {
    /// Nothing is heard yet.
    fn new(shard: Shard, source: Source, signals: Signals) -> Self {
        Self {
            shard,
            source,
            entries: HashMap::new(),
            live: SelectAll::new(),
            taken: VecDeque::new(),
            signals,
            interest: Interest::default(),
            people: People::default(),
            position: Position::default(),
            heard: HeardSet::default(),
            healing: None,
            heal_again: None,
            kept: Vec::new(),
            leaving: Vec::new(),
            replaying: 0,
            to_replay: VecDeque::new(),
            todo: vec![Work::People],
            unsent: Vec::new(),
            metrics: Arc::new(Deliveries::new()),
            latency: Latency::new(),
        }
    }

    /// An event is to be sent to those who follow its channel, unless it was heard before.
    fn deliver(&mut self, channel: &Channel, heard: Heard<'_>) {
        let Some(Entry::Heard(hub)) = self.entries.get_mut(channel) else { return };
        if heard.seq > hub.last {
            if hub.deliver(heard) {
                self.unsent.push(channel.clone());
            }
            self.heard.insert(heard.seq);
        } else if heard.seq > hub.began() && !self.heard.has(heard.seq) {
            let closed = hub.find(heard, &self.source.positions.frame());
            self.heard.insert(heard.seq);
            metrics::counter!(names::FOUND_LATE_TOTAL).increment(1);
            tracing::warn!(%channel, seq = heard.seq, closed, "an event was found after later ones were pushed");
        }
    }

    /// Whether an event of a channel that is heard should have been pushed, and was not.
    fn lacks(&self, channel: &Channel, seq: u64) -> bool {
        match self.entries.get(channel) {
            Some(Entry::Heard(hub)) => seq > hub.began() && (seq > hub.last || !self.heard.has(seq)),
            _ => false,
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
            Command::Answer { channel, sender } => self.answer(&channel, sender),
            Command::Late { channel, seq } => {
                if self.lacks(&channel, seq) {
                    self.heal("late", Some(seq.saturating_sub(1)));
                }
            }
            Command::ChangeCaller { channel, connection, caller } => {
                if let Some(hub) = self.hub(&channel) {
                    hub.change_caller(connection, &caller);
                }
            }
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

    /// Tells a socket once the event was pushed that is its answer.
    fn answer(&mut self, channel: &Channel, sender: Sender) {
        let seq = sender.seq;
        let is_lost = self.lacks(channel, seq);
        // A channel that is not followed pushes nothing: the session answers by itself.
        let Some(hub) = self.hub(channel) else { return };
        if is_lost && seq <= hub.last {
            // Later ones were pushed already: its `done` is dropped, and the session knows that it can't be told.
            self.heal("late", Some(seq - 1));
        } else {
            hub.answers(sender);
        }
    }

    /// # Errors
    /// Where the shard can't be heard any more.
    fn report(&mut self, report: Done) -> anyhow::Result<()> {
        match report {
            Done::People(result) => self.people_opened(result),
            Done::Opened { channel, result } => self.opened(&channel, result),
            Done::Widened(result) => self.widened(result),
            Done::Snapshot { channel, upto, result } => self.snapshot_taken(&channel, upto, result),
            Done::Barrier { channel, follower, result } => self.barrier(&channel, follower, result),
            Done::Replayed { channel, replay } => self.replayed(&channel, replay),
            Done::Confirmed { channel, result } => self.confirmed(&channel, result),
            Done::Healed(healed) => return self.healed(healed),
        }
        Ok(())
    }

    fn hub(&mut self, channel: &Channel) -> Option<&mut Hub> {
        match self.entries.get_mut(channel) {
            Some(Entry::Heard(hub)) => Some(hub),
            _ => None,
        }
    }

    /// The first that is known of the stream.
    fn begin(&mut self, state: StreamState) {
        if self.position.sure().is_none() {
            self.position.begin(state.epoch, state.last);
            self.heard.begin_again(state.last);
        }
    }

    /// A live copy may have been lost.
    fn hint(&mut self, hint: &SyncHint) {
        if hint.channel.shard(self.source.shards) != self.shard {
            return;
        }
        if let Some(Entry::Opening(opening)) = self.entries.get_mut(&hint.channel) {
            // It may have been stored after the channel's beginning.
            opening.doubt = true;
        }
        let people_lack = matches!(hint.channel, Channel::User(_)) && self.people.lack(hint.seq);
        if people_lack || self.lacks(&hint.channel, hint.seq) {
            self.heal_heard("hint", Some(hint.seq.saturating_sub(1)));
        }
    }
}
