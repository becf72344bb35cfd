//! Encodes native pushes: `{"channel": …, "event": …, "id": …, "data": <the stored payload>}`.
//!
//! The payload is embedded as it is stored, without being parsed. Only if the event creates a thing whose id is the
//! event's own id, that id is inserted into the data.

use bytes::Bytes;
use protocol::{event::EventName, subject::Channel};

use crate::encode::frame;

/// Encodes an event; `None` if no socket is pushed it.
pub(crate) fn push_frame(channel: &Channel, event: &str, seq: u64, payload: &[u8]) -> Option<Bytes> {
    let known = EventName::parse(event);
    if known.is_some_and(|event| !event.is_pushed()) {
        return None;
    }
    let head = format!(r#"{{"channel":"{channel}","event":"{event}","id":{seq},"data":"#);
    if known.is_some_and(EventName::adds_id_to_push) {
        // The id is the event's sequence, which the broker assigned after api had written the payload.
        let rest = payload.strip_prefix(b"{")?;
        let id = format!(r#"{{"id":{seq},"#);
        return Some(frame::text(&[head.as_bytes(), id.as_bytes(), rest, b"}"]));
    }
    Some(frame::text(&[head.as_bytes(), payload, b"}"]))
}

/// Encodes an event that is never stored, and therefore has no id.
pub(crate) fn unstored_push_frame(channel: &Channel, event: &str, data: &[u8]) -> Bytes {
    let head = format!(r#"{{"channel":"{channel}","event":"{event}","data":"#);
    frame::text(&[head.as_bytes(), data, b"}"])
}

/// Whether a resume repeats the event. Presence and read marks are states, of which a client gets the current one in
/// answers, so a resume leaves out their past changes.
pub(crate) fn is_replayed(event: &str) -> bool {
    !matches!(
        EventName::parse(event),
        Some(
            EventName::ParticipantJoin
                | EventName::ParticipantLeave
                | EventName::MessageRead
                | EventName::Online
                | EventName::Offline
        )
    )
}

#[cfg(test)]
mod tests {
    use protocol::id::RoomId;

    use super::*;

    fn text(frame: &Bytes) -> String {
        let start = if frame[1] == 126 { 4 } else { 2 };
        String::from_utf8(frame[start..].to_vec()).expect("UTF-8")
    }

    #[test]
    fn push_frame_embeds_the_payload_unchanged() {
        let frame = push_frame(&Channel::Room(RoomId(42)), "chat-message", 1234, br#"{"message":"hi"}"#)
            .expect("a push");
        assert_eq!(
            text(&frame),
            r#"{"channel":"room-42","event":"chat-message","id":1234,"data":{"message":"hi"}}"#
        );
    }

    #[test]
    fn push_of_a_new_room_has_its_id() {
        let frame =
            push_frame(&Channel::System, "chatroom", 7, br#"{"request_type":"chatroom"}"#).expect("a push");
        assert_eq!(
            text(&frame),
            r#"{"channel":"system","event":"chatroom","id":7,"data":{"id":7,"request_type":"chatroom"}}"#
        );
        assert_eq!(push_frame(&Channel::System, "room-made", 7, b"{}"), None);
    }
}
