//! A connection by which messages are sent that no socket hears: HTTP, or the broker's own protocol.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
};

use anyhow::{Context as _, bail};

use crate::{
    around::{Around, Waiting},
    http,
    line::Line,
    pace,
};

/// Which protocol it speaks.
#[derive(Debug)]
pub(crate) enum Protocol {
    /// Answers come in the requests' order.
    Http(VecDeque<Waiting>),
    /// No answers.
    Nats,
}

/// A connection for sending.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where it leads.
    pub(crate) address: SocketAddr,
    pub(crate) line: Line,
    pub(crate) protocol: Protocol,
    /// Something waits to be flushed.
    pub(crate) is_dirty: bool,
}

impl Link {
    /// Whether it may be opened again: it is HTTP, and waits for nothing.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(&self.protocol, Protocol::Http(waiting) if waiting.is_empty())
    }

    /// How many answers have not come.
    pub(crate) fn waiting(&self) -> usize {
        match &self.protocol {
            Protocol::Http(waiting) => waiting.len(),
            Protocol::Nats => 0,
        }
    }

    /// Reads all answers that are there.
    pub(crate) fn readable(
        &mut self,
        buffer: &mut [u8],
        ends: bool,
        around: &mut Around<'_>,
    ) -> io::Result<()> {
        let protocol = &mut self.protocol;
        self.line.readable(buffer, ends, |out, bytes| match protocol {
            Protocol::Http(waiting) => {
                let (mut taken, now) = (0, pace::now());
                while let Some(answer) = http::first(&bytes[taken..]).map_err(|_| malformed())? {
                    taken += answer.len;
                    let of = waiting.pop_front().ok_or_else(malformed)?;
                    around.answered(of, answer.status < 300, now);
                }
                Ok(taken)
            }
            Protocol::Nats => answer_broker(out, bytes),
        })?;
        self.line.flush()
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
