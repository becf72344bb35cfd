//! Limits how many of something each key may have at a time: connections of an address, searches of a person.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::Counter;

use super::{ConcurrencyLimit, refusals};

/// Number of permits in use, by key. No entry is 0: a key is forgotten with its last permit.
type PermitCounts<K> = Mutex<HashMap<K, usize>>;

fn lock<K>(permit_counts: &PermitCounts<K>) -> MutexGuard<'_, HashMap<K, usize>> {
    permit_counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A limit of what each key may have at a time. Its memory is bounded by the permits in use.
#[derive(Debug)]
pub struct KeyedConcurrencyLimit<K: Eq + Hash> {
    max: usize,
    permit_counts: Arc<PermitCounts<K>>,
    refused: Counter,
}

/// A permit of a key, in use until it is dropped.
#[derive(Debug)]
pub struct Permit<K: Eq + Hash> {
    permit_counts: Arc<PermitCounts<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> KeyedConcurrencyLimit<K> {
    /// Creates a limit with this name in the metrics.
    #[must_use]
    pub fn new(name: &'static str, ConcurrencyLimit(max): ConcurrencyLimit) -> Self {
        Self { max, permit_counts: Arc::default(), refused: refusals(name) }
    }

    /// Takes one of the key's permits. Returns `None`, and counts a refusal, if all are in use.
    #[must_use]
    pub fn take(&self, key: &K) -> Option<Permit<K>> {
        let mut permit_counts = lock(&self.permit_counts);
        let count = permit_counts.entry(key.clone()).or_default();
        if *count >= self.max {
            drop(permit_counts);
            self.refused.increment(1);
            return None;
        }
        *count += 1;
        Some(Permit { permit_counts: self.permit_counts.clone(), key: key.clone() })
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut permit_counts = lock(&self.permit_counts);
        if let Some(count) = permit_counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                permit_counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_limited_permits_and_is_forgotten_with_the_last() {
        let limit = KeyedConcurrencyLimit::new("connections", ConcurrencyLimit(2));
        let first = limit.take(&"one").expect("the first");
        let second = limit.take(&"one").expect("the second");
        assert!(limit.take(&"one").is_none(), "the limit is reached");
        assert!(limit.take(&"other").is_some(), "another key has its own permits");
        drop(first);
        let third = limit.take(&"one").expect("a permit that is free again");
        drop((second, third));
        assert!(lock(&limit.permit_counts).is_empty(), "a key without permits is forgotten");
    }
}
