//! Limits how many of something each key may have at a time: connections of an address, searches of a person.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::Counter;

use super::{ConcurrencyLimit, refusals};

/// Permits that are held, by key. No entry is 0: a key is forgotten with its last permit.
type HeldPermits<K> = Mutex<HashMap<K, usize>>;

fn lock<K>(held: &HeldPermits<K>) -> MutexGuard<'_, HashMap<K, usize>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A limit of what each key may have at a time. Its memory is bounded by the permits that are held.
#[derive(Debug)]
pub struct AtOnce<K: Eq + Hash> {
    max: usize,
    held: Arc<HeldPermits<K>>,
    refused: Counter,
}

/// One of what a key may have at a time, until it is dropped.
#[derive(Debug)]
pub struct Permit<K: Eq + Hash> {
    held: Arc<HeldPermits<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> AtOnce<K> {
    /// Creates a limit with this name in the metrics.
    #[must_use]
    pub fn new(name: &'static str, ConcurrencyLimit(most): ConcurrencyLimit) -> Self {
        Self { max: most, held: Arc::default(), refused: refusals(name) }
    }

    /// Takes one of the key's permits. Returns `None`, and counts a refusal, if the key has as many as it may.
    #[must_use]
    pub fn take(&self, key: &K) -> Option<Permit<K>> {
        let mut held = lock(&self.held);
        let count = held.entry(key.clone()).or_default();
        if *count >= self.max {
            drop(held);
            self.refused.increment(1);
            return None;
        }
        *count += 1;
        Some(Permit { held: self.held.clone(), key: key.clone() })
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_limited_permits_and_is_forgotten_with_the_last() {
        let at_once = AtOnce::new("connections", ConcurrencyLimit(2));
        let first = at_once.take(&"one").expect("the first");
        let second = at_once.take(&"one").expect("the second");
        assert!(at_once.take(&"one").is_none(), "one too many");
        assert!(at_once.take(&"other").is_some(), "another key");
        drop(first);
        let third = at_once.take(&"one").expect("a permit that is free again");
        drop((second, third));
        assert!(lock(&at_once.held).is_empty(), "memory is bounded by what is held");
    }
}
