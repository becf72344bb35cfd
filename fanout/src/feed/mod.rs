//! One task a shard: it hears the shard's live events and pushes them to who follows.
//!
//! All of a shard's channels are owned by its task, so nothing here is locked. What must hold:
//! before a channel is followed its subscription stands and the stream's leader was asked, on the
//! same connection, where the stream ends (the barrier): whatever is stored after that is heard.
//! Slow work (asking, reading the log) runs beside the task and reports back to it.

mod heal;
mod open;
mod position;
mod replay;

use std::{collections::HashMap, time::Duration};

use async_nats::{Client, Message, header, jetstream::Context};
use futures_util::{Stream, StreamExt as _, stream::SelectAll};
use shared::{
    id::{Shard, ShardCount},
    log::{AppliedWatch, SyncHint},
    metric_names as names,
    nats::NatsEvent,
    subject::{self, Channel},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    feed::position::Position,
    hub::channel::{Deliveries, Follower, Heard},
    session::close::CloseReason,
};

/// What sessions ask of a shard's task.
pub(crate) enum Command {
    /// Follow a channel.
    Follow {
        /// The channel, of this shard.
        channel: Channel,
        /// Who.
        follower: Follower,
    },
    /// Follow it no more.
    Unfollow {
        /// The channel, of this shard.
        channel: Channel,
        /// Who.
        connection: u64,
    },
}

/// What slow work reports.
enum Done {
    Opened { channel: Channel, result: anyhow::Result<open::Opened> },
    Barrier { channel: Channel, follower: Follower, result: anyhow::Result<shared::log::StreamState> },
    Replayed { channel: Channel, replay: replay::Replay },
    Healed(heal::Healed),
}

/// What all feeds of a node share.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    pub(crate) shards: ShardCount,
    pub(crate) applied: AppliedWatch,
}

enum Entry {
    /// Its subscription is being made; these wait for it.
    Opening(Vec<Follower>),
    Heard(Box<Heard>),
}

type Live = std::pin::Pin<Box<dyn Stream<Item = Message> + Send>>;

/// One shard's task.
pub(crate) struct Feed {
    shard: Shard,
    source: Source,
    entries: HashMap<Channel, Entry>,
    live: SelectAll<Live>,
    position: Position,
    /// While it is being healed nothing newer is pushed.
    healing: bool,
    /// Another cause came up meanwhile: from here.
    heal_again: Option<u64>,
    done: mpsc::Sender<Done>,
    metrics: Deliveries,
}

impl Feed {
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
        let mut feed = Self {
            shard,
            source,
            entries: HashMap::new(),
            live: SelectAll::new(),
            position: Position::default(),
            healing: false,
            heal_again: None,
            done,
            metrics: Deliveries::new(),
        };
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let hears = !feed.healing && !feed.live.is_empty();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(message) = feed.live.next(), if hears => feed.hear(&message),
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
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Follow { channel, follower } => match self.entries.get_mut(&channel) {
                Some(Entry::Opening(waiting)) => waiting.push(follower),
                Some(Entry::Heard(_)) => self.resume(&channel, follower),
                None => {
                    self.open(channel.clone());
                    self.entries.insert(channel, Entry::Opening(vec![follower]));
                }
            },
            Command::Unfollow { channel, connection } => match self.entries.get_mut(&channel) {
                Some(Entry::Opening(waiting)) => waiting.retain(|f| f.connection != connection),
                Some(Entry::Heard(heard)) => heard.remove(connection),
                None => {}
            },
        }
    }

    fn report(&mut self, report: Done) {
        match report {
            Done::Opened { channel, result } => self.opened(&channel, result),
            Done::Barrier { channel, follower, result } => self.barrier(&channel, follower, result),
            Done::Replayed { channel, replay } => self.replayed(&channel, replay),
            Done::Healed(healed) => self.healed(healed),
        }
    }

    fn heard(&mut self, channel: &Channel) -> Option<&mut Heard> {
        match self.entries.get_mut(channel) {
            Some(Entry::Heard(heard)) => Some(heard),
            _ => None,
        }
    }

    /// A live event. One without a sequence was not stored: it is nobody's to send.
    fn hear(&mut self, message: &Message) {
        let number = |name| message.headers.as_ref()?.get_last(name)?.as_str().parse::<u64>().ok();
        let (Some(seq), Ok(parsed)) = (number(header::NATS_SEQUENCE), subject::parse(&message.subject))
        else {
            metrics::counter!(names::DROPPED_FRAMES_TOTAL, "class" => "unstored").increment(1);
            return;
        };
        let before = number(header::NATS_LAST_SEQUENCE).unwrap_or(0);
        let metrics = self.metrics.clone();
        let Some(heard) = self.heard(&parsed.channel) else { return };
        // 0 is "none, or unknown".
        if seq > heard.last
            && let Some(known) = heard.gap(parsed.event, before)
        {
            self.heal("gap", Some(known));
            return;
        }
        heard.deliver(&parsed.channel, parsed.event, seq, &message.payload, &metrics);
    }

    fn hint(&mut self, hint: &SyncHint) {
        if hint.channel.shard(self.source.shards) != self.shard {
            return;
        }
        if self.heard(&hint.channel).is_some_and(|heard| heard.last < hint.seq) {
            self.heal("hint", Some(hint.seq.saturating_sub(1)));
        }
    }

    fn tick(&mut self) {
        if let Some(applied) = self.source.applied.current(self.shard) {
            self.position.note(applied.seq);
        }
        self.entries.retain(|_, entry| !matches!(entry, Entry::Heard(heard) if heard.is_stale()));
    }

    /// Closes every socket of the shard: the log has no longer what the node may have missed.
    fn close_all(&mut self) {
        for entry in self.entries.values() {
            if let Entry::Heard(heard) = entry {
                heard.outboxes().for_each(|outbox| outbox.close(CloseReason::Heal));
            }
        }
        self.entries.clear();
    }
}
