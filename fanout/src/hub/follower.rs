//! A socket that asks to follow a channel, and where it begins.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{caller::Caller, rpc::AccessGrant};
use tokio::sync::oneshot;

use crate::session::outbox::Outbox;

/// Makes the frame that answers a follower, once it is known where it begins.
pub(crate) type Answer = Box<dyn FnOnce(&Followed) -> Bytes + Send>;

/// A socket that asks to follow a channel.
pub(crate) struct Follower {
    /// The socket's number on this node.
    pub(crate) connection: u64,
    /// Number of the socket's frame that asks.
    pub(crate) frame: u64,
    /// The person on the socket, with their rights by token.
    pub(crate) caller: Caller,
    /// Where its frames go.
    pub(crate) outbox: Arc<Outbox>,
    /// The last event the client has.
    pub(crate) since: Option<u64>,
    /// The epoch it got it in.
    pub(crate) epoch: Option<u64>,
    /// The right that api has granted, where the channel is a room's or a team's.
    pub(crate) grant: Option<AccessGrant>,
    /// Its answer, pushed before all events. `None` for a guard: it is pushed nothing, and is only
    /// closed when its right ends.
    pub(crate) answer: Option<Answer>,
    /// Resolves with true once it follows, with false where its right is over. Dropped where the channel can't be
    /// followed now.
    pub(crate) done: oneshot::Sender<bool>,
}

impl Follower {
    /// Whether that socket asked for it in a frame up to `frame`, as a guard or not.
    pub(crate) fn is_by(&self, connection: u64, frame: u64, guard: bool) -> bool {
        self.connection == connection && self.frame <= frame && self.answer.is_none() == guard
    }

    /// Sequence up to which the client lacks nothing. It is later than `since` where api's grant shows that the
    /// room had no event between.
    pub(crate) fn reach(&self) -> Option<u64> {
        let since = self.since?;
        match self.grant {
            Some(grant) if grant.last_event <= since => Some(since.max(grant.as_of)),
            _ => Some(since),
        }
    }
}

/// Where a follower begins.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    /// Index of the channel's shard in lists of all shards.
    pub(crate) shard: usize,
    /// The epoch of its stream.
    pub(crate) epoch: u64,
    /// Everything after this is pushed.
    pub(crate) id: u64,
    /// Whether nothing is missing between what the client has and what it is pushed.
    pub(crate) recovered: bool,
    /// The people present, where the channel is a room's: fields of JSON.
    pub(crate) people: Option<Arc<str>>,
}
