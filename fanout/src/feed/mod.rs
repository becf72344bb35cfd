//! One task a shard: it receives the shard's live events and pushes them to the sockets that follow their channels.
//!
//! A shard's task owns all of its channels, so nothing here is locked. The task only decides: slow work (requests,
//! reads of the log) runs in tasks of its own and reports back.
//!
//! What must hold: before a channel is followed, its subscription stands and the stream's leader was asked, on the
//! same connection, where the stream ends (the barrier): every event that is stored after that is received. It does
//! not hold for signals between people, which are never stored and come by another connection. A signal of a loss is
//! handled before any live message that came after the loss.

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
use log::{AppliedWatch, StreamState, SyncHint};
use protocol::{
    caller::Caller,
    id::{Shard, ShardCount},
    subject::Channel,
};
use service::{metric_names as names, nats::Losses};
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
        /// The socket, and what it has.
        follower: Follower,
    },
    /// Answer a socket once its own event was pushed to it.
    Answer {
        /// The channel, of this shard.
        channel: Channel,
        /// The socket and its event.
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
        /// The socket's number on this node.
        connection: u64,
        /// The caller it has from now on.
        caller: Caller,
    },
    /// Stop following a channel.
    Unfollow {
        /// The channel, of this shard.
        channel: Channel,
        /// The socket's number on this node.
        connection: u64,
        /// The socket's frame that asks: what later frames have asked for stays.
        frame: u64,
        /// Ends its watch of the right to be there instead, which is pushed no events.
        guard: bool,
        /// Resolves once nothing more of the channel is pushed to it.
        done: oneshot::Sender<()>,
    },
}

/// The result of slow work.
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

/// What the tasks of all shards of a node share.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) client: Client,
    /// Which shard each subscription of that client belongs to: what one loses, its shard heals.
    pub(crate) losses: Losses,
    /// A connection of its own for signals between people: no number of them delays stored events or makes them lost.
    /// `typing` is not stored either, but comes by the subscription of its room, on the other connection.
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

/// A channel that is being subscribed to: where its stream ends is being asked.
#[derive(Default)]
struct Opening {
    /// Followers that wait for it.
    waiting: Vec<Follower>,
    /// Live messages that came meanwhile, where its room is received with all others.
    gate: Vec<Message>,
    /// Something may have been lost meanwhile.
    doubt: bool,
}

/// Maximum messages that wait while a channel is being opened. Where more come, the channel is healed from the log.
const GATE: usize = if cfg!(test) { 3 } else { 1_000 };

/// A live message, and by which sort of subscription it came.
enum Live {
    Channel(Message),
    People(Message),
}

/// The messages of a subscription.
type Messages = Pin<Box<dyn Stream<Item = Message> + Send>>;

impl Source {
    /// Subscribes for a shard, which is signalled where the subscription loses messages.
    async fn subscribe(&self, shard: Shard, subject: String) -> anyhow::Result<Messages> {
        Ok(self.losses.assign(shard, self.client.subscribe(subject).await?).boxed())
    }
}

/// One shard's task.
pub(crate) struct Feed {
    shard: Shard,
    source: Source,
    entries: HashMap<Channel, Entry>,
    live: SelectAll<Pin<Box<dyn Stream<Item = Live> + Send>>>,
    /// Messages taken from `live`, which wait until the signals that came before them are handled.
    taken: VecDeque<Live>,
    signals: Signals,
    interest: Interest,
    people: People,
    position: Position,
    /// Events above that position that were pushed.
    heard: HeardSet,
    /// The healing under way: no live event is pushed meanwhile.
    healing: Option<Healing>,
    /// Sequence after which to heal once more, because another cause came up during the healing. The position that
    /// is sure by then counts where it is lower.
    heal_again: Option<u64>,
    /// Channels that were opened during the healing, until it is over.
    kept: Vec<(Channel, open::Opened)>,
    /// People whose right to a channel has ended, until they were pushed everything from before that.
    leaving: Vec<rights::Leaving>,
    /// Number of reads of the log for resuming followers that run now.
    replaying: usize,
    /// Channels whose read is queued: few run at a time.
    to_replay: VecDeque<Channel>,
    /// Slow work to start.
    todo: Vec<Work>,
    /// Channels to flush: events were delivered to them and their frames are not sent yet.
    unsent: Vec<Channel>,
    metrics: Arc<Deliveries>,
    latency: Latency,
}

impl Feed {
    /// A shard without channels or subscriptions; the first work subscribes for its people.
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

    /// Delivers an event to the followers of its channel, unless it was delivered before.
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

    /// Whether an event of a channel that is followed here should have been pushed, and was not.
    fn lacks(&self, channel: &Channel, seq: u64) -> bool {
        match self.entries.get(channel) {
            Some(Entry::Heard(hub)) => seq > hub.began() && (seq > hub.last || !self.heard.has(seq)),
            _ => false,
        }
    }

    /// Flushes every channel that has unsent frames.
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

    /// Notes a socket that waits for the push of its own event, and answers it then.
    fn answer(&mut self, channel: &Channel, sender: Sender) {
        let seq = sender.seq;
        let is_lost = self.lacks(channel, seq);
        // A channel that nobody follows pushes nothing: this drops `done`, and the session answers by itself.
        let Some(hub) = self.hub(channel) else { return };
        if is_lost && seq <= hub.last {
            // Later events were pushed already. This drops `done`: the session knows that no push will answer it.
            self.heal("late", Some(seq - 1));
        } else {
            hub.answers(sender);
        }
    }

    /// # Errors
    /// When the shard's events can't be received any more.
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

    /// Notes the stream's epoch and end, where they are not known yet.
    fn begin(&mut self, state: StreamState) {
        if self.position.sure().is_none() {
            self.position.begin(state.epoch, state.last);
            self.heard.begin_again(state.last);
        }
    }

    /// Handles api's hint that a live event may have been lost.
    fn hint(&mut self, hint: &SyncHint) {
        if hint.channel.shard(self.source.shards) != self.shard {
            return;
        }
        if let Some(Entry::Opening(opening)) = self.entries.get_mut(&hint.channel) {
            // The event may have been stored after the barrier.
            opening.doubt = true;
        }
        let people_lack = matches!(hint.channel, Channel::User(_)) && self.people.lack(hint.seq);
        if people_lack || self.lacks(&hint.channel, hint.seq) {
            self.heal_heard("hint", Some(hint.seq.saturating_sub(1)));
        }
    }
}
