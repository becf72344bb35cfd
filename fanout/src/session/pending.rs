//! Begins a socket: it is registered, does what its address asks for, and is upgraded last.
//!
//! What must hold: whatever is stored after a client was told that it is connected reaches the socket, in the
//! channel that its address names too. A client that hangs up before that leaves nothing behind.

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

/// How long an upgrade waits for what its address asks for.
pub(crate) const OPENING_TIMEOUT: Duration = Duration::from_secs(5);

/// How a socket begins.
pub(crate) struct PendingSession {
    /// Whose it is.
    identity: Identity,
    /// Which sort of socket it is.
    surface: Surface,
    socket_id: u64,
    outbox: Arc<Outbox>,
    registered: SocketRegistration,
}

impl PendingSession {
    /// Lists the socket before it is upgraded: whoever is told that they are connected, a drain reaches.
    /// Where compression was agreed, messages may be compressed either way.
    ///
    /// # Errors
    /// Where the node has no room for it, or the person as many sockets as may be.
    pub(crate) fn new(
        node: &Node,
        identity: Identity,
        surface: Surface,
        deflates: bool,
    ) -> Result<Self, Error> {
        let connection = node.next_socket_id();
        let outbox = Arc::new(Outbox::new(node.outbox_bytes, PushFormat::of(surface, deflates)));
        let registered = node.sockets.register(connection, &identity.caller, outbox.clone())?;
        Ok(Self { identity, surface, socket_id: connection, outbox, registered })
    }

    /// The session of a socket that is not upgraded yet: what it is pushed waits.
    pub(crate) fn begin(self, node: Arc<Node>) -> Box<Session> {
        let Self { identity, surface, socket_id: connection, outbox, registered } = self;
        let state = SessionState {
            socket_id: connection,
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
            _registered: registered,
        })
    }
}

impl Session {
    /// Does what the socket's address asks for, as if the client had sent that frame.
    ///
    /// # Errors
    /// When it is refused, or not done in [`OPENING_TIMEOUT`]: the session is to be abandoned.
    pub(crate) async fn run_first_action(&mut self, frame: &str) -> Result<(), Error> {
        self.begin_action(frame);
        let Ok(mut applied) = timeout(OPENING_TIMEOUT, action_result(&mut self.running_action)).await else {
            return Err(Error::new(ErrorCode::Unavailable, "The channel can't be followed now. Try again."));
        };
        self.running_action = None;
        let refused = applied.refused.take();
        action::apply_changes(&self.node, &mut self.state, applied);
        refused.map_or(Ok(()), Err)
    }

    /// The socket is upgraded: its person is online. `read` is what came with the handshake.
    pub(crate) fn open(&mut self, socket: RawSocket, read: &[u8]) {
        self.outbox.attach_socket(socket);
        self.decoder.push(read);
        self.node.presence.enter(None, self.state.caller.user.clone());
        metrics::gauge!(names::SOCKETS_OPEN).increment(1.0);
    }

    /// The socket is not upgraded: what was begun for it ends.
    pub(crate) async fn abandon(mut self: Box<Self>) {
        self.unsubscribe_from_all().await;
    }
}
