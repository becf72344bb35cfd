//! Counts the connections of each address.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Semaphore};

use super::{body::UnreadBody, stream::BoundedStream};
use crate::rate::{ConcurrencyLimit, KeyedConcurrencyLimit, Permit};

/// The answer to a connection beyond the limit. Its request is not read, so the client's dialect is not known.
const REFUSAL: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 10\r\nconnection: close\r\n\
    content-type: application/problem+json\r\ncontent-length: 135\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Too Many Requests\",\"status\":429,\"code\":\"rate_limited\",\
    \"detail\":\"This address has too many connections.\"}";
/// Maximum refusals written at a time; beyond it connections are closed without an answer.
const REFUSALS_AT_ONCE_MAX: usize = 100;
/// How long a refused client may take to read the answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Open connections by address.
#[derive(Debug)]
pub(super) struct ConnectionCounter {
    by_address: KeyedConcurrencyLimit<IpAddr>,
    refusals: Arc<Semaphore>,
}

/// A permit for a connection, which is counted until this is dropped; `None` if its address is not counted.
pub(super) type CountedConnection = Option<Permit<IpAddr>>;

impl ConnectionCounter {
    /// Creates a counter that allows each address so many connections.
    pub(super) fn new(max: ConcurrencyLimit) -> Self {
        Self {
            by_address: KeyedConcurrencyLimit::new("connections", max),
            refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE_MAX)),
        }
    }

    /// Counts a connection. Returns `None` if the address has as many as it may.
    pub(super) fn try_count(&self, address: Option<IpAddr>) -> Option<CountedConnection> {
        match address {
            Some(address) => self.by_address.take(&address).map(Some),
            None => Some(None),
        }
    }

    /// Answers 429 to a connection beyond the limit, and closes it.
    pub(super) fn refuse(&self, stream: TcpStream) {
        let Ok(permit) = self.refusals.clone().try_acquire_owned() else { return };
        tokio::spawn(async move {
            let mut stream = BoundedStream::new(stream, REFUSAL_TIMEOUT, UnreadBody::always());
            let refusal = async {
                stream.write_all(REFUSAL).await?;
                stream.shutdown().await
            };
            // A client that does not read the answer is given up.
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refusal).await;
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_an_address_are_limited_unless_uncounted() {
        let connections = ConnectionCounter::new(ConcurrencyLimit(1));
        let (one, other) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        let first = connections.try_count(one).expect("the first");
        assert!(connections.try_count(one).is_none(), "the limit is reached");
        assert!(connections.try_count(other).is_some(), "another address has its own limit");
        for _ in 0..2 {
            assert!(connections.try_count(None).is_some(), "connections without an address are not limited");
        }
        drop(first);
        assert!(connections.try_count(one).is_some(), "a closed connection is not counted any more");
    }

    #[test]
    fn refusal_has_the_length_it_states() {
        let text = std::str::from_utf8(REFUSAL).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len()))
                || head.ends_with(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
    }
}
