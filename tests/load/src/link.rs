//! Connections by which messages are sent that no socket hears: HTTP, or the broker's own protocol.
//!
//! What must hold: one that is lost is replaced, and of what it had not answered nobody knows: it counts as
//! refused.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
};

use anyhow::{Context as _, bail};
use mio::{Registry, event::Event};

use crate::{
    around::{Around, Outcome, Waiting},
    config::Config,
    http,
    line::Line,
    pace,
    peer::{Peer, Post, Route},
};

/// Which protocol it speaks.
#[derive(Debug)]
enum Protocol {
    /// Answers come in the requests' order.
    Http(VecDeque<Waiting>),
    /// No answers.
    Nats,
}

/// A connection for sending.
#[derive(Debug)]
struct Link {
    /// Where it leads.
    address: SocketAddr,
    line: Line,
    protocol: Protocol,
    /// Something waits to be flushed.
    is_dirty: bool,
}

impl Link {
    /// Whether no answer is waited for.
    fn is_answered(&self) -> bool {
        match &self.protocol {
            Protocol::Http(waiting) => waiting.is_empty(),
            Protocol::Nats => true,
        }
    }

    /// Reads all answers that are there.
    fn readable(&mut self, buffer: &mut [u8], ends: bool, around: &mut Around<'_>) -> io::Result<()> {
        let protocol = &mut self.protocol;
        self.line.readable(buffer, ends, |out, bytes| match protocol {
            Protocol::Http(waiting) => {
                let (mut taken, now) = (0, pace::now());
                while let Some(answer) = http::first(&bytes[taken..]).map_err(|_| malformed())? {
                    taken += answer.len;
                    let of = waiting.pop_front().ok_or_else(malformed)?;
                    around.answered(of, Outcome::of(answer.status.into()), now);
                }
                Ok(taken)
            }
            Protocol::Nats => answer_broker(out, bytes),
        })?;
        self.line.flush()
    }

    /// Begins anew where it was lost: a server may end what has been idle for long, or may itself have ended.
    fn replace(
        &mut self,
        error: io::Error,
        token: usize,
        around: &mut Around<'_>,
        registry: &Registry,
    ) -> anyhow::Result<()> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let (Protocol::Http(waiting), BrokenPipe | ConnectionReset | UnexpectedEof) =
            (&mut self.protocol, error.kind())
        else {
            return Err(error).context("a connection for sending");
        };
        let now = pace::now();
        waiting.drain(..).for_each(|of| around.answered(of, Outcome::Refused, now));
        self.line = Line::open(self.address, token, registry)?;
        Ok(())
    }
}

/// All connections for sending; none where sockets write.
#[derive(Debug)]
pub(crate) struct Links {
    links: Vec<Link>,
    /// The first one's token.
    first: usize,
}

impl Links {
    /// As many as so many streams' messages take by that route, spread over its addresses.
    pub(crate) fn open(
        config: &Config,
        route: Route,
        streams: usize,
        first: usize,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let mut links = Self { links: Vec::new(), first };
        match route {
            Route::Socket => {}
            Route::Http(addresses) => {
                for address in addresses.into_iter().cycle().take(config.connections.clamp(1, streams)) {
                    links.add(address, Protocol::Http(VecDeque::new()), registry)?;
                }
            }
            Route::Nats(address) => {
                links.add(address, Protocol::Nats, registry)?;
                links.links[0].line.out().extend(broker(&config.nats_url)?.hello.as_bytes());
            }
        }
        Ok(links)
    }

    fn add(&mut self, address: SocketAddr, protocol: Protocol, registry: &Registry) -> io::Result<()> {
        let line = Line::open(address, self.first + self.links.len(), registry)?;
        self.links.push(Link { address, line, protocol, is_dirty: false });
        Ok(())
    }

    /// Whether sockets write.
    pub(crate) const fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether all that was sent is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.links.iter().all(Link::is_answered)
    }

    /// Puts a message into its stream's connection, to be flushed.
    pub(crate) fn post(&mut self, post: Post<'_>, of: Waiting, peer: &dyn Peer) {
        let count = self.links.len();
        let link = &mut self.links[of.stream % count];
        peer.post(link.line.out(), post);
        if let Protocol::Http(waiting) = &mut link.protocol {
            waiting.push_back(of);
        }
        link.is_dirty = true;
    }

    /// Sends what was posted.
    pub(crate) fn flush(&mut self, around: &mut Around<'_>, registry: &Registry) -> anyhow::Result<()> {
        for (n, link) in self.links.iter_mut().enumerate() {
            if std::mem::take(&mut link.is_dirty)
                && let Err(error) = link.line.flush()
            {
                link.replace(error, self.first + n, around, registry)?;
            }
        }
        Ok(())
    }

    /// Takes what has come for the n-th.
    pub(crate) fn take(
        &mut self,
        n: usize,
        event: &Event,
        buffer: &mut [u8],
        around: &mut Around<'_>,
        registry: &Registry,
    ) -> anyhow::Result<()> {
        let link = &mut self.links[n];
        let mut result = if event.is_writable() { link.line.writable() } else { Ok(()) };
        if result.is_ok() && event.is_readable() {
            result = link.readable(buffer, event.is_read_closed(), around);
        }
        result.or_else(|error| link.replace(error, self.first + n, around, registry))
    }
}

fn malformed() -> io::Error {
    io::Error::other("the server's answer is not one")
}

/// Takes whole lines: a ping is answered, an error ends it.
pub(crate) fn answer_broker(out: &mut Vec<u8>, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while let Some(end) = memchr::memchr(b'\n', &bytes[taken..]) {
        let line = &bytes[taken..taken + end];
        taken += end + 1;
        if line.starts_with(b"PING") {
            out.extend(b"PONG\r\n");
        } else if line.starts_with(b"-ERR") {
            return Err(io::Error::other(format!("the broker: {}", String::from_utf8_lossy(line).trim())));
        }
    }
    Ok(taken)
}

/// Where a broker is and how one says who one is.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    /// The first that is sent.
    pub(crate) hello: String,
}

/// A broker by its URL.
pub(crate) fn broker(url: &str) -> anyhow::Result<Broker> {
    let Some(rest) = url.strip_prefix("nats://") else { bail!("NATS_URL: not of the form nats://…") };
    let (who, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:4222") };
    let address = host.to_socket_addrs().ok().and_then(|mut found| found.next()).context("NATS_URL")?;
    let mut options =
        serde_json::json!({ "verbose": false, "headers": true, "lang": "rust", "version": "0" });
    if let Some((user, password)) = who.split_once(':') {
        options["user"] = user.into();
        options["pass"] = password.into();
    }
    Ok(Broker { address, hello: format!("CONNECT {options}\r\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_told_who_one_is() {
        let broker = broker("nats://ann:secret@127.0.0.1:4333").expect("a URL");
        assert_eq!(broker.address.port(), 4333);
        assert!(broker.hello.contains(r#""user":"ann""#) && broker.hello.contains(r#""pass":"secret""#));
        assert!(super::broker("http://127.0.0.1").is_err());
    }

    #[test]
    fn its_pings_are_answered_and_its_errors_end_it() {
        let mut out = Vec::new();
        let taken = answer_broker(&mut out, b"INFO {}\r\nPING\r\nPIN").expect("no error");
        assert_eq!((taken, out.as_slice()), (15, b"PONG\r\n".as_slice()));
        assert!(answer_broker(&mut out, b"-ERR 'Permissions Violation'\r\n").is_err());
    }
}
