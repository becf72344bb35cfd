//! Registers the channels of one shard: which are open, which are being opened, and which events they were delivered.
//!
//! ```text
//!                     subscribe, barrier, snapshot            30 s without subscribers
//! (no entry) ------> Opening ----------------------> Open -----------------------> (no entry)
//!    ^  first         |  ^  |                          |
//!    |  subscriber    |  +--+ the barrier is older     | the log was made anew: every socket is closed
//!    |                |       than what may be lost    v
//!    +----------------+                             (no entry)
//!      it failed: sessions answer 503
//! ```

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::Message;
use bytes::Bytes;
use log::StreamState;
use protocol::{id::Shard, subject::Channel};
use service::metric_names as names;
use tokio::sync::oneshot;

use super::{
    channel::{AdmissionStep, ChannelState, DeliveryMetrics},
    open::{Opening, OpeningQueue},
    position::ShardPositions,
    received::ReceivedSet,
    subscribe::SubscribeRequest,
};
use crate::encode::event::LiveEvent;

enum ChannelEntry {
    Opening(Opening),
    Open(Box<ChannelState>),
}

/// The channels of a shard.
pub(super) struct Channels {
    shard: Shard,
    /// The positions from which sockets resume that lack an event which is found late.
    positions: Arc<ShardPositions>,
    entries: HashMap<Channel, ChannelEntry>,
    /// Events above the shard's safe position that were delivered.
    received: ReceivedSet,
    /// Channels to flush: events were delivered to them and their frames are not sent yet.
    flush_list: Vec<Channel>,
    metrics: Arc<DeliveryMetrics>,
}

/// What has to be done for a subscriber of a channel.
pub(super) enum SubscribeStep {
    /// Nothing: it waits for the opening of the channel.
    Wait,
    /// The channel has to be opened.
    Open,
    /// The channel is open.
    Admission(AdmissionStep),
}

/// What has to be done for a channel whose barrier is known.
pub(super) enum OpeningStep {
    /// Nothing: it is not being opened any more.
    Ignore,
    /// It has to be opened again: events after its barrier may be lost.
    OpenAgain,
    /// It is open. What waited for it has to be handled now.
    Opened(OpeningQueue),
}

impl Channels {
    pub(super) fn new(shard: Shard, positions: Arc<ShardPositions>) -> Self {
        Self {
            shard,
            positions,
            entries: HashMap::new(),
            received: ReceivedSet::default(),
            flush_list: Vec::new(),
            metrics: Arc::new(DeliveryMetrics::new()),
        }
    }

    /// Number of channels that are open or being opened.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The state of an open channel.
    pub(super) fn get(&self, channel: &Channel) -> Option<&ChannelState> {
        match self.entries.get(channel) {
            Some(ChannelEntry::Open(channel_state)) => Some(channel_state),
            _ => None,
        }
    }

    /// The state of an open channel, to change it.
    pub(super) fn get_mut(&mut self, channel: &Channel) -> Option<&mut ChannelState> {
        match self.entries.get_mut(channel) {
            Some(ChannelEntry::Open(channel_state)) => Some(channel_state),
            _ => None,
        }
    }

    /// All open channels.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Channel, &ChannelState)> {
        self.entries.iter().filter_map(|(channel, entry)| match entry {
            ChannelEntry::Open(channel_state) => Some((channel, &**channel_state)),
            ChannelEntry::Opening(_) => None,
        })
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (&Channel, &mut ChannelState)> {
        self.entries.iter_mut().filter_map(|(channel, entry)| match entry {
            ChannelEntry::Open(channel_state) => Some((channel, &mut **channel_state)),
            ChannelEntry::Opening(_) => None,
        })
    }

    /// Admits a subscriber to an open channel, or queues its request until the channel is open.
    pub(super) fn subscribe(&mut self, channel: &Channel, request: SubscribeRequest) -> SubscribeStep {
        match self.entries.get_mut(channel) {
            Some(ChannelEntry::Opening(opening)) => {
                opening.add(request);
                SubscribeStep::Wait
            }
            Some(ChannelEntry::Open(channel_state)) => {
                SubscribeStep::Admission(channel_state.admit_or_ask_stream_end(request))
            }
            None => {
                self.entries.insert(channel.clone(), ChannelEntry::Opening(Opening::new(request)));
                SubscribeStep::Open
            }
        }
    }

    /// Removes a subscriber, or drops its request, unless a frame later than `frame_number` asked for it.
    pub(super) fn unsubscribe(
        &mut self,
        channel: &Channel,
        socket_id: u64,
        frame_number: u64,
        is_watcher: bool,
    ) {
        match self.entries.get_mut(channel) {
            Some(ChannelEntry::Opening(opening)) => opening.remove(socket_id, frame_number, is_watcher),
            Some(ChannelEntry::Open(channel_state)) => {
                channel_state.remove(socket_id, frame_number, is_watcher);
            }
            None => {}
        }
    }

    /// Opens a channel that is being opened. `is_stale`: its barrier lies before the shard's safe position, or in
    /// another epoch.
    ///
    /// What must hold: a channel begins no earlier than the safe position, in the same epoch, with nothing lost
    /// since. Otherwise it is opened again.
    pub(super) fn finish_opening(
        &mut self,
        channel: &Channel,
        barrier: StreamState,
        is_stale: bool,
        own_subscription: oneshot::Sender<()>,
    ) -> OpeningStep {
        let Some(ChannelEntry::Opening(opening)) = self.entries.get_mut(channel) else {
            return OpeningStep::Ignore;
        };
        let Some(queue) = opening.finish(is_stale) else { return OpeningStep::OpenAgain };
        self.open(channel, barrier.last, barrier.epoch, own_subscription);
        OpeningStep::Opened(queue)
    }

    /// Adds an open channel, whose state is complete from `last` on. Dropping the channel ends `own_subscription`.
    pub(super) fn open(
        &mut self,
        channel: &Channel,
        last: u64,
        epoch: u64,
        own_subscription: oneshot::Sender<()>,
    ) {
        let channel_state = ChannelState::new(
            channel.clone(),
            self.shard.index(),
            last,
            epoch,
            own_subscription,
            self.metrics.clone(),
        );
        self.entries.insert(channel.clone(), ChannelEntry::Open(Box::new(channel_state)));
    }

    /// Drops a channel that can't be opened. Its requests are dropped with it: each session answers that the channel
    /// can't be followed now.
    pub(super) fn remove(&mut self, channel: &Channel) {
        self.entries.remove(channel);
    }

    /// Notes that events may have been lost: the channels that are being opened may lack them.
    pub(super) fn mark_openings_incomplete(&mut self) {
        for entry in self.entries.values_mut() {
            if let ChannelEntry::Opening(opening) = entry {
                opening.mark_incomplete();
            }
        }
    }

    /// Notes that an event of one channel may have been lost, where the channel is being opened.
    pub(super) fn mark_opening_incomplete(&mut self, channel: &Channel) {
        if let Some(ChannelEntry::Opening(opening)) = self.entries.get_mut(channel) {
            opening.mark_incomplete();
        }
    }

    /// Keeps a live message of a channel that is being opened until it is open. False for any other channel.
    pub(super) fn buffer_if_opening(&mut self, channel: &Channel, message: &Message) -> bool {
        let Some(ChannelEntry::Opening(opening)) = self.entries.get_mut(channel) else { return false };
        opening.buffer(message);
        true
    }

    /// Delivers an event to the subscribers of its channel, unless it was delivered before.
    pub(super) fn deliver(&mut self, channel: &Channel, event: LiveEvent<'_>) {
        let Some(ChannelEntry::Open(channel_state)) = self.entries.get_mut(channel) else { return };
        if event.seq > channel_state.last_seq() {
            if channel_state.queue(event) {
                self.flush_list.push(channel.clone());
            }
            self.received.insert(event.seq);
        } else if event.seq > channel_state.start_seq() && !self.received.contains(event.seq) {
            let closed = channel_state.apply_late(event, &self.positions.frame());
            self.received.insert(event.seq);
            metrics::counter!(names::FOUND_LATE_TOTAL).increment(1);
            tracing::warn!(%channel, seq = event.seq, closed, "an event was found after later ones were pushed");
        }
    }

    /// Whether an event of an open channel should have been delivered, and was not.
    pub(super) fn is_missing(&self, channel: &Channel, seq: u64) -> bool {
        self.get(channel).is_some_and(|channel_state| {
            seq > channel_state.start_seq()
                && (seq > channel_state.last_seq() || !self.received.contains(seq))
        })
    }

    /// Whether everything up to an event was delivered to a channel; true for a channel that is not open. If `seq` is
    /// an event of another channel, that is known only once the shard was read up to it.
    pub(super) fn has_received_up_to(&self, channel: &Channel, seq: u64) -> bool {
        self.get(channel)
            .is_none_or(|channel_state| seq <= channel_state.start_seq() || self.received.contains(seq))
    }

    /// Notes that everything up to `seq` was delivered.
    pub(super) fn mark_complete_up_to(&mut self, seq: u64) {
        self.received.mark_complete_up_to(seq);
    }

    /// Begins at a position: events up to `seq` count as delivered, and no others.
    pub(super) fn reset_received(&mut self, seq: u64) {
        self.received.reset(seq);
    }

    /// The last event that was delivered to any channel. 0 if there is none.
    pub(super) fn highest_received_seq(&self) -> u64 {
        self.iter().map(|(_, channel_state)| channel_state.last_seq()).max().unwrap_or(0)
    }

    /// Sends the frames of all events that were delivered.
    pub(super) fn flush(&mut self) {
        for channel in std::mem::take(&mut self.flush_list) {
            if let Some(channel_state) = self.get_mut(&channel) {
                channel_state.flush();
            }
        }
    }

    /// Closes every socket of an open channel, to resume from `position`, and drops these channels. Channels that are
    /// being opened stay: their subscribers are admitted by the log as it is then.
    pub(super) fn close_open_channels(&mut self, position: &Bytes) {
        for (_, channel_state) in self.iter() {
            channel_state.outboxes().for_each(|outbox| outbox.close_for_resume(position));
        }
        self.entries.retain(|_, entry| matches!(entry, ChannelEntry::Opening(_)));
    }

    /// Ends the own subscription of each open room: one subscription brings the events of all rooms now. People, teams
    /// and the system are not among the rooms, so each keeps its own.
    pub(super) fn end_own_subscriptions_of_rooms(&mut self) {
        for (channel, channel_state) in self.iter_mut() {
            if matches!(channel, Channel::Room(_)) {
                channel_state.end_own_subscription();
            }
        }
    }

    /// Drops the channels that had no subscribers for long.
    pub(super) fn drop_idle(&mut self) {
        self.entries.retain(
            |_, entry| !matches!(entry, ChannelEntry::Open(channel_state) if channel_state.is_idle_timed_out()),
        );
    }

    /// Pushes to each room what its subscribers do not know yet of its participants. To be called once a second.
    pub(super) fn push_presence(&mut self) {
        for (_, channel_state) in self.iter_mut() {
            channel_state.push_presence();
        }
    }

    /// Drops from rings the events that are older than `age`. Returns the bytes that the rings hold then, and the age
    /// of the oldest event.
    pub(super) fn drop_from_rings_older_than(&mut self, age: Duration) -> (usize, Duration) {
        let (mut bytes, mut oldest) = (0, Duration::ZERO);
        for (_, channel_state) in self.iter_mut() {
            channel_state.drop_from_ring_older_than(age);
            bytes += channel_state.ring.memory_bytes();
            oldest = oldest.max(channel_state.ring.oldest_age());
        }
        (bytes, oldest)
    }

    #[cfg(test)]
    pub(super) fn may_opening_lack_events(&self, channel: &Channel) -> bool {
        matches!(&self.entries[channel], ChannelEntry::Opening(opening) if opening.may_lack_events())
    }
}
