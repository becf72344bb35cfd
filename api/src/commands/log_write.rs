//! Stores an event of a request in the log, or finds the event that the same request stored before.
//!
//! What must hold: a request is answered with the event stored under its message id, and only if that event equals
//! the requested one. A repeated request gets the first attempt's answer; another request under the same key is
//! refused.

use crate::append::{AppendOutcome, AppendRequest, DuplicateMismatch, LogPosition, MsgId};
use log::StoredEvent;
use protocol::{
    error::{Error, ErrorCode},
    event::{ChatMessage, Event, EventName, MessageDetail},
    id::UserId,
    subject::{self, Channel},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{request_context::RequestContext, request_key};
use crate::commands::state::CommandState;

/// Fields that may differ between two attempts of one request: times of the attempt, and values copied from rows that
/// may have changed between them.
const FIELDS_NOT_COMPARED: [&str; 7] =
    ["created_at", "activity", "updated_at", "issued_at", "edited_at", "deleted_at", "room_name"];

/// An event to store for a request.
pub(super) struct WriteRequest<'a> {
    pub(super) channel: &'a Channel,
    pub(super) event: Event,
    /// Identifies the append: the broker stores one event for each message id.
    pub(super) id: MsgId,
    /// Headers for the other services.
    pub(super) headers: Vec<(&'static str, String)>,
}

impl<'a> WriteRequest<'a> {
    /// Builds the write of a request that appends a single event.
    pub(super) fn new(
        user: &UserId,
        channel: &'a Channel,
        event: Event,
        request: &RequestContext<'_>,
    ) -> Self {
        let id = MsgId::new(user, channel, event.name(), &request_key(request.idempotency_key));
        Self { channel, event, id, headers: request.event_headers() }
    }
}

/// The stored event of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WrittenEvent {
    pub(crate) position: LogPosition,
    /// The stored event. After a repeated request it has the times of the first attempt.
    pub(crate) event: Event,
    /// False if an earlier attempt of the same request stored it.
    pub(crate) is_new: bool,
}

/// Appends an event of a request, or finds the one that an earlier attempt stored.
///
/// # Errors
/// Fails if the event is not stored, if the outcome is unknown, or if the key belongs to another request.
pub(super) async fn append(
    api: &CommandState,
    request: &RequestContext<'_>,
    write: WriteRequest<'_>,
) -> Result<WrittenEvent, Error> {
    let WriteRequest { channel, event, id, headers } = write;
    let append = AppendRequest { headers, ..AppendRequest::new(channel, &event, id) };
    let (position, earlier) = append_until_acknowledged(api, request, append, request.deadline).await?;
    let is_new = earlier.is_none();
    Ok(WrittenEvent { position, event: earlier.unwrap_or(event), is_new })
}

/// Appends until `until` or the request's deadline, whichever is earlier. Returns the event's position, and the
/// stored event if an earlier attempt of the same request stored it.
///
/// # Errors
/// Fails if nothing is stored, if the outcome is unknown, or if the key belongs to another request.
pub(super) async fn append_until_acknowledged(
    api: &CommandState,
    request: &RequestContext<'_>,
    append: AppendRequest<'_>,
    until: Instant,
) -> Result<(LogPosition, Option<Event>), Error> {
    let event = append.event;
    let subject = append.channel.log_subject(api.shards, event.name(), append.key);
    let appended = api.log.appender.append(append, request.deadline.min(until)).await?;
    let (position, earlier) = match appended {
        AppendOutcome::New(position) => (position, None),
        AppendOutcome::Earlier(earlier) => {
            let same = |stored: &StoredEvent| {
                let earlier = decode_stored(stored)?;
                (stored.subject == subject && is_same_request(&earlier, event)).then_some(earlier)
            };
            let (position, earlier) =
                earlier.verify(&api.log.jetstream, same).await.map_err(|mismatch| match mismatch {
                    DuplicateMismatch::Different => key_reused_error(event.name()),
                    DuplicateMismatch::Unreadable => {
                        let detail =
                            "It was stored before, and can't be read now. Try again under the same key.";
                        Error::new(ErrorCode::OutcomeUnknown, detail)
                    }
                })?;
            (position, Some(earlier))
        }
    };
    request.progress.note_stored();
    api.persister_lag.note_append(&api.log.applied, position);
    Ok((position, earlier))
}

/// Decodes a stored event; `None` if this version does not know its name or its form.
pub(super) fn decode_stored(stored: &StoredEvent) -> Option<Event> {
    let name = subject::parse(&stored.subject).ok().and_then(|parsed| EventName::parse(parsed.event))?;
    Event::decode(name, &stored.payload).ok()
}

/// Returns the error for a key that was used for another request.
pub(super) fn key_reused_error(event: EventName) -> Error {
    let detail = if event == EventName::ChatMessage {
        "This client_id was used before, with another text."
    } else {
        "This Idempotency-Key was used before, for something else."
    };
    Error::new(ErrorCode::KeyReused, detail)
}

/// Returns whether two events belong to one request: they differ at most in [`FIELDS_NOT_COMPARED`].
pub(super) fn is_same_request(one: &Event, other: &Event) -> bool {
    if let (Event::ChatMessage(one), Event::ChatMessage(other)) = (one, other) {
        return is_same_message(one, other);
    }
    let lasting = |event: &Event| {
        let mut value: Value = serde_json::from_slice(&event.encode()).unwrap_or_default();
        if let Value::Object(fields) = &mut value {
            for name in FIELDS_NOT_COMPARED {
                fields.remove(name);
            }
        }
        value
    };
    one.name() == other.name() && lasting(one) == lasting(other)
}

/// Compares messages without the detail of match rooms: it describes people and room at the time of the attempt, and
/// is no part of the request.
fn is_same_message(one: &ChatMessage, other: &ChatMessage) -> bool {
    let stored = |detail: &Option<MessageDetail>| detail.clone().filter(MessageDetail::is_stored);
    (&one.message, one.room, &one.user) == (&other.message, other.room, &other.user)
        && stored(&one.detail) == stored(&other.detail)
}

#[cfg(test)]
mod tests {
    use protocol::{
        clock::Timestamp,
        event::{MessageDelete, MessageEdit, MessageRead},
        id::{MessageId, RoomId},
    };
    use serde_json::json;

    use super::*;

    fn user() -> UserId {
        "7".parse().expect("an id")
    }

    fn at(second: i64) -> Timestamp {
        let text = format!("\"2026-11-21T08:51:{second:02}Z\"");
        serde_json::from_str(&text).expect("a moment")
    }

    fn edit(message: u64, text: &str, second: i64) -> Event {
        Event::MessageEdit(MessageEdit {
            message_id: MessageId(message),
            message: text.to_owned(),
            room: RoomId(42),
            user: user(),
            edited_at: at(second),
        })
    }

    fn delete(messages: &[u64], second: i64) -> Event {
        Event::MessageDelete(MessageDelete {
            messages_ids: messages.iter().copied().map(MessageId).collect(),
            room: RoomId(42),
            user: user(),
            deleted_at: at(second),
        })
    }

    fn message(text: &str, second: i64, detail: Option<MessageDetail>) -> Event {
        Event::ChatMessage(ChatMessage {
            message: text.to_owned(),
            room: RoomId(42),
            user: user(),
            created_at: at(second),
            client_id: None,
            detail,
        })
    }

    #[test]
    fn repeated_request_differs_from_the_first_in_its_times_alone() {
        assert!(is_same_request(&edit(1, "a", 1), &edit(1, "a", 2)));
        assert!(!is_same_request(&edit(1, "a", 1), &edit(2, "a", 1)), "another message");
        assert!(!is_same_request(&edit(1, "a", 1), &edit(1, "b", 1)), "another text");
        assert!(is_same_request(&delete(&[1, 2], 1), &delete(&[1, 2], 2)));
        assert!(!is_same_request(&delete(&[1, 2], 1), &delete(&[1], 1)));
        assert!(!is_same_request(&delete(&[1], 1), &edit(1, "a", 1)));
        let read = |id| {
            Event::MessageRead(MessageRead { message_id: MessageId(id), room: RoomId(42), user: user() })
        };
        assert!(is_same_request(&read(1), &read(1)));
        assert!(!is_same_request(&read(1), &read(2)));
    }

    #[test]
    fn repeated_message_may_describe_its_match_room_differently() {
        let described = |name| {
            let (user, room) = (json!({ "name": name }), json!({ "pk": 42 }));
            message("hi", 1, Some(MessageDetail::Match { user, room }))
        };
        assert!(is_same_request(&described("Ann"), &described("Anna")));
        let message_by = |auther: &str| {
            let (auther, message_type) = (auther.to_owned(), "text".to_owned());
            message("hi", 2, Some(MessageDetail::Support { side: true, auther, message_type }))
        };
        assert!(is_same_request(&message_by("Ann"), &message_by("Ann")));
        assert!(!is_same_request(&message_by("Ann"), &message_by("Bob")));
        assert!(!is_same_request(&message("hi", 1, None), &message("ho", 1, None)));
    }
}
