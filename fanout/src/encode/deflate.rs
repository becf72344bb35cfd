//! Negotiates and applies permessage-deflate (RFC 7692), each message by itself.
//!
//! What must hold: no message is compressed with what another said, in either direction. So a frame is the
//! same bytes for every socket and is made once, a socket costs no memory for it, and sizes tell nobody
//! what others wrote. What a client's message grows to is bounded as any message is.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The window that everyone can have: some clients ask for no larger one, and hardly a message is longer.
const WINDOW_BITS: u8 = 12;
/// What the server answers to an offer that it takes.
pub(crate) const EXTENSION_ANSWER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12";
/// Messages below that many bytes go as they are. Above, some 40 µs a kilobyte and event halve what leaves for
/// each socket; of 200 bytes they would save 50.
pub(crate) const COMPRESS_FROM_BYTES: usize = 1_024;
/// What every compressed message ends with, which is left out.
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

thread_local! {
    static COMPRESS: RefCell<Compress> =
        RefCell::new(Compress::new_with_window_bits(Compression::default(), false, WINDOW_BITS));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Whether a client offers it in a way that the server can keep to.
pub(crate) fn is_offered<'a>(mut offers: impl Iterator<Item = &'a str>) -> bool {
    offers.any(is_fit)
}

fn is_fit(offer: &str) -> bool {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return false;
    }
    let mut seen = Vec::new();
    parts.all(|part| {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (part, None),
        };
        let bits = value.and_then(|value| value.parse().ok()).filter(|bits: &u8| (8..=15).contains(bits));
        let is_first = !seen.contains(&name);
        seen.push(name);
        is_first
            && match name {
                "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
                "client_max_window_bits" => value.is_none() || bits.is_some(),
                "server_max_window_bits" => bits.is_some_and(|bits| bits >= WINDOW_BITS),
                _ => false,
            }
    })
}

/// The message compressed; `None` where that makes it no shorter.
pub(crate) fn deflate(message: &[u8]) -> Option<Vec<u8>> {
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        let mut out = Vec::with_capacity(message.len());
        compress.compress_vec(message, &mut out, FlushCompress::Sync).ok()?;
        let is_whole = compress.total_in() == message.len() as u64 && out.len() < out.capacity();
        out.truncate(out.len().checked_sub(TAIL.len()).filter(|_| is_whole && out.ends_with(&TAIL))?);
        Some(out)
    })
}

/// What is wrong with a client's compressed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// It is not compressed.
    Corrupt,
    /// It grows beyond the bound.
    TooBig,
}

/// A client's message as it was before it was compressed, of at most so many bytes.
pub(crate) fn inflate(message: &[u8], at_most: usize) -> Result<Vec<u8>, InflateError> {
    DECOMPRESS.with_borrow_mut(|decompress| {
        decompress.reset(false);
        let mut out = Vec::new();
        for mut input in [message, &TAIL] {
            loop {
                // One byte above the bound is room enough to see that it is exceeded.
                out.reserve((4 * message.len()).max(1_024).min(at_most + 1 - out.len()));
                let before = (decompress.total_in(), out.len());
                let status = decompress.decompress_vec(input, &mut out, FlushDecompress::Sync);
                if out.len() > at_most {
                    return Err(InflateError::TooBig);
                }
                let taken = usize::try_from(decompress.total_in() - before.0).unwrap_or(usize::MAX);
                input = input.get(taken..).unwrap_or_default();
                match status {
                    Ok(Status::StreamEnd) => return Ok(out),
                    Ok(_) if input.is_empty() && out.len() < out.capacity() => break,
                    Ok(_) if taken > 0 || out.len() > before.1 => {}
                    Ok(_) | Err(_) => return Err(InflateError::Corrupt),
                }
            }
        }
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn an_offer_is_taken_where_it_can_be_kept_to() {
        let offered = |value: &str| is_offered(value.split(','));
        for fit in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            "permessage-deflate;server_no_context_takeover;client_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=\"15\"",
            "permessage-deflate; server_max_window_bits=9, permessage-deflate",
        ] {
            assert!(offered(fit), "{fit}");
        }
        for unfit in [
            "",
            "deflate-frame",
            "permessage-deflate; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; unknown",
        ] {
            assert!(!offered(unfit), "{unfit}");
        }
    }

    #[test]
    fn what_is_agreed_is_what_is_kept_to() {
        assert!(
            EXTENSION_ANSWER.ends_with(&format!("server_max_window_bits={WINDOW_BITS}"))
                && is_fit(EXTENSION_ANSWER)
        );
    }

    #[test]
    fn what_grows_beyond_the_bound_is_refused() {
        let bomb = deflate(&vec![b'x'; 1 << 20]).expect("it shrinks");
        assert!(bomb.len() < 10_000);
        assert_eq!(inflate(&bomb, (1 << 20) - 1), Err(InflateError::TooBig));
        assert_eq!(inflate(&bomb, 1 << 20).map(|text| text.len()), Ok(1 << 20));
    }

    #[test]
    fn what_does_not_shrink_is_left_as_it_is() {
        assert_eq!(deflate(b"ab"), None);
        assert_eq!(deflate(b""), None);
    }

    #[test]
    fn what_was_never_compressed_is_refused() {
        assert_eq!(inflate(b"\xff\xff\xff", 100), Err(InflateError::Corrupt));
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(text in "(ab|chat|[a-z]{3}|.){0,600}") {
            if let Some(deflated) = deflate(text.as_bytes()) {
                prop_assert!(deflated.len() < text.len());
                prop_assert_eq!(inflate(&deflated, text.len()), Ok(text.into_bytes()));
            }
        }

        #[test]
        fn any_bytes_end(bytes in vec(any::<u8>(), 0..300)) {
            if let Ok(text) = inflate(&bytes, 500) {
                prop_assert!(text.len() <= 500);
            }
        }
    }
}
