//! Runs one task for each shard: it receives live events and pushes them to the subscribers of their channels.
//!
//! A shard's task owns all of its channels, so nothing here is locked. The task only decides: slow work (requests,
//! reads of the log) runs in tasks of its own and reports back.
//!
//! What must hold: before a channel is followed, its subscription stands and the stream's leader was asked, on the
//! same connection, where the stream ends (the barrier): every event that is stored after that is received. It does
//! not hold for signals between people, which are never stored and come by another connection. A signal of a loss is
//! handled before any live message that came after the loss.

pub(crate) mod access;
#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
mod catch_up;
pub(crate) mod channel;
mod confirm;
mod delivery_metrics;
mod inbox;
mod interest;
mod latency;
mod live;
mod loss_signals;
#[cfg(test)]
mod model;
mod open;
mod people;
mod position;
mod presence_map;
pub(crate) mod push_waiter;
mod received;
mod replay;
pub(crate) mod ring;
pub(crate) mod ring_budget;
mod snapshot;
pub(crate) mod subscribe;
mod subscribers;
mod task;
mod work;

pub(crate) use people::PeopleReady;
pub(crate) use position::ShardPositions;

use std::{collections::HashMap, sync::Arc};

use async_nats::{Client, Message, jetstream::Context};
use futures_util::StreamExt as _;
use log::{AppliedWatch, StreamState, SyncHint};
use protocol::{
    caller::Caller,
    id::{Shard, ShardCount},
    subject::Channel,
};
use service::{metric_names as names, nats::Losses};
use tokio::sync::oneshot;

use crate::encode::event::LiveEvent;

use crate::{
    api_client::ApiClient,
    outbox::registry::SocketRegistry,
    shard::{
        channel::{ChannelState, DeliveryMetrics},
        push_waiter::PushWaiter,
        ring_budget::RingBudget,
        subscribe::SubscribeRequest,
    },
};
use catch_up::CatchUps;
use confirm::PendingEvictions;
use inbox::{Inbox, LiveMessage, MessageStream};
use interest::RoomInterest;
use latency::DeliveryLatency;
use loss_signals::{LossSignal, LossSignals};
use people::PeopleProgress;
use position::SafePosition;
use received::ReceivedSet;
use replay::Replays;
use work::Work;

/// What sessions ask of a shard's task.
pub(crate) enum ShardCommand {
    /// Follow a channel.
    Subscribe {
        /// The channel, of this shard.
        channel: Channel,
        /// The socket, and what it has.
        request: SubscribeRequest,
    },
    /// Answer a socket once its own event was pushed to it.
    NotifyWhenPushed {
        /// The channel, of this shard.
        channel: Channel,
        /// The socket and its event.
        waiter: PushWaiter,
    },
    /// An event of a socket's own is late: its live copy may be lost.
    PushIsLate {
        /// The channel, of this shard.
        channel: Channel,
        /// The event.
        seq: u64,
    },
    /// A socket that follows a channel, or watches it, goes on as another caller.
    ChangeCaller {
        /// The channel, of this shard.
        channel: Channel,
        /// The socket's number on this node.
        socket_id: u64,
        /// The caller it has from now on.
        caller: Caller,
    },
    /// Stop following a channel.
    Unsubscribe {
        /// The channel, of this shard.
        channel: Channel,
        /// The socket's number on this node.
        socket_id: u64,
        /// The socket's frame that asks: what later frames have asked for stays.
        frame_number: u64,
        /// Ends its watch of the right to be there instead, which is pushed no events.
        is_watcher: bool,
        /// Resolves once nothing more of the channel is pushed to it.
        done: oneshot::Sender<()>,
    },
}

/// The result of slow work.
enum WorkResult {
    People(anyhow::Result<people::OpenedPeople>),
    Opened { channel: Channel, result: anyhow::Result<open::OpenedChannel> },
    WildcardOpened(anyhow::Result<MessageStream>),
    Snapshot { channel: Channel, upto: u64, result: anyhow::Result<Vec<snapshot::SnapshotEntry>> },
    StreamEnd { channel: Channel, request: SubscribeRequest, result: anyhow::Result<StreamState> },
    Replayed { channel: Channel, replay: replay::FinishedReplay },
    Confirmed(Vec<(Channel, Option<confirm::ChannelConfirmation>)>),
    CatchUp(catch_up::CatchUpReport),
}

/// What the tasks of all shards of a node share.
#[derive(Clone)]
pub(crate) struct ShardContext {
    pub(crate) client: Client,
    /// Which shard each subscription of that client belongs to: what one loses, its shard catches up.
    pub(crate) losses: Losses,
    /// A connection of its own for signals between people: no number of them delays stored events or makes them lost.
    /// `typing` is not stored either, but comes by the subscription of its room, on the other connection.
    pub(crate) unstored_client: Client,
    pub(crate) jetstream: Context,
    pub(crate) shards: ShardCount,
    pub(crate) applied: AppliedWatch,
    pub(crate) api: ApiClient,
    pub(crate) sockets: SocketRegistry,
    pub(crate) positions: Arc<ShardPositions>,
    pub(crate) ring_budget: Arc<RingBudget>,
    pub(crate) people_ready: PeopleReady,
}

enum ChannelEntry {
    Opening(Opening),
    Open(Box<ChannelState>),
}

/// A channel that is being subscribed to: where its stream ends is being asked.
#[derive(Default)]
struct Opening {
    /// Subscribers that wait for it.
    requests: Vec<SubscribeRequest>,
    /// Live messages that came meanwhile, where its room is received with all others.
    buffered: Vec<Message>,
    /// Something may have been lost meanwhile.
    may_lack_events: bool,
}

/// Maximum messages that wait while a channel is being opened. Where more come, the channel is caught up from the log.
const BUFFERED_MAX: usize = if cfg!(test) { 3 } else { 1_000 };

impl ShardContext {
    /// Subscribes for a shard, which is signalled where the subscription loses messages.
    async fn subscribe(&self, shard: Shard, subject: String) -> anyhow::Result<MessageStream> {
        Ok(self.losses.assign(shard, self.client.subscribe(subject).await?).boxed())
    }
}

/// One shard's task.
pub(crate) struct ShardTask {
    shard: Shard,
    context: ShardContext,
    channels: HashMap<Channel, ChannelEntry>,
    inbox: Inbox,
    loss_signals: LossSignals,
    room_interest: RoomInterest,
    people: PeopleProgress,
    position: SafePosition,
    /// Events above that position that were pushed.
    received: ReceivedSet,
    /// While a catch-up runs no live event is pushed.
    catch_ups: CatchUps,
    pending_evictions: PendingEvictions,
    replays: Replays,
    /// Slow work to start.
    new_work: Vec<Work>,
    /// Channels to flush: events were delivered to them and their frames are not sent yet.
    flush_list: Vec<Channel>,
    metrics: Arc<DeliveryMetrics>,
    latency: DeliveryLatency,
}

impl ShardTask {
    /// A shard without channels or subscriptions; the first work subscribes for its people.
    fn new(shard: Shard, context: ShardContext, signals: LossSignals) -> Self {
        Self {
            shard,
            context,
            channels: HashMap::new(),
            inbox: Inbox::new(),
            loss_signals: signals,
            room_interest: RoomInterest::default(),
            people: PeopleProgress::default(),
            position: SafePosition::default(),
            received: ReceivedSet::default(),
            catch_ups: CatchUps::default(),
            pending_evictions: PendingEvictions::default(),
            replays: Replays::default(),
            new_work: vec![Work::People],
            flush_list: Vec::new(),
            metrics: Arc::new(DeliveryMetrics::new()),
            latency: DeliveryLatency::new(),
        }
    }

    /// Delivers an event to the subscribers of its channel, unless it was delivered before.
    fn deliver(&mut self, channel: &Channel, event: LiveEvent<'_>) {
        let Some(ChannelEntry::Open(channel_state)) = self.channels.get_mut(channel) else { return };
        if event.seq > channel_state.last_seq {
            if channel_state.queue(event) {
                self.flush_list.push(channel.clone());
            }
            self.received.insert(event.seq);
        } else if event.seq > channel_state.start_seq() && !self.received.contains(event.seq) {
            let closed = channel_state.apply_late(event, &self.context.positions.frame());
            self.received.insert(event.seq);
            metrics::counter!(names::FOUND_LATE_TOTAL).increment(1);
            tracing::warn!(%channel, seq = event.seq, closed, "an event was found after later ones were pushed");
        }
    }

    /// Whether an event of a channel that is followed here should have been pushed, and was not.
    fn is_missing(&self, channel: &Channel, seq: u64) -> bool {
        match self.channels.get(channel) {
            Some(ChannelEntry::Open(channel_state)) => {
                seq > channel_state.start_seq()
                    && (seq > channel_state.last_seq || !self.received.contains(seq))
            }
            _ => false,
        }
    }

    /// Flushes every channel that has unsent frames.
    fn flush_all(&mut self) {
        for channel in std::mem::take(&mut self.flush_list) {
            if let Some(channel_state) = self.open_channel_mut(&channel) {
                channel_state.flush();
            }
        }
        self.latency.record();
    }

    fn handle_command(&mut self, command: ShardCommand) {
        match command {
            ShardCommand::Subscribe { channel, request } => match self.channels.get_mut(&channel) {
                Some(ChannelEntry::Opening(opening)) => opening.requests.push(request),
                Some(ChannelEntry::Open(_)) => self.admit_or_ask_stream_end(&channel, request),
                None => {
                    self.start_opening(channel.clone());
                    let opening = Opening { requests: vec![request], ..Opening::default() };
                    self.channels.insert(channel, ChannelEntry::Opening(opening));
                    self.open_wildcard_if_many();
                }
            },
            ShardCommand::NotifyWhenPushed { channel, waiter: sender } => {
                self.notify_when_pushed(&channel, sender);
            }
            ShardCommand::PushIsLate { channel, seq } => {
                if self.is_missing(&channel, seq) {
                    self.start_catch_up("late", Some(seq.saturating_sub(1)));
                }
            }
            ShardCommand::ChangeCaller { channel, socket_id, caller } => {
                if let Some(channel_state) = self.open_channel_mut(&channel) {
                    channel_state.change_caller(socket_id, &caller);
                }
            }
            ShardCommand::Unsubscribe { channel, socket_id, frame_number, is_watcher, done } => {
                match self.channels.get_mut(&channel) {
                    Some(ChannelEntry::Opening(opening)) => {
                        opening
                            .requests
                            .retain(|request| !request.is_from(socket_id, frame_number, is_watcher));
                    }
                    Some(ChannelEntry::Open(channel_state)) => {
                        channel_state.remove(socket_id, frame_number, is_watcher);
                    }
                    None => {}
                }
                // The session may be gone meanwhile: then nobody waits.
                let _ = done.send(());
            }
        }
    }

    /// Notes a socket that waits for the push of its own event, and answers it then.
    fn notify_when_pushed(&mut self, channel: &Channel, waiter: PushWaiter) {
        let seq = waiter.seq;
        let is_lost = self.is_missing(channel, seq);
        // A channel that nobody follows pushes nothing: this drops `done`, and the session answers by itself.
        let Some(channel_state) = self.open_channel_mut(channel) else { return };
        if is_lost && seq <= channel_state.last_seq {
            // Later events were pushed already. This drops `done`: the session knows that no push will answer it.
            self.start_catch_up("late", Some(seq - 1));
        } else {
            channel_state.notify_when_pushed(waiter);
        }
    }

    /// # Errors
    /// When the shard's events can't be received any more.
    fn take_work_result(&mut self, report: WorkResult) -> anyhow::Result<()> {
        match report {
            WorkResult::People(result) => self.finish_opening_people(result),
            WorkResult::Opened { channel, result } => self.finish_opening(&channel, result),
            WorkResult::WildcardOpened(result) => self.finish_opening_wildcard(result),
            WorkResult::Snapshot { channel, upto, result } => self.merge_snapshot(&channel, upto, result),
            WorkResult::StreamEnd { channel, request, result } => {
                self.admit_at_stream_end(&channel, request, result);
            }
            WorkResult::Replayed { channel, replay } => self.finish_replay(&channel, replay),
            WorkResult::Confirmed(answers) => {
                for (channel, answer) in answers {
                    self.take_confirmation(&channel, answer);
                }
            }
            WorkResult::CatchUp(healed) => return self.take_catch_up_report(healed),
        }
        Ok(())
    }

    fn open_channel_mut(&mut self, channel: &Channel) -> Option<&mut ChannelState> {
        match self.channels.get_mut(channel) {
            Some(ChannelEntry::Open(channel_state)) => Some(channel_state),
            _ => None,
        }
    }

    /// Notes the stream's epoch and end, where they are not known yet.
    fn set_first_position(&mut self, state: StreamState) {
        if self.position.safe_seq().is_none() {
            self.position.set_first(state.epoch, state.last);
            self.received.reset(state.last);
        }
    }

    /// Handles api's hint that a live event may have been lost.
    fn check_hint(&mut self, hint: &SyncHint) {
        if hint.channel.shard(self.context.shards) != self.shard {
            return;
        }
        if let Some(ChannelEntry::Opening(opening)) = self.channels.get_mut(&hint.channel) {
            // The event may have been stored after the barrier.
            opening.may_lack_events = true;
        }
        let is_missing_for_people =
            matches!(hint.channel, Channel::User(_)) && self.people.is_missing(hint.seq);
        if is_missing_for_people || self.is_missing(&hint.channel, hint.seq) {
            self.catch_up_open_channels("hint", Some(hint.seq.saturating_sub(1)));
        }
    }
}
