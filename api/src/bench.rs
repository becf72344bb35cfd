//! Exposes the path of a message to `tests/bench`: from its body to the append and its acknowledgement.

use crate::append::{AppendOutcome, AppendRequest, Appender, LogPosition, MsgId};
use bytes::Bytes;
use protocol::{
    caller::Caller,
    error::Error,
    event::{Event, EventName},
    id::{RoomId, ShardCount},
    subject::Channel,
    text,
};
use tokio::time::Instant;

use crate::{
    commands::state::APPEND_TIMEOUT,
    commands::{
        messages::{NewMessage, SenderAccess},
        request_context::RequestContext,
    },
    dialects::native,
};

/// Returns the subject, the message id and the payload for the body of a `POST /rooms/{room}/messages`.
///
/// # Errors
/// Fails if the body is refused.
pub fn message(
    caller: &Caller,
    room: RoomId,
    shards: ShardCount,
    body: &[u8],
) -> Result<(String, String, Bytes), Error> {
    let (event, id) = build_message(caller, room, body)?;
    let subject = Channel::Room(room).log_subject(shards, EventName::ChatMessage, None);
    Ok((subject, id.to_string(), event.encode()))
}

/// Sends the body of a `POST /rooms/{room}/messages` without checking access.
///
/// # Errors
/// Fails if the body is refused, or if the message is not stored.
pub async fn send(
    appender: &Appender,
    caller: &Caller,
    room: RoomId,
    body: &[u8],
) -> Result<LogPosition, Error> {
    let (event, id) = build_message(caller, room, body)?;
    let channel = Channel::Room(room);
    match appender.append(AppendRequest::new(&channel, &event, id), Instant::now() + APPEND_TIMEOUT).await? {
        AppendOutcome::New(position) => Ok(position),
        AppendOutcome::Earlier(_) => {
            Err(Error::internal(&"a new message has the message id of an earlier one"))
        }
    }
}

fn build_message(caller: &Caller, room: RoomId, body: &[u8]) -> Result<(Event, MsgId), Error> {
    let (text, client_id) = native::new_message(body)?;
    text::message_text("message", &text, text::TEXT_MAX)?;
    let request = RequestContext::internal();
    let mut send = NewMessage {
        room,
        text: &text,
        client_id: client_id.as_deref(),
        request: &request,
        access: SenderAccess::Granted,
        detail: None,
    };
    let (message, id) = send.build(caller);
    Ok((Event::ChatMessage(message), id))
}
