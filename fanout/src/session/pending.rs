//! Begins a session: registers the socket, runs the action of its address, and takes the upgraded connection.
//!
//! What must hold: events stored after the client learned that it is connected reach the socket, including those of the
//! channel that its address names. If the client hangs up before that, nothing of the session stays.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use protocol::{
    error::{Error, ErrorCode},
    rpc::Surface,
};
use service::{metric_names as names, rate::SingleRateLimit, token::Identity};
use tokio::time::{Instant, timeout};

use super::{Session, SessionState, action, action_result, token_expiry};
use crate::{encode::PushFormat, node::Node, outbox::registry::SocketRegistration};
use crate::{
    encode::frame::Decoder,
    outbox::{Outbox, RawSocket},
};

/// Timeout of each step before a handshake is answered: waiting for the person's shard, and running the action that the
/// address asks for.
pub(crate) const OPENING_TIMEOUT: Duration = Duration::from_secs(5);

/// A registered socket whose session has not begun yet.
pub(crate) struct PendingSession {
    identity: Identity,
    surface: Surface,
    socket_id: u64,
    outbox: Arc<Outbox>,
    registration: SocketRegistration,
}

impl PendingSession {
    /// Registers a socket before it is upgraded, so that a drain closes every socket whose client is connected.
    /// `deflates` says whether compression was negotiated, for both directions.
    ///
    /// # Errors
    /// 503 if the node has the maximum of sockets, 429 if the person has.
    pub(crate) fn new(
        node: &Node,
        identity: Identity,
        surface: Surface,
        deflates: bool,
    ) -> Result<Self, Error> {
        let socket_id = node.next_socket_id();
        let outbox = Arc::new(Outbox::new(node.outbox_bytes, PushFormat::of(surface, deflates)));
        let registration = node.sockets.register(socket_id, &identity.caller, outbox.clone())?;
        Ok(Self { identity, surface, socket_id, outbox, registration })
    }

    /// Begins the session of a socket that is not upgraded yet. Its frames are queued until [`Session::open`].
    pub(crate) fn begin(self, node: Arc<Node>) -> Box<Session> {
        let Self { identity, surface, socket_id, outbox, registration } = self;
        let state = SessionState {
            socket_id,
            expires_at: match surface {
                Surface::Native => token_expiry(&identity),
                Surface::Match | Surface::MatchAdmin => Instant::now() + node.match_socket_max_age,
            },
            caller: identity.caller,
            surface,
            subscriptions: HashMap::new(),
            rooms: HashSet::new(),
            pair_rooms: HashSet::new(),
            team_rooms: HashMap::new(),
            last_typing_at: None,
            signal_permissions: HashMap::new(),
            frames_read: 0,
        };
        Box::new(Session {
            frame_limit: SingleRateLimit::default(),
            paused_until: None,
            node,
            decoder: Decoder::new(outbox.format() == PushFormat::Deflated),
            outbox,
            state,
            running_action: None,
            unanswered_pings: 0,
            _registration: registration,
        })
    }
}

impl Session {
    /// Runs the action that the socket's address asks for, as if the client had sent this frame.
    ///
    /// # Errors
    /// If the action is refused, or not finished within [`OPENING_TIMEOUT`]. Then the session must be abandoned.
    pub(crate) async fn run_first_action(&mut self, frame: &str) -> Result<(), Error> {
        self.begin_action(frame);
        let Ok(mut changes) = timeout(OPENING_TIMEOUT, action_result(&mut self.running_action)).await else {
            return Err(Error::new(ErrorCode::Unavailable, "The channel can't be followed now. Try again."));
        };
        self.running_action = None;
        let refused = changes.refused.take();
        action::apply_changes(&self.node, &mut self.state, changes);
        refused.map_or(Ok(()), Err)
    }

    /// Takes the upgraded connection: the person is online. `read` are the bytes that were read after the handshake.
    pub(crate) fn open(&mut self, socket: RawSocket, read: &[u8]) {
        self.outbox.attach_socket(socket);
        self.decoder.push(read);
        self.node.presence.enter(None, self.state.caller.user.clone());
        metrics::gauge!(names::SOCKETS_OPEN).increment(1.0);
    }

    /// Ends everything that was begun for a socket which is not upgraded after all.
    pub(crate) async fn abandon(mut self: Box<Self>) {
        self.unsubscribe_from_all().await;
    }
}
