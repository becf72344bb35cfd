//! How many connections each address has.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::Counter;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Semaphore};

use super::{body::Unread, stream::Stream};
use crate::{metric_names as names, rate::Most};

/// What one connection too many is answered. Its request is not read, so that no dialect is known.
const REFUSAL: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 10\r\nconnection: close\r\n\
    content-type: application/problem+json\r\ncontent-length: 135\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Too Many Requests\",\"status\":429,\"code\":\"rate_limited\",\
    \"detail\":\"This address has too many connections.\"}";
/// Refusals that are being said at a time; beyond that connections are closed without a word.
const REFUSALS: usize = 100;
/// How long a refused client may take to read that.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Open connections by address.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    open: Open,
    refusals: Arc<Semaphore>,
    refused: Counter,
}

/// No entry is 0: an address is forgotten with its last connection.
type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

fn lock(open: &Open) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that is counted, if it is, as long as this lives.
#[derive(Debug)]
pub(super) struct Counted(Option<(Open, IpAddr)>);

impl Connections {
    /// None yet, and at most so many of each address.
    pub(super) fn new(Most(most): Most) -> Self {
        Self {
            most,
            open: Open::default(),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            refused: metrics::counter!(names::RATE_LIMITED_TOTAL, "limit" => "connections"),
        }
    }

    /// Counts a connection, unless it is one too many: then `None`.
    pub(super) fn enter(&self, address: Option<IpAddr>) -> Option<Counted> {
        let Some(address) = address else { return Some(Counted(None)) };
        let mut open = lock(&self.open);
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted(Some((self.open.clone(), address))))
    }

    /// Tells one too many so, and closes it.
    pub(super) fn refuse(&self, stream: TcpStream) {
        self.refused.increment(1);
        let Ok(place) = self.refusals.clone().try_acquire_owned() else { return };
        tokio::spawn(async move {
            let mut stream = Stream::new(stream, REFUSAL_TIMEOUT, Unread::always());
            let refused = async {
                stream.write_all(REFUSAL).await?;
                stream.shutdown().await
            };
            // A client that does not listen is left.
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refused).await;
            drop(place);
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some((open, address)) = self.0.take() else { return };
        let mut open = lock(&open);
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_is_forgotten_with_the_last() {
        let connections = Connections::new(Most(2));
        let (one, other) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        let first = connections.enter(one).expect("the first");
        let second = connections.enter(one).expect("the second");
        assert!(connections.enter(one).is_none(), "one too many");
        assert!(connections.enter(other).is_some(), "another address");
        assert!(connections.enter(None).is_some(), "one that is not counted");
        drop(first);
        let third = connections.enter(one).expect("a place that is free again");
        drop((second, third));
        assert!(lock(&connections.open).is_empty(), "memory is bounded by what is open");
    }

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
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
