//! Limits the texts that people write. Lengths are in Unicode characters, not in bytes.
//!
//! U+0000 is refused everywhere: it is valid JSON, and Postgres can't hold it.

use crate::{error::Error, event::PersonChange};

/// Maximum length of a message, unless configured otherwise.
pub const TEXT_MAX: usize = 16_384;
/// Maximum length of a room's name.
pub const NAME_MAX: usize = 200;
/// Maximum length of a room's description.
pub const DESCRIPTION_MAX: usize = 2_000;
/// Maximum length of each text in a person's profile.
pub const CLAIM_MAX: usize = 2_000;
/// Maximum length of a query of full-text search.
pub const QUERY_MAX: usize = 200;
/// Maximum length of a `client_id` or `Idempotency-Key`.
pub const CLIENT_ID_MAX: usize = 128;
/// Maximum people named when a room is created.
pub const ROOM_USERS_MAX: usize = 100;
/// Maximum messages deleted at once.
pub const DELETE_MAX: usize = 100;

fn require_length(field: &str, text: &str, max: usize) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(Error::bad_request(format!("{field}: must not contain U+0000.")));
    }
    // Bytes are at least as many as characters: the common case needs no count.
    if text.len() > max && text.chars().count() > max {
        return Err(Error::bad_request(format!("{field}: must have at most {max} characters.")));
    }
    Ok(())
}

/// Checks a text that may be empty, but not too long.
///
/// # Errors
/// Names the field and the limit.
pub fn optional_text(field: &str, text: &str, max: usize) -> Result<(), Error> {
    require_length(field, text, max)
}

/// Checks a text that must be neither blank nor too long.
///
/// # Errors
/// Names the field and the limit.
pub fn required_text(field: &str, text: &str, max: usize) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(Error::bad_request(format!("{field}: must not be blank.")));
    }
    require_length(field, text, max)
}

/// Checks the text of a message.
///
/// # Errors
/// Names the field and the limit.
pub fn message_text(field: &str, text: &str, max: usize) -> Result<(), Error> {
    required_text(field, text, max)
}

/// Checks the texts of a person's profile.
///
/// # Errors
/// Names the field and the limit.
pub fn person(change: &PersonChange) -> Result<(), Error> {
    let fields = [
        ("username", &change.username),
        ("email", &change.email),
        ("gender", &change.gender),
        ("language", &change.language),
        ("account", &change.account),
        ("main_photo", &change.main_photo),
    ];
    fields.into_iter().try_for_each(|(field, text)| {
        optional_text(field, text.as_ref().and_then(Option::as_deref).unwrap_or(""), CLAIM_MAX)
    })
}

/// Checks a key by which the sender names a request: visible ASCII, so that it also fits a header.
///
/// # Errors
/// Names the field and the limit.
pub fn client_id(field: &str, text: &str) -> Result<(), Error> {
    if (1..=CLIENT_ID_MAX).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Ok(());
    }
    Err(Error::bad_request(format!("{field}: must be 1 to {CLIENT_ID_MAX} visible ASCII characters.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_lengths_are_in_characters() {
        assert!(message_text("message", &"ü".repeat(10), 10).is_ok());
        let error = message_text("message", &"ü".repeat(11), 10).expect_err("too long");
        assert_eq!(error.detail, "message: must have at most 10 characters.");
    }

    #[test]
    fn blank_text_and_nul_are_refused() {
        for bad in ["", " \n\t", "a\0b"] {
            assert!(message_text("message", bad, 10).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn client_ids_fit_a_header() {
        assert!(client_id("client_id", "c-1 ~").is_ok());
        for bad in ["", "\n", "ü", &"x".repeat(129)] {
            assert!(client_id("client_id", bad).is_err(), "{bad:?}");
        }
    }
}
