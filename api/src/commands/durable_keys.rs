//! Makes UUIDv7 keys of messages idempotent for ever, not only within the broker's duplicate window.
//!
//! The broker remembers a message id for one minute. A UUIDv7 says when it was made: a younger key is left to the
//! broker, at no cost. For an older one Postgres is asked first, once it has applied all messages of the room. What
//! must hold: two attempts under one key that are more than a minute apart are never both left to the broker.

use std::time::Duration;

use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::{Error, ErrorCode},
    event::{ChatMessage, EventName},
    id::{MessageId, RoomId},
    subject::Channel,
};
use service::metric_names as names;
use tokio::time::timeout;

use super::messages::SentMessage;
use crate::{commands::state::CommandState, queries::message_keys};

/// Maximum age of a key that is left to the broker, in ms: its window of 60 s, less the time of a request and
/// [`CLOCK_AHEAD_MAX_MS`].
const YOUNG_KEY_MAX_AGE_MS: i64 = 50_000;
/// How far the clock that made a key may be ahead of ours, in ms.
const CLOCK_AHEAD_MAX_MS: i64 = 3_000;

/// Maximum time of the look-up of an old key; the rest of the request's time remains for the append.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// Returns the time encoded in a UUIDv7, in ms since 1970; `None` for any other key.
fn uuid_created_at_ms(key: &str) -> Option<i64> {
    let bytes = key.as_bytes();
    let is_form = bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            14 => *byte == b'7',
            19 => matches!(byte, b'8' | b'9' | b'a' | b'b' | b'A' | b'B'),
            _ => byte.is_ascii_hexdigit(),
        });
    if !is_form {
        return None;
    }
    let number = |digits: &str| i64::from_str_radix(digits, 16).ok();
    Some((number(&key[..8])? << 16) | number(&key[9..13])?)
}

/// Returns whether the broker may have forgotten a message id made from this key.
fn is_old_key(key: &str, now_ms: i64) -> bool {
    uuid_created_at_ms(key)
        .is_some_and(|made_at| !(-CLOCK_AHEAD_MAX_MS..=YOUNG_KEY_MAX_AGE_MS).contains(&(now_ms - made_at)))
}

/// Finds the message that the caller sent to the room under an old key; `None` if there is none, or the key is not
/// old.
///
/// Called before access is checked: a message that was stored is answered as sent, even if the sender has lost access
/// since.
///
/// # Errors
/// Fails if Postgres can't answer in time, or if the stored message has another text. The text of a message that was
/// edited or deleted since is not compared.
pub(super) async fn find_earlier_message(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    client_id: &str,
    text: &str,
) -> Result<Option<SentMessage>, Error> {
    if !is_old_key(client_id, Timestamp::now().unix_ms()) {
        return Ok(None);
    }
    let unknown = |reason: &str| Error::unavailable("The check of this client_id", &reason);
    let lookup = async {
        let channel = Channel::Room(room);
        if !api.wait_until_events_applied(&channel, &[EventName::ChatMessage]).await? {
            return Err(unknown("the last messages are not applied yet"));
        }
        let shard = channel.shard(api.shards);
        Ok(message_keys::find_message(&api.pool, shard, room, &caller.user, client_id).await?)
    };
    let found = timeout(LOOKUP_TIMEOUT, lookup).await.map_err(|_| unknown("it took too long"))??;
    let outcome = if found.is_some() { "found" } else { "new" };
    metrics::counter!(names::OLD_KEYS_TOTAL, "outcome" => outcome).increment(1);
    let Some(found) = found else { return Ok(None) };
    if found.text.is_some_and(|stored| stored != text) {
        return Err(Error::new(ErrorCode::KeyReused, "This client_id was used before, with another text."));
    }
    let message = ChatMessage {
        message: text.to_owned(),
        room,
        user: caller.user.clone(),
        created_at: found.created_at,
        client_id: Some(client_id.to_owned()),
        detail: None,
    };
    Ok(Some(SentMessage { id: MessageId(found.id), message }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The broker's duplicate window.
    const WINDOW_MS: i64 = 60_000;
    /// Maximum time from the check of a key to its append.
    const REQUEST_MS: i64 = 5_000;

    fn key(made_at: i64) -> String {
        format!("{:08x}-{:04x}-7abc-8def-0123456789ab", made_at >> 16, made_at & 0xffff)
    }

    #[test]
    fn uuid_key_has_a_moment_and_other_keys_have_none() {
        assert_eq!(uuid_created_at_ms("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), Some(1_645_557_742_000));
        assert_eq!(uuid_created_at_ms(&key(1_645_557_742_000)), Some(1_645_557_742_000));
        for other in [
            "",
            "a",
            "017F22E2-79B0-4CC3-98C4-DC0C0C07398F",
            "017F22E2-79B0-7CC3-C8C4-DC0C0C07398F",
            "017F22E279B07CC398C4DC0C0C07398F",
            "017F22E2-79B0-7CC3-98C4-DC0C0C07398G",
            "{17F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        ] {
            assert_eq!(uuid_created_at_ms(other), None, "{other}");
            assert!(!is_old_key(other, 0));
        }
    }

    proptest! {
        #[test]
        fn attempts_a_minute_apart_are_not_both_left_to_the_broker(
            made_at in 0..1_i64 << 47,
            first in -100_000..200_000_i64,
            later in 0..200_000_i64,
        ) {
            let key = key(made_at);
            let (first, second) = (made_at + first, made_at + first + later);
            if !is_old_key(&key, first) && !is_old_key(&key, second) {
                prop_assert!(later + REQUEST_MS < WINDOW_MS);
            }
        }

        #[test]
        fn any_text_is_read_as_a_key(text in "\\PC{0,40}", now in any::<i64>()) {
            let _ = uuid_created_at_ms(&text).map(|made_at| now.saturating_sub(made_at));
        }
    }
}
