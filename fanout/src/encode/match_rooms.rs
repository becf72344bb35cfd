//! Encodes pushes for match sockets: everyone in a room is sent the answer that the sender of a message gets.
//!
//! `request_id` is that of the sender's frame, or null if the message was sent in another dialect.

use bytes::Bytes;
use protocol::event::{ChatMessage, Event, EventName, MessageDetail, header};
use serde_json::{Value, json};

use super::{event::LiveEvent, frame};

/// Encodes an event; `None` if match sockets are not pushed it, because it neither creates, edits nor deletes messages.
pub(crate) fn push_frame(event: LiveEvent<'_>) -> Option<Bytes> {
    let name = EventName::parse(event.name)?;
    let (action, status, data) = match Event::decode(name, event.payload).ok()? {
        Event::ChatMessage(message) => ("create_message", 201, created(event.seq, message)),
        Event::MessageEdit(edit) => {
            let data = json!({
                "room_id": edit.room, "message_id": edit.message_id, "message_text": edit.message,
            });
            ("edit_message", 200, data)
        }
        Event::MessageDelete(delete) => {
            ("delete_messages", 200, json!({ "room_id": delete.room, "messages_ids": delete.messages_ids }))
        }
        _ => return None,
    };
    let request = event.headers.and_then(|headers| headers.get_last(header::REQUEST_ID));
    let request = request.map_or("null", |id| id.as_str());
    Some(frame::text(&[
        format!(
            r#"{{"errors":[],"data":{data},"action":"{action}","response_status":{status},"request_id":"#
        )
        .as_bytes(),
        request.as_bytes(),
        b"}",
    ]))
}

fn created(id: u64, message: ChatMessage) -> Value {
    let (user, room) = match message.detail {
        Some(MessageDetail::Match { user, room }) => (user, room),
        _ => (json!({ "id": message.user.to_value() }), json!({ "pk": message.room })),
    };
    json!({
        "id": id, "text": message.message, "user": user, "created_at": message.created_at, "room": room,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_of_a_later_version_is_pushed_to_native_sockets_only() {
        let payload = br#"{"room":42,"reaction":"+1"}"#;
        let event = LiveEvent { name: "reaction-add", seq: 7, headers: None, payload };
        assert_eq!(push_frame(event), None);
        let native = super::super::native::push_frame(
            &"room-42".parse().expect("a channel"),
            "reaction-add",
            7,
            payload,
        );
        assert!(native.is_some_and(|frame| frame.ends_with(br#""data":{"room":42,"reaction":"+1"}}"#)));
    }
}
