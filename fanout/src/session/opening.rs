//! How a socket begins: it is listed, does what its address asks for, and is upgraded last.
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

use super::{Session, Socket, State, action, expires, finished, frame::Decoder, outbox::Outbox};
use crate::{hub::sessions::Registered, node::Node, render::Form};

/// How long an upgrade waits for what its address asks for.
pub(crate) const ADMITTED: Duration = Duration::from_secs(5);

/// How a socket begins.
pub(crate) struct Opening {
    /// Whose it is.
    identity: Identity,
    /// Which sort of socket it is.
    surface: Surface,
    connection: u64,
    outbox: Arc<Outbox>,
    registered: Registered,
}

impl Opening {
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
        let connection = node.next_connection();
        let outbox = Arc::new(Outbox::new(node.outbox_bytes, Form::of(surface, deflates)));
        let registered = node.sessions.register(connection, &identity.caller, outbox.clone())?;
        Ok(Self { identity, surface, connection, outbox, registered })
    }

    /// The session of a socket that is not upgraded yet: what it is pushed waits.
    pub(crate) fn begin(self, node: Arc<Node>) -> Box<Session> {
        let Self { identity, surface, connection, outbox, registered } = self;
        let state = State {
            connection,
            expires: match surface {
                Surface::Native => expires(&identity),
                Surface::Match | Surface::MatchAdmin => Instant::now() + node.max_age,
            },
            caller: identity.caller,
            surface,
            channels: HashMap::new(),
            rooms: HashSet::new(),
            pairs: HashSet::new(),
            teams: HashMap::new(),
            typed: None,
            may_signal: HashMap::new(),
            frames: 0,
        };
        Box::new(Session {
            frames: SingleRateLimit::default(),
            paused_until: None,
            node,
            decoder: Decoder::new(outbox.form() == Form::Deflated),
            outbox,
            state,
            underway: None,
            unanswered: 0,
            _registered: registered,
        })
    }
}

impl Session {
    /// Does what the socket's address asks for, as if the client had sent that frame.
    ///
    /// # Errors
    /// When it is refused, or not done in [`ADMITTED`]: the session is to be abandoned.
    pub(crate) async fn act_first(&mut self, frame: &str) -> Result<(), Error> {
        self.begin(frame);
        let Ok(mut applied) = timeout(ADMITTED, finished(&mut self.underway)).await else {
            return Err(Error::new(ErrorCode::Unavailable, "The channel can't be followed now. Try again."));
        };
        self.underway = None;
        let refused = applied.refused.take();
        action::settle(&self.node, &mut self.state, applied);
        refused.map_or(Ok(()), Err)
    }

    /// The socket is upgraded: its person is online. `read` is what came with the handshake.
    pub(crate) fn open(&mut self, socket: Socket, read: &[u8]) {
        self.outbox.open(socket);
        self.decoder.push(read);
        self.node.presence.enter(None, self.state.caller.user.clone());
        metrics::gauge!(names::SOCKETS_OPEN).increment(1.0);
    }

    /// The socket is not upgraded: what was begun for it ends.
    pub(crate) async fn abandon(mut self: Box<Self>) {
        self.leave().await;
    }
}
