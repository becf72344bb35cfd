//! Gives `tests/bench` access to a session, from bytes that were read to the action that begins.

use std::net::TcpStream;

use protocol::{event::Person, id::ShardCount, rpc::Surface};
use service::token::Identity;

use super::{PendingSession, Session};
use crate::bench;

/// A socket's session.
pub struct BenchSession {
    session: Box<Session>,
    /// The client's end of the connection, which stays open as long as the session.
    _client: TcpStream,
}

impl BenchSession {
    /// Opens a session of a native socket.
    pub async fn open(shards: ShardCount) -> Self {
        let node = bench::node(shards).await;
        let (socket, client) = bench::socket_pair().await;
        let identity = Identity {
            caller: bench::caller(0),
            issued_at: None,
            expires_at_ms: i64::MAX,
            person: Person::default(),
        };
        let mut session =
            PendingSession::new(&node, identity, Surface::Native, false).expect("there is room").begin(node);
        session.open(socket, &[]);
        Self { session, _client: client }
    }

    /// Handles bytes as if they were read from the socket. Returns whether they begin an action, which is dropped.
    pub fn receive(&mut self, read: &[u8]) -> bool {
        self.session.decoder.push(read);
        self.session.handle_frames().is_none() && self.session.running_action.take().is_some()
    }
}
