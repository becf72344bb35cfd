//! The way of a message, for `tests/bench`: from its body to what is appended.

use bytes::Bytes;
use shared::{
    error::Error,
    event::{Event, EventName},
    id::{RoomId, ShardCount},
    rules::{self, Caller},
    subject::Channel,
};
use tokio::time::Instant;

use crate::{commands::messages::Send, dialects::native};

/// The subject, the message id and the payload for the body of a `POST /rooms/{room}/messages`.
///
/// # Errors
/// Where the body is refused.
pub fn message(
    caller: &Caller,
    room: RoomId,
    shards: ShardCount,
    body: &[u8],
) -> Result<(String, String, Bytes), Error> {
    let (text, client_id) = native::new_message(body)?;
    rules::message_text("message", &text, rules::TEXT_MAX)?;
    let mut send = Send {
        room,
        text: &text,
        client_id: client_id.as_deref(),
        request: None.into(),
        is_in: true,
        is_pair: false,
        detail: None,
        deadline: Instant::now(),
    };
    let (message, id) = send.made(caller);
    let subject = Channel::Room(room).chat(shards, EventName::ChatMessage, None);
    Ok((subject, id.to_string(), Event::ChatMessage(message).encode()))
}
