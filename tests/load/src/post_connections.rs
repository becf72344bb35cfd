//! Sends messages over separate connections: by HTTP or by the NATS protocol.
//!
//! What must hold: a lost HTTP connection is replaced. Messages without an answer have an unknown outcome, and count
//! as refused.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
};

use anyhow::{Context as _, bail};
use mio::{Registry, event::Event};

use crate::{
    config::LoadArgs,
    context::{PendingMessage, PostOutcome, RunContext},
    http,
    nonblocking::NonblockingStream,
    server::{NewPost, PostRoute, TestedServer},
    timing,
};

/// The protocol of a connection.
#[derive(Debug)]
enum PostProtocol {
    /// HTTP: answers arrive in the order of the requests.
    Http(VecDeque<PendingMessage>),
    /// NATS: no answers.
    Nats,
}

/// A connection for sending.
#[derive(Debug)]
struct PostConnection {
    /// The server's address.
    address: SocketAddr,
    stream: NonblockingStream,
    protocol: PostProtocol,
    /// Whether bytes wait to be flushed.
    is_dirty: bool,
}

impl PostConnection {
    /// Whether every message is answered.
    fn is_answered(&self) -> bool {
        match &self.protocol {
            PostProtocol::Http(waiting) => waiting.is_empty(),
            PostProtocol::Nats => true,
        }
    }

    /// Reads all answers that have arrived.
    fn read_answers(
        &mut self,
        buffer: &mut [u8],
        is_read_closed: bool,
        context: &mut RunContext<'_>,
    ) -> io::Result<()> {
        let protocol = &mut self.protocol;
        self.stream.on_readable(buffer, is_read_closed, |out, bytes| match protocol {
            PostProtocol::Http(waiting) => {
                let (mut consumed, now) = (0, timing::now_ns());
                while let Some(answer) =
                    http::parse_first(&bytes[consumed..]).map_err(|_| malformed_answer())?
                {
                    consumed += answer.len;
                    let pending = waiting.pop_front().ok_or_else(malformed_answer)?;
                    context.record_answer(pending, PostOutcome::from_status(answer.status.into()), now);
                }
                Ok(consumed)
            }
            PostProtocol::Nats => answer_broker_lines(out, bytes),
        })?;
        self.stream.flush()
    }

    /// Reopens an HTTP connection that the server closed, because it was idle or because the server ended.
    ///
    /// # Errors
    /// For other errors, and for NATS.
    fn reconnect(
        &mut self,
        error: io::Error,
        token: usize,
        context: &mut RunContext<'_>,
        registry: &Registry,
    ) -> anyhow::Result<()> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let (PostProtocol::Http(waiting), BrokenPipe | ConnectionReset | UnexpectedEof) =
            (&mut self.protocol, error.kind())
        else {
            return Err(error).context("a connection for sending");
        };
        let now = timing::now_ns();
        waiting.drain(..).for_each(|pending| context.record_answer(pending, PostOutcome::Refused, now));
        self.stream = NonblockingStream::open(self.address, token, registry)?;
        Ok(())
    }
}

/// All connections for sending; empty if messages are sent by sockets.
#[derive(Debug)]
pub(crate) struct PostConnections {
    connections: Vec<PostConnection>,
    /// The token of the first connection.
    first_token: usize,
}

impl PostConnections {
    /// Opens the connections of a route, spread over its addresses. For HTTP there are `--connections` of them, but not
    /// more than writers.
    pub(crate) fn open(
        config: &LoadArgs,
        route: PostRoute,
        writers: usize,
        first_token: usize,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let mut connections = Self { connections: Vec::new(), first_token };
        match route {
            PostRoute::Socket => {}
            PostRoute::Http(addresses) => {
                for address in addresses.into_iter().cycle().take(config.connections.clamp(1, writers)) {
                    connections.add(address, PostProtocol::Http(VecDeque::new()), registry)?;
                }
            }
            PostRoute::Nats(address) => {
                connections.add(address, PostProtocol::Nats, registry)?;
                connections.connections[0]
                    .stream
                    .unsent()
                    .extend(parse_broker_url(&config.nats_url)?.connect_line.as_bytes());
            }
        }
        Ok(connections)
    }

    fn add(&mut self, address: SocketAddr, protocol: PostProtocol, registry: &Registry) -> io::Result<()> {
        let stream = NonblockingStream::open(address, self.first_token + self.connections.len(), registry)?;
        self.connections.push(PostConnection { address, stream, protocol, is_dirty: false });
        Ok(())
    }

    /// Whether there are none, because messages are sent by sockets.
    pub(crate) const fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Whether every message is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.connections.iter().all(PostConnection::is_answered)
    }

    /// Appends a message to the connection of its writer, for the next flush.
    pub(crate) fn queue(&mut self, message: NewPost<'_>, pending: PendingMessage, server: &dyn TestedServer) {
        let count = self.connections.len();
        let connection = &mut self.connections[pending.writer % count];
        server.write_post(connection.stream.unsent(), message);
        if let PostProtocol::Http(waiting) = &mut connection.protocol {
            waiting.push_back(pending);
        }
        connection.is_dirty = true;
    }

    /// Sends the queued messages.
    pub(crate) fn flush(&mut self, context: &mut RunContext<'_>, registry: &Registry) -> anyhow::Result<()> {
        for (n, connection) in self.connections.iter_mut().enumerate() {
            if std::mem::take(&mut connection.is_dirty)
                && let Err(error) = connection.stream.flush()
            {
                connection.reconnect(error, self.first_token + n, context, registry)?;
            }
        }
        Ok(())
    }

    /// Handles an event of the connection with this index.
    pub(crate) fn handle_event(
        &mut self,
        index: usize,
        event: &Event,
        buffer: &mut [u8],
        context: &mut RunContext<'_>,
        registry: &Registry,
    ) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        let mut result = if event.is_writable() { connection.stream.on_writable() } else { Ok(()) };
        if result.is_ok() && event.is_readable() {
            result = connection.read_answers(buffer, event.is_read_closed(), context);
        }
        result.or_else(|error| connection.reconnect(error, self.first_token + index, context, registry))
    }
}

fn malformed_answer() -> io::Error {
    io::Error::other("the server's answer is not valid HTTP")
}

/// Parses complete lines of the NATS protocol, and answers PING. Returns the number of bytes consumed.
///
/// # Errors
/// When the broker sends `-ERR`.
pub(crate) fn answer_broker_lines(out: &mut Vec<u8>, bytes: &[u8]) -> io::Result<usize> {
    let mut consumed = 0;
    while let Some(end) = memchr::memchr(b'\n', &bytes[consumed..]) {
        let line = &bytes[consumed..consumed + end];
        consumed += end + 1;
        if line.starts_with(b"PING") {
            out.extend(b"PONG\r\n");
        } else if line.starts_with(b"-ERR") {
            return Err(io::Error::other(format!("the broker: {}", String::from_utf8_lossy(line).trim())));
        }
    }
    Ok(consumed)
}

/// A broker's address, and the line that authenticates there.
pub(crate) struct BrokerEndpoint {
    pub(crate) address: SocketAddr,
    /// The `CONNECT` line, which is sent first.
    pub(crate) connect_line: String,
}

/// Parses a URL `nats://[user:password@]host[:port]`; resolves the host.
pub(crate) fn parse_broker_url(url: &str) -> anyhow::Result<BrokerEndpoint> {
    let Some(rest) = url.strip_prefix("nats://") else { bail!("NATS_URL: not of the form nats://…") };
    let (credentials, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:4222") };
    let address = host.to_socket_addrs().ok().and_then(|mut resolved| resolved.next()).context("NATS_URL")?;
    let mut options =
        serde_json::json!({ "verbose": false, "headers": true, "lang": "rust", "version": "0" });
    if let Some((user, password)) = credentials.split_once(':') {
        options["user"] = user.into();
        options["pass"] = password.into();
    }
    Ok(BrokerEndpoint { address, connect_line: format!("CONNECT {options}\r\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_to_a_broker_sends_its_credentials() {
        let broker = parse_broker_url("nats://ann:secret@127.0.0.1:4333").expect("a URL");
        assert_eq!(broker.address.port(), 4333);
        assert!(
            broker.connect_line.contains(r#""user":"ann""#)
                && broker.connect_line.contains(r#""pass":"secret""#)
        );
        assert!(parse_broker_url("http://127.0.0.1").is_err());
    }

    #[test]
    fn broker_pings_are_answered_and_errors_end_the_connection() {
        let mut out = Vec::new();
        let consumed = answer_broker_lines(&mut out, b"INFO {}\r\nPING\r\nPIN").expect("no error");
        assert_eq!((consumed, out.as_slice()), (15, b"PONG\r\n".as_slice()));
        assert!(answer_broker_lines(&mut out, b"-ERR 'Permissions Violation'\r\n").is_err());
    }
}
