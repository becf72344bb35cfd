//! Negotiates and applies permessage-deflate (RFC 7692), without context between messages.
//!
//! What must hold: no message is compressed with the content of another, in either direction. So a compressed frame has
//! the same bytes for every socket and is made once, a socket needs no memory for compression, and the size of a frame
//! reveals nothing about other messages. The limit on the size of a client's message holds for its decompressed size.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Window of 4 KiB for all sockets: some clients accept no larger one, and few messages are longer.
const WINDOW_BITS: u8 = 12;
/// The extension header with which the server accepts an offer.
pub(crate) const EXTENSION_ANSWER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12";
/// Messages with fewer bytes are sent uncompressed. Compression takes about 40 µs per kilobyte, once for each event,
/// and halves the bytes for each socket. A message of 200 bytes would shrink by only 50.
pub(crate) const COMPRESS_FROM_BYTES: usize = 1_024;
/// The end of every compressed message, which is not sent (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

thread_local! {
    static COMPRESS: RefCell<Compress> =
        RefCell::new(Compress::new_with_window_bits(Compression::default(), false, WINDOW_BITS));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Whether one of a client's offers has only parameters that the server accepts.
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

/// Compresses a message; `None` if that does not make it shorter.
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

/// Why a client's message can't be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// Its bytes are not valid DEFLATE.
    Corrupt,
    /// Decompressed, it exceeds the limit.
    TooBig,
}

/// Decompresses a client's message, to `at_most` bytes.
pub(crate) fn inflate(message: &[u8], at_most: usize) -> Result<Vec<u8>, InflateError> {
    DECOMPRESS.with_borrow_mut(|decompress| {
        decompress.reset(false);
        let mut out = Vec::new();
        for mut input in [message, &TAIL] {
            loop {
                // Room for one byte above the limit, to notice that the message exceeds it.
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
    fn compression_offer_is_accepted_if_it_can_be_kept() {
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
    fn agreed_compression_parameters_are_kept() {
        assert!(
            EXTENSION_ANSWER.ends_with(&format!("server_max_window_bits={WINDOW_BITS}"))
                && is_fit(EXTENSION_ANSWER)
        );
    }

    #[test]
    fn message_that_inflates_beyond_the_bound_is_refused() {
        let bomb = deflate(&vec![b'x'; 1 << 20]).expect("it shrinks");
        assert!(bomb.len() < 10_000);
        assert_eq!(inflate(&bomb, (1 << 20) - 1), Err(InflateError::TooBig));
        assert_eq!(inflate(&bomb, 1 << 20).map(|text| text.len()), Ok(1 << 20));
    }

    #[test]
    fn frame_that_does_not_shrink_stays_uncompressed() {
        assert_eq!(deflate(b"ab"), None);
        assert_eq!(deflate(b""), None);
    }

    #[test]
    fn invalid_compressed_data_is_refused() {
        assert_eq!(inflate(b"\xff\xff\xff", 100), Err(InflateError::Corrupt));
    }

    proptest! {
        #[test]
        fn compressed_message_round_trips(text in "(ab|chat|[a-z]{3}|.){0,600}") {
            if let Some(deflated) = deflate(text.as_bytes()) {
                prop_assert!(deflated.len() < text.len());
                prop_assert_eq!(inflate(&deflated, text.len()), Ok(text.into_bytes()));
            }
        }

        #[test]
        fn inflating_any_bytes_ends(bytes in vec(any::<u8>(), 0..300)) {
            if let Ok(text) = inflate(&bytes, 500) {
                prop_assert!(text.len() <= 500);
            }
        }
    }
}
