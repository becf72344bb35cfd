//! Which subscriptions have lost messages because too much waited in them.
//!
//! What must hold: whoever carries a subscription is told of every loss of it, however many there are and however
//! late it looks; and nobody else is. A subscription that nobody carries is everybody's.

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

use crate::id::Shard;

/// Who carries which of a connection's subscriptions.
#[derive(Clone, Debug, Default)]
pub struct Losses(Arc<Mutex<Carriers>>);

#[derive(Debug, Default)]
struct Carriers {
    by_subscription: HashMap<u64, Shard>,
    /// How many losses each shard was told of.
    told: HashMap<Shard, watch::Sender<u64>>,
}

/// A subscription that a shard carries.
#[derive(Debug)]
pub struct Carried {
    subscriber: Subscriber,
    number: Option<u64>,
    losses: Losses,
}

impl Losses {
    fn carriers(&self) -> MutexGuard<'_, Carriers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of losses of what a shard carries.
    #[must_use]
    pub fn of(&self, shard: Shard) -> watch::Receiver<u64> {
        self.carriers().told.entry(shard).or_default().subscribe()
    }

    /// A shard carries a subscription, for as long as the result lives.
    #[must_use]
    pub fn carry(&self, shard: Shard, subscriber: Subscriber) -> Carried {
        let number = number(&subscriber);
        if let Some(number) = number {
            self.carriers().by_subscription.insert(number, shard);
        }
        Carried { subscriber, number, losses: self.clone() }
    }

    /// A subscription has lost a message. False where nobody carries it.
    pub(super) fn note(&self, number: u64) -> bool {
        let carriers = self.carriers();
        let told = carriers.by_subscription.get(&number).and_then(|shard| carriers.told.get(shard));
        told.is_some_and(|told| {
            told.send_modify(|count| *count += 1);
            true
        })
    }
}

impl Stream for Carried {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.subscriber.poll_next_unpin(context)
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.losses.carriers().by_subscription.remove(&number);
        }
    }
}

/// The beginning of a text: writing more than that fails.
struct Beginning(String);

impl fmt::Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() > 64 {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The number by which the client tells of a subscription's losses. It says it in the subscription's debug form alone;
/// where that is another one, its losses are everybody's.
fn number(subscriber: &Subscriber) -> Option<u64> {
    let mut text = Beginning(String::new());
    // It ends where enough is written.
    let _ = write!(text, "{subscriber:?}");
    let digits = text.0.strip_prefix("Subscriber { sid: ")?;
    digits[..digits.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

#[cfg(test)]
mod tests {
    use async_nats::ConnectOptions;

    use super::*;
    use crate::id::ShardCount;

    #[tokio::test]
    async fn loss_is_told_to_the_shard_that_carries_the_subscription_alone() {
        let client = ConnectOptions::new().retry_on_initial_connect().connect("nats://127.0.0.1:1").await;
        let client = client.expect("a client that waits");
        let losses = Losses::default();
        let shards: Vec<Shard> = ShardCount::new(2).expect("2").all().collect();
        let mut told: Vec<_> = shards.iter().map(|shard| losses.of(*shard)).collect();
        let mut numbers = Vec::new();
        let mut carried = Vec::new();
        for shard in &shards[..2] {
            let subscriber = client.subscribe("a").await.expect("a subscription");
            numbers.push(number(&subscriber).expect("the client's debug form has the number"));
            carried.push(losses.carry(*shard, subscriber));
        }
        assert_ne!(numbers[0], numbers[1]);
        for _ in 0..1_000 {
            assert!(losses.note(numbers[1]));
        }
        assert_eq!([0, 1].map(|n| told[n].has_changed().expect("it lives")), [false, true]);
        assert_eq!(*told[1].borrow_and_update(), 1_000);
        drop(carried);
        assert!(!losses.note(numbers[1]), "nobody carries it any more");
        assert!(!told[1].has_changed().expect("it lives"));
    }
}
