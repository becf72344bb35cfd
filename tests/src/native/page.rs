//! Reads a page of a list.

use serde::Deserialize;
use serde_json::Value;

use super::number;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Page<T = Value> {
    /// The entries.
    pub results: Vec<T>,
    /// The cursor of the next page; `None`, which is null and not left out, on the last one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub next: Option<String>,
}

impl Page {
    /// The `id` of each entry.
    ///
    /// # Panics
    /// When an entry has none.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.results.iter().map(|entry| number(entry, "id")).collect()
    }
}
