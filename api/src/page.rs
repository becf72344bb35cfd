//! Ends pages of answers before they exceed what the connection to the client allows.
//!
//! What must hold: the length of entries is counted in their encoded form, since JSON escapes make up to six bytes of
//! one character. A page that ends early says where the next one begins. An entry that does not fit even alone is
//! refused with an error of its own, never left out.

use std::io::{self, Write};

use protocol::error::{Error, ErrorCode};
use serde::Serialize;

/// Maximum size of a JSON answer over HTTP, in bytes.
pub(crate) const HTTP_MAX_BYTES: usize = 4 << 20;
/// Maximum size of an answer to a socket's action, in bytes. A socket's outbox has 1 MiB by default, which the answer
/// shares with waiting pushes.
const SOCKET_MAX_BYTES: usize = 768 << 10;
/// Bytes reserved for what surrounds the entries of a page: keys, cursors, the envelope of a reply.
const ENVELOPE_BYTES: usize = 4 << 10;

/// Returns the maximum size of a reply over a broker whose messages have at most `max_payload` bytes, headers
/// included.
pub(crate) const fn reply_max_bytes(max_payload: usize) -> usize {
    max_payload.saturating_sub(ENVELOPE_BYTES)
}

/// Returns the maximum size of the data in an answer to a socket's action over such a broker.
pub(crate) const fn socket_max_bytes(max_payload: usize) -> usize {
    let reply = reply_max_bytes(max_payload).saturating_sub(ENVELOPE_BYTES);
    if reply < SOCKET_MAX_BYTES { reply } else { SOCKET_MAX_BYTES }
}

/// An entry of a list that is returned in pages.
pub(crate) trait PageEntry: Serialize {
    /// Removes what clients can read elsewhere. Called if the entry alone exceeds the maximum size of an answer.
    fn shorten(&mut self) {}
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    /// The entries, in the order in which the list is read.
    pub(crate) entries: Vec<T>,
    /// Whether the list goes on after them.
    pub(crate) has_more: bool,
}

impl<T> Page<T> {
    /// Reads up to `limit` entries by a query that is given how many to return: one more, which shows whether the list
    /// goes on, so that no page is empty but that of an empty list.
    pub(crate) async fn read<E: Into<Error>>(
        limit: i64,
        query: impl AsyncFnOnce(i64) -> Result<Vec<T>, E>,
    ) -> Result<Self, Error> {
        Ok(Self::of(query(limit + 1).await.map_err(Into::into)?, limit))
    }

    /// The first `limit` of these entries.
    pub(crate) fn of(mut entries: Vec<T>, limit: i64) -> Self {
        let limit = entry_count(limit);
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        Self { entries, has_more }
    }

    /// Converts each entry.
    pub(crate) fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page { entries: self.entries.into_iter().map(convert).collect(), has_more: self.has_more }
    }

    /// The last entry, where the list goes on after it.
    pub(crate) fn last_if_more(&self) -> Option<&T> {
        self.entries.last().filter(|_| self.has_more)
    }
}

impl<T: PageEntry> Page<T> {
    /// Cuts the page to what fits into an answer of `max_bytes`: at least one entry, if there is any.
    ///
    /// # Errors
    /// Fails if the first entry does not fit, even shortened.
    pub(crate) fn fit(self, max_bytes: usize) -> Result<Self, Error> {
        let fitted = fit_page(self.entries, max_bytes)?;
        Ok(Self { has_more: self.has_more || fitted.has_more, ..fitted })
    }
}

/// Returns as many entries as fit into an answer of `max_bytes`: at least one, if there is any.
///
/// # Errors
/// Fails if the first entry does not fit, even shortened.
pub(crate) fn fit_page<T: PageEntry>(
    entries: impl IntoIterator<Item = T>,
    max_bytes: usize,
) -> Result<Page<T>, Error> {
    let mut bytes_left = max_bytes.saturating_sub(ENVELOPE_BYTES);
    let mut fitted = Page { entries: Vec::new(), has_more: false };
    for mut entry in entries {
        // One byte for the comma.
        let mut bytes = json_bytes(&entry) + 1;
        if bytes > bytes_left && fitted.entries.is_empty() {
            entry.shorten();
            bytes = json_bytes(&entry) + 1;
            if bytes > bytes_left {
                return Err(too_large_error());
            }
        }
        if bytes > bytes_left {
            fitted.has_more = true;
            break;
        }
        bytes_left -= bytes;
        fitted.entries.push(entry);
    }
    Ok(fitted)
}

/// Returns the entry of an answer, shortened if it would exceed `max_bytes`.
///
/// # Errors
/// Fails if it does not fit even then.
pub(crate) fn fit_entry<T: PageEntry>(entry: T, max_bytes: usize) -> Result<T, Error> {
    fit_page([entry], max_bytes)?.entries.pop().ok_or_else(too_large_error)
}

/// Converts the limit of a query to a number of entries.
pub(crate) fn entry_count(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Returns the error for an answer that exceeds the maximum and can't be split.
pub(crate) fn too_large_error() -> Error {
    Error::new(ErrorCode::TooLarge, "The answer would be too large. Ask for less, or for a page of it.")
}

/// Returns the length of a value in JSON, in bytes.
pub(crate) fn json_bytes(value: &impl Serialize) -> usize {
    struct ByteCounter(usize);

    impl Write for ByteCounter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut count = ByteCounter(0);
    // A value that can't be encoded is refused later, when the answer is encoded.
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    impl PageEntry for String {
        fn shorten(&mut self) {
            self.truncate(self.chars().next().map_or(0, char::len_utf8));
        }
    }

    /// Makes texts of characters that take one to six bytes in JSON.
    fn texts() -> impl Strategy<Value = Vec<String>> {
        vec(vec(prop_oneof![Just('a'), Just('\u{1}'), Just('ж'), Just('"'), Just('😀')], 0..400), 0..40)
            .prop_map(|texts| texts.into_iter().map(String::from_iter).collect())
    }

    proptest! {
        #[test]
        fn pages_have_every_entry_once_and_none_is_larger_than_allowed(
            texts in texts(),
            max_bytes in ENVELOPE_BYTES + 3_000..ENVELOPE_BYTES + 20_000,
        ) {
            let mut received = Vec::new();
            loop {
                let page = fit_page(texts[received.len()..].iter().cloned(), max_bytes).expect("each fits alone");
                prop_assert!(json_bytes(&page.entries) + ENVELOPE_BYTES <= max_bytes + 2);
                prop_assert!(!page.entries.is_empty() || received.len() == texts.len());
                received.extend(page.entries);
                if !page.has_more {
                    break;
                }
            }
            prop_assert_eq!(received, texts);
        }
    }

    #[test]
    fn entry_that_does_not_fit_alone_is_shortened_or_refused() {
        let long = "\u{1}".repeat(16_384);
        let bound = ENVELOPE_BYTES + 50_000;
        assert_eq!(fit_entry(long.clone(), bound).expect("its beginning fits"), "\u{1}");
        let pages = fit_page(["a".to_owned(), long.clone()], bound).expect("the first fits");
        assert!(pages.has_more && pages.entries == ["a"]);
        assert_eq!(fit_entry(long, ENVELOPE_BYTES).expect_err("no room at all").code, ErrorCode::TooLarge);
    }

    #[test]
    fn longest_legal_texts_fill_pages_below_the_payload_of_the_broker() {
        for (character, per_page) in [("ж", 23), ("\u{1}", 7)] {
            let text = character.repeat(16_384);
            let max_bytes = socket_max_bytes(1 << 20);
            let page = fit_page(vec![text; 200], max_bytes).expect("one fits");
            assert!(page.has_more);
            assert_eq!(page.entries.len(), per_page);
            assert!(json_bytes(&page.entries) < max_bytes);
        }
    }
}
