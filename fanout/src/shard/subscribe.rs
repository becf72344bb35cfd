//! Describes a socket's request to subscribe to a channel, and where its subscription begins.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{caller::Caller, rpc::AccessGrant};
use tokio::sync::oneshot;

use crate::outbox::Outbox;

/// Makes the frame that answers a subscriber, once it is known where its subscription begins.
pub(crate) type AnswerFn = Box<dyn FnOnce(&SubscriptionStart) -> Bytes + Send>;

/// The decision of a shard about a socket that asks to follow a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It follows the channel.
    Admitted,
    /// Its right has ended since it was granted.
    AccessEnded,
}

/// A socket that asks to follow a channel.
pub(crate) struct SubscribeRequest {
    /// The socket's number on this node.
    pub(crate) socket_id: u64,
    /// Number of the socket's frame that asks.
    pub(crate) frame_number: u64,
    /// The person on the socket, with their rights by token.
    pub(crate) caller: Caller,
    /// Where its frames go.
    pub(crate) outbox: Arc<Outbox>,
    /// The last event that the client has.
    pub(crate) since: Option<u64>,
    /// The epoch in which it got that event.
    pub(crate) epoch: Option<u64>,
    /// The right that api has granted, where the channel is a room's or a team's.
    pub(crate) grant: Option<AccessGrant>,
    /// Its answer, pushed before all events. `None` for a watcher: it is pushed nothing, and is only evicted when its
    /// right ends.
    pub(crate) answer: Option<AnswerFn>,
    /// Resolves with the decision. Dropped if the channel can't be followed now.
    pub(crate) admitted: oneshot::Sender<Admission>,
}

impl SubscribeRequest {
    /// Whether a socket asked for it in a frame up to `frame_number`, as a watcher or not.
    pub(crate) fn is_from(&self, socket_id: u64, frame_number: u64, is_watcher: bool) -> bool {
        self.socket_id == socket_id
            && self.frame_number <= frame_number
            && self.answer.is_none() == is_watcher
    }

    /// Sequence up to which the client lacks nothing. It is later than `since` where api's grant shows that the
    /// room had no event between.
    pub(crate) fn complete_up_to(&self) -> Option<u64> {
        let since = self.since?;
        match self.grant {
            Some(grant) if grant.last_event <= since => Some(since.max(grant.as_of)),
            _ => Some(since),
        }
    }
}

/// Where a subscription begins.
#[derive(Clone, Debug)]
pub(crate) struct SubscriptionStart {
    /// Index of the channel's shard in lists of all shards.
    pub(crate) shard_index: usize,
    /// The epoch of its stream.
    pub(crate) epoch: u64,
    /// Everything after this is pushed.
    pub(crate) after_seq: u64,
    /// Whether the client lacks no event before the first that it is pushed.
    pub(crate) is_recovered: bool,
    /// The people present, where the channel is a room's: fields of JSON.
    pub(crate) participants_json: Option<Arc<str>>,
}
