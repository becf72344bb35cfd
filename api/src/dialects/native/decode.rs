//! Decodes the native dialect's requests; every error names the field.

use std::str::FromStr;

use protocol::{
    error::Error,
    id::{MAX_ID, MessageId, RoomId},
};

use super::wire::HistoryQuery;
use crate::{
    dialects::json,
    queries::{
        messages::{ChangeCursor, HistoryPage},
        search,
    },
};

/// Maximum number of entries of a page.
pub(super) const LIMIT_MAX: i64 = 200;
/// Number of entries of a page where the request does not say.
const LIMIT_DEFAULT: i64 = 50;

pub(super) use crate::dialects::json::parse_object;

/// Parses `limit`, from 1 to [`LIMIT_MAX`]; by default [`LIMIT_DEFAULT`].
pub(super) fn parse_limit(text: Option<&str>) -> Result<i64, Error> {
    // A text that is not a number becomes 0, which is out of range.
    require_limit_in_range(text.map(|text| text.parse().unwrap_or(0)))
}

/// Checks that `limit` is from 1 to [`LIMIT_MAX`]; by default [`LIMIT_DEFAULT`].
pub(super) fn require_limit_in_range(limit: Option<i64>) -> Result<i64, Error> {
    match limit {
        None => Ok(LIMIT_DEFAULT),
        Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Error::bad_request(format!("limit: must be 1 to {LIMIT_MAX}."))),
    }
}

/// A request for a room's history.
pub(super) enum HistoryRequest {
    /// Messages before or after one, or the newest.
    Range(HistoryPage),
    /// Messages that are new or were changed after a position.
    Changes(ChangeCursor),
}

/// Parses the query of a history request.
pub(super) fn parse_history_query(query: &HistoryQuery) -> Result<HistoryRequest, Error> {
    match (&query.before, &query.after, &query.changed_after) {
        (None, None, Some(position)) => parse_change_position(position).map(HistoryRequest::Changes),
        (before, after, None) => {
            let before = before.as_deref().map(|text| parse_id("before", text)).transpose()?;
            let after = after.as_deref().map(|text| parse_id("after", text)).transpose()?;
            history_range(before, after).map(HistoryRequest::Range)
        }
        _ => Err(Error::bad_request("before, after, changed_after: only one of them can be given.")),
    }
}

/// The range of messages to read; `before` and `after` exclude each other.
pub(super) fn history_range(before: Option<u64>, after: Option<u64>) -> Result<HistoryPage, Error> {
    match (before, after) {
        (None, None) => Ok(HistoryPage::Newest),
        (Some(before), None) => Ok(HistoryPage::Before(before)),
        (None, Some(after)) => Ok(HistoryPage::After(after)),
        (Some(_), Some(_)) => Err(Error::bad_request("before, after: only one of them can be given.")),
    }
}

/// Parses a message's id, or 0, which is before all messages.
fn parse_id(field: &str, text: &str) -> Result<u64, Error> {
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(id),
        _ => Err(Error::bad_request(format!("{field}: must be a message's id."))),
    }
}

/// Parses a position among the changes: an event's id, as in pushes, or the `next` of the last answer.
fn parse_change_position(text: &str) -> Result<ChangeCursor, Error> {
    let read = || {
        let (event, message) = match text.split_once('-') {
            None => (text, None),
            Some((event, message)) => (event, Some(message.parse().ok()?)),
        };
        Some((parse_id("", event).ok()?, message))
    };
    read().ok_or_else(|| {
        Error::bad_request("changed_after: must be an event's id, or one that was given as `next`.")
    })
}

/// The cursor for the changes after this one.
pub(super) fn encode_change_position(event: u64, message: MessageId) -> String {
    format!("{event}-{message}")
}

/// The cursor for the entries after this one.
pub(super) fn encode_cursor(entry: &impl ToString) -> String {
    json::encode_cursor(entry)
}

/// Parses a cursor that [`encode_cursor`] made.
pub(super) fn decode_cursor<T: FromStr>(text: &str) -> Result<T, Error> {
    json::decode_cursor(text, |text| text.parse().ok())
}

/// The cursor for the search results after this message.
pub(super) fn encode_search_cursor((moment, room, message): search::SearchCursor) -> String {
    json::encode_cursor(&format!("{moment} {room} {message}"))
}

/// Parses a cursor that [`encode_search_cursor`] made.
pub(super) fn decode_search_cursor(text: &str) -> Result<search::SearchCursor, Error> {
    json::decode_cursor(text, |text| {
        let (room, message) = text.rsplit_once(' ')?;
        let (moment, room) = room.split_once(' ')?;
        Some((json::parse_timestamp(moment)?, room.parse().ok()?, message.parse().ok()?))
    })
}

/// Parses a room list's cursor: the list continues with the rooms before this one. Versions up to 0.1 wrote a
/// timestamp before the id.
pub(super) fn decode_room_cursor(text: &str) -> Result<RoomId, Error> {
    json::decode_cursor(text, |text| text.rsplit(' ').next()?.parse().ok())
}

/// Parses a new message's text and `client_id`, for the benchmarks.
#[cfg(feature = "bench")]
pub(crate) fn new_message(body: &[u8]) -> Result<(String, Option<String>), Error> {
    let super::wire::NewMessage { message, client_id } = parse_object(body)?;
    Ok((message, client_id))
}

/// Parses bytes as each body, frame and cursor of this dialect; for property tests and fuzzing.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    use super::wire;
    use json::assert_parsed_or_refused as read;
    read::<wire::NewRoom>(bytes);
    read::<wire::RoomChange>(bytes);
    read::<wire::NewTeam>(bytes);
    read::<wire::NewMessage>(bytes);
    read::<wire::NewText>(bytes);
    read::<wire::NewInvitation>(bytes);
    read::<wire::ReadUpTo>(bytes);
    read::<protocol::event::PersonChange>(bytes);
    read::<wire::frame::Subscribe>(bytes);
    read::<wire::frame::JoinRoom>(bytes);
    read::<protocol::socket::RoomFrame>(bytes);
    read::<wire::frame::CreateMessage>(bytes);
    read::<wire::frame::EditMessage>(bytes);
    read::<wire::frame::DeleteMessages>(bytes);
    read::<wire::frame::History>(bytes);
    read::<wire::frame::List>(bytes);
    read::<wire::frame::MarkRead>(bytes);
    read::<wire::frame::Invite>(bytes);
    read::<wire::frame::TopicInfo>(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = (decode_room_cursor(&text), decode_search_cursor(&text), decode_cursor::<MessageId>(&text));
    assert!(
        parse_limit(Some(&text)).is_ok_and(|limit| (1..=LIMIT_MAX).contains(&limit))
            || parse_limit(Some(&text)).is_err()
    );
    for which in 0..3 {
        let only = |n| (which == n).then(|| text.clone().into_owned());
        let query = HistoryQuery { before: only(0), after: only(1), changed_after: only(2), limit: None };
        assert!(
            parse_history_query(&query).is_ok()
                || parse_history_query(&query).is_err_and(|error| !error.detail.is_empty())
        );
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use protocol::clock::Timestamp;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::dialects::{
        json::any,
        native::wire::{NewMessage, NewRoom},
    };

    fn detail<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        parse_object::<T>(text.as_bytes()).expect_err("not of that form").detail
    }

    #[test]
    fn invalid_field_is_named() {
        assert_eq!(
            detail::<NewMessage>(r#"{"message":5}"#),
            "message: invalid type: integer `5`, expected a string."
        );
        assert_eq!(detail::<NewMessage>("{}"), "missing field `message`.");
        assert_eq!(detail::<NewMessage>("{"), "The body is not JSON.");
        assert_eq!(detail::<NewMessage>("{}{}"), "missing field `message`.");
        assert!(detail::<NewRoom>(r#"{"name":"a","users":["x y"]}"#).starts_with("users[0]: "));
    }

    #[test]
    fn cursor_round_trips() {
        assert_eq!(decode_room_cursor(&encode_cursor(&RoomId(42))), Ok(RoomId(42)));
        let of_before = URL_SAFE_NO_PAD.encode(format!("{} 42", Timestamp::now()));
        assert_eq!(decode_room_cursor(&of_before), Ok(RoomId(42)), "another node may be of an older version");
        assert!(decode_room_cursor("nonsense").is_err());
        let found_at = (Timestamp::now(), RoomId(42), MessageId(7));
        assert_eq!(decode_search_cursor(&encode_search_cursor(found_at)), Ok(found_at));
        assert!(decode_search_cursor(&of_before).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::bytes(), text in "[0-9]{0,20}(-[0-9]{0,20})?") {
            read_any(&bytes);
            read_any(text.as_bytes());
        }

        #[test]
        fn any_cursor_is_read_or_refused(
            moment in "[0-9]{4}-(01-01|12-31)T(00:00:00|23:59:59)(Z|[+-]23:59)",
            (room, message) in any::<(u64, u64)>(),
        ) {
            for text in [room.to_string(), format!("{moment} {room}"), format!("{moment} {room} {message}")] {
                read_any(URL_SAFE_NO_PAD.encode(text).as_bytes());
            }
        }
    }
}
