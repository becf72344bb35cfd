//! Opens a channel: subscribes, asks where the stream ends (the barrier), then reads who is present.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::Message;
use log::StreamState;
use protocol::{id::Shard, subject::Channel};
use tokio::time::timeout;

use super::{ShardContext, inbox::MessageStream, snapshot, subscribe::SubscribeRequest};

/// How long a room's first subscriber waits for the list of participants.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Maximum messages that wait while a channel is being opened. If more arrive, the channel is caught up from the log.
const BUFFERED_MAX: usize = if cfg!(test) { 3 } else { 1_000 };

/// A channel that is being opened: it is subscribed to, and its barrier is asked for.
pub(super) struct Opening {
    queue: OpeningQueue,
    /// Events may have been lost since the barrier was asked for.
    may_lack_events: bool,
}

/// The requests and messages that wait for the opening of a channel.
#[derive(Default)]
pub(super) struct OpeningQueue {
    /// Its subscribers.
    pub(super) requests: Vec<SubscribeRequest>,
    /// Live messages that arrived meanwhile, where the channel is a room and all rooms are received together.
    pub(super) messages: Vec<Message>,
}

impl OpeningQueue {
    /// Whether messages may have been dropped, because too many arrived.
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() == BUFFERED_MAX
    }
}

impl Opening {
    /// An opening for its first subscriber.
    pub(super) fn new(request: SubscribeRequest) -> Self {
        let queue = OpeningQueue { requests: vec![request], messages: Vec::new() };
        Self { queue, may_lack_events: false }
    }

    /// Adds a subscriber.
    pub(super) fn add(&mut self, request: SubscribeRequest) {
        self.queue.requests.push(request);
    }

    /// Drops the requests of a socket's frames up to `frame_number`.
    pub(super) fn remove(&mut self, socket_id: u64, frame_number: u64, is_watcher: bool) {
        self.queue.requests.retain(|request| !request.is_from(socket_id, frame_number, is_watcher));
    }

    /// Keeps a live message until the channel is open. Drops it if too many wait.
    pub(super) fn buffer(&mut self, message: &Message) {
        if !self.queue.is_full() {
            self.queue.messages.push(message.clone());
        }
    }

    /// Notes that events may have been lost.
    pub(super) fn mark_incomplete(&mut self) {
        self.may_lack_events = true;
    }

    /// Takes the queue of the channel, which is open now. `None` if the barrier has to be asked for again, because it
    /// is stale or events may have been lost since. Then the subscribers go on waiting, and messages are dropped: they
    /// are older than the next barrier.
    pub(super) fn finish(&mut self, is_stale: bool) -> Option<OpeningQueue> {
        if is_stale || self.may_lack_events {
            self.queue.messages = Vec::new();
            self.may_lack_events = false;
            return None;
        }
        Some(std::mem::take(&mut self.queue))
    }

    #[cfg(test)]
    pub(super) const fn may_lack_events(&self) -> bool {
        self.may_lack_events
    }
}

/// A subscription, the end of the stream after it was made, and the participants of the room then.
pub(super) struct OpenedChannel {
    /// `None` for a room if all rooms are received together.
    pub(super) messages: Option<MessageStream>,
    pub(super) barrier: StreamState,
    pub(super) participants: anyhow::Result<Vec<snapshot::SnapshotEntry>>,
}

/// Subscribes to a channel, then asks for its barrier, then for its participants.
pub(super) async fn open_channel(
    context: &ShardContext,
    shard: Shard,
    channel: &Channel,
    is_covered_by_wildcard: bool,
) -> anyhow::Result<OpenedChannel> {
    let messages: Option<MessageStream> = if is_covered_by_wildcard {
        None
    } else {
        Some(context.subscribe(shard, channel.live_filter(context.shards)).await?)
    };
    let barrier = log::state(&context.jetstream, shard).await.context("the barrier")?;
    let participants = match *channel {
        Channel::Room(room) => {
            let read = snapshot::read_participants(context, room, barrier.last);
            timeout(SNAPSHOT_TIMEOUT, read)
                .await
                .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")))
        }
        _ => Ok(vec![]),
    };
    Ok(OpenedChannel { messages, barrier, participants })
}
