//! Finds which shard has to catch up after a subscription has lost messages because too many waited in it.
//!
//! What must hold: a shard learns of every loss of a subscription that is assigned to it, however many losses there are
//! and however late it looks, and of no other shard's. There are two exceptions, which concern all shards: a loss of a
//! subscription that is assigned to none; and each 64th loss of a connection, because the client drops reports of
//! losses while 128 events wait for it: among those 128 there is such a loss, or the client's queue has room again.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use async_nats::{Message, Subscriber};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::watch;

use protocol::id::Shard;

/// Losses that a connection reports, after which one concerns all shards: less than the events that may wait in the
/// client (`mpsc::channel(128)` in async-nats 0.51), of which a few may be others.
const ALL_SHARDS_EVERY: u64 = 64;

/// Which shard each subscription of a connection is assigned to.
#[derive(Clone, Debug, Default)]
pub struct Losses(Arc<Mutex<Assignments>>);

#[derive(Debug, Default)]
struct Assignments {
    shard_by_subscription: HashMap<u64, Shard>,
    /// Losses of each shard's subscriptions.
    loss_counts: HashMap<Shard, watch::Sender<u64>>,
    /// Losses of the connection.
    total: u64,
}

/// A subscription that is assigned to a shard until it is dropped.
#[derive(Debug)]
pub struct OwnedSubscription {
    subscriber: Subscriber,
    subscription_id: Option<u64>,
    losses: Losses,
}

impl Losses {
    fn lock(&self) -> MutexGuard<'_, Assignments> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of losses of a shard's subscriptions.
    #[must_use]
    pub fn of(&self, shard: Shard) -> watch::Receiver<u64> {
        self.lock().loss_counts.entry(shard).or_default().subscribe()
    }

    /// Assigns a subscription to a shard, for as long as the result lives.
    #[must_use]
    pub fn assign(&self, shard: Shard, subscriber: Subscriber) -> OwnedSubscription {
        let number = subscription_id(&subscriber);
        if let Some(number) = number {
            self.lock().shard_by_subscription.insert(number, shard);
        }
        OwnedSubscription { subscriber, subscription_id: number, losses: self.clone() }
    }

    /// Counts a loss of a subscription for its shard. Returns false where the loss concerns all shards instead.
    pub(super) fn count(&self, subscription_id: u64) -> bool {
        let mut assignments = self.lock();
        assignments.total += 1;
        if assignments.total.is_multiple_of(ALL_SHARDS_EVERY) {
            return false;
        }
        let Assignments { shard_by_subscription, loss_counts, .. } = &*assignments;
        let count = shard_by_subscription.get(&subscription_id).and_then(|shard| loss_counts.get(shard));
        count.is_some_and(|count| {
            count.send_modify(|count| *count += 1);
            true
        })
    }
}

impl Stream for OwnedSubscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.subscriber.poll_next_unpin(context)
    }
}

impl Drop for OwnedSubscription {
    fn drop(&mut self) {
        if let Some(number) = self.subscription_id {
            self.losses.lock().shard_by_subscription.remove(&number);
        }
    }
}

/// The first 64 bytes or so of a text: writing more fails.
struct Prefix(String);

impl fmt::Write for Prefix {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() > 64 {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The number under which the client reports a subscription's losses. The client shows it only in the subscription's
/// debug form; `None` where that form has changed, and its losses then concern all shards.
fn subscription_id(subscriber: &Subscriber) -> Option<u64> {
    let mut text = Prefix(String::new());
    // Fails once the prefix is full.
    let _ = write!(text, "{subscriber:?}");
    let digits = text.0.strip_prefix("Subscriber { sid: ")?;
    digits[..digits.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

#[cfg(test)]
mod tests {
    use async_nats::ConnectOptions;

    use super::*;
    use protocol::id::ShardCount;

    /// A client that is never connected: its subscriptions have numbers nevertheless.
    async fn client() -> async_nats::Client {
        let options = ConnectOptions::new().retry_on_initial_connect();
        options.connect("nats://127.0.0.1:1").await.expect("a client that is not connected yet")
    }

    #[tokio::test]
    async fn loss_is_counted_for_the_shard_of_the_subscription_and_each_64th_for_all() {
        let client = client().await;
        let losses = Losses::default();
        let shards: Vec<Shard> = ShardCount::new(2).expect("2").all().collect();
        let mut loss_counts: Vec<_> = shards.iter().map(|shard| losses.of(*shard)).collect();
        let mut numbers = Vec::new();
        let mut subscriptions = Vec::new();
        for shard in &shards[..2] {
            let subscriber = client.subscribe("a").await.expect("a subscription");
            numbers.push(subscription_id(&subscriber).expect("the client's debug form has the number"));
            subscriptions.push(losses.assign(*shard, subscriber));
        }
        assert_ne!(numbers[0], numbers[1]);
        for n in 1..=1_000 {
            assert_eq!(losses.count(numbers[1]), n % 64 != 0, "loss {n}");
        }
        assert_eq!([0, 1].map(|n| loss_counts[n].has_changed().expect("the sender exists")), [false, true]);
        assert_eq!(*loss_counts[1].borrow_and_update(), 1_000 - 1_000 / 64);
        drop(subscriptions);
        assert!(!losses.count(numbers[1]), "the subscription is assigned to no shard any more");
        assert!(!loss_counts[1].has_changed().expect("the sender exists"));
    }

    #[tokio::test]
    async fn dropped_loss_report_is_covered_by_a_loss_for_all_shards() {
        let client = client().await;
        let losses = Losses::default();
        let shard = ShardCount::new(1).expect("1").all().next().expect("a shard");
        let _count = losses.of(shard);
        let subscriber = client.subscribe("a").await.expect("a subscription");
        let number = subscription_id(&subscriber).expect("the client's debug form has the number");
        let _subscription = losses.assign(shard, subscriber);
        for before in 0..200 {
            // What waits in the client when it drops a report: at least 64 of the 128 events are losses.
            assert!((0..64).any(|_| !losses.count(number)), "after {before} times");
            losses.count(number);
        }
    }
}
