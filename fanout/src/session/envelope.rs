//! Reads the head of frames, and encodes answers. All dialects of sockets use the envelope of match sockets:
//! `{"errors", "data", "action", "response_status", "request_id"}`.

use bytes::Bytes;
use protocol::{
    json::ObjectText,
    rpc::ActionReply,
    socket::{self, SubscriptionPosition},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::encode::frame;
use crate::shard::subscribe::{AnswerFn, SubscriptionStart};

/// The fields that every frame has. The others belong to its action.
#[derive(Deserialize)]
struct FrameHead<'a> {
    #[serde(borrow, default)]
    action: Option<&'a RawValue>,
    #[serde(borrow, default)]
    request_id: Option<&'a RawValue>,
}

/// The fields of a frame that its answer repeats.
#[derive(Clone)]
pub(super) struct SocketRequest {
    pub(super) action: String,
    /// A JSON scalar.
    request_id: String,
}

impl SocketRequest {
    /// Reads the head of a frame, and returns it with the whole frame as JSON. The error is the frame that refuses it.
    pub(super) fn parse(text: &str) -> Result<(Self, &RawValue), Bytes> {
        let raw: &RawValue =
            serde_json::from_str(text).map_err(|_| error_frame(None, 400, "The frame is not JSON."))?;
        let head = Some(raw.get()).filter(|text| text.starts_with('{'));
        let head = head.and_then(|text| serde_json::from_str::<FrameHead<'_>>(text).ok());
        let Some(head) = head else {
            return Err(error_frame(None, 400, "The frame must be a JSON object without repeated keys."));
        };
        let name = head.action.and_then(|action| serde_json::from_str::<String>(action.get()).ok());
        match name {
            Some(action) => Ok((Self { action, request_id: echoed(head.request_id) }, raw)),
            None => Err(error_frame(head.request_id, 405, "Unable to find action in message body.")),
        }
    }

    /// Encodes an answer. `data` is JSON, and null if it is `None`.
    pub(super) fn answer_frame(&self, status: u16, errors: &[String], data: Option<&str>) -> Bytes {
        let errors = serde_json::to_string(errors).unwrap_or_else(|_| "[]".to_owned());
        let action = serde_json::Value::from(self.action.as_str());
        frame::text(&[
            format!(r#"{{"errors":{errors},"data":"#).as_bytes(),
            data.unwrap_or("null").as_bytes(),
            format!(r#","action":{action},"response_status":{status},"request_id":{}}}"#, self.request_id)
                .as_bytes(),
        ])
    }

    /// Encodes an answer without data, with one error.
    pub(super) fn refusal_frame(&self, status: u16, detail: &str) -> Bytes {
        self.answer_frame(status, &[detail.to_owned()], None)
    }

    /// The answer to a match socket that has joined a room: exactly api's reply.
    pub(super) fn match_join_answer(self, reply: &ActionReply) -> AnswerFn {
        let frame = self.answer_frame(reply.status, &reply.errors, reply.data.as_deref().map(RawValue::get));
        Box::new(|_: &SubscriptionStart| frame)
    }

    /// The answer to a native socket that follows a channel: api's data, with what only this node knows, the people
    /// present and the position at which the subscription begins. In the answer to a participant, the position is a
    /// field of its own, since the data is a room, which has an `id` itself.
    pub(super) fn native_subscribe_answer(self, reply: &ActionReply, is_participant: bool) -> AnswerFn {
        let status = reply.status;
        let mut data = ObjectText::new(reply.data.as_deref());
        Box::new(move |start: &SubscriptionStart| {
            if let Some(participants) = &start.participants_json {
                data.add_fields(participants);
            }
            let position = SubscriptionPosition {
                shard: start.shard_index,
                epoch: start.epoch,
                id: start.after_seq,
                recovered: start.is_recovered,
            };
            let position = serde_json::to_string(&position).expect("text keys and no failing serializer");
            if is_participant {
                data.add_fields(&format!(r#""position":{position}"#));
            } else {
                data.add_all_of(&position);
            }
            self.answer_frame(status, &[], Some(&data.finish()))
        })
    }
}

/// Encodes an answer that refuses a frame whose action can't be read.
pub(super) fn error_frame(request_id: Option<&RawValue>, status: u16, detail: &str) -> Bytes {
    let body = serde_json::json!([detail]);
    let id = echoed(request_id);
    let text = format!(
        r#"{{"errors":{body},"data":null,"action":null,"response_status":{status},"request_id":{id}}}"#
    );
    frame::text(&[text.as_bytes()])
}

/// Panics unless the answer to this text is a valid envelope. For tests with any text.
#[cfg(any(test, fuzzing))]
pub(crate) fn check_any_text(text: &str) {
    let answer = match SocketRequest::parse(text) {
        Ok((request, whole)) => {
            assert!(whole.get().starts_with('{'), "{text}");
            request.refusal_frame(405, text)
        }
        Err(refusal) => refusal,
    };
    // The length of a frame's header depends on the length of its payload.
    let header = match answer[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let envelope: serde_json::Value = serde_json::from_slice(&answer[header..]).expect("an answer is JSON");
    let keys: Vec<&String> = envelope.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["action", "data", "errors", "request_id", "response_status"], "{text}");
    assert!(!envelope["request_id"].is_object() && !envelope["request_id"].is_array(), "{text}");
}

/// A request's id, as it is repeated in the answer: null unless it is a JSON scalar.
fn echoed(id: Option<&RawValue>) -> String {
    socket::request_id(id).unwrap_or("null").to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn part() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            ".*".prop_map(|text| json!([text])),
            ".*".prop_map(|text| json!({ "action": text })),
        ]
    }

    proptest! {
        #[test]
        fn any_text_is_answered_in_the_envelope(text in ".*", action in part(), id in part()) {
            check_any_text(&text);
            check_any_text(&action.to_string());
            check_any_text(&json!({ "action": action, "request_id": id }).to_string());
            check_any_text(&format!(r#"{{"action":{action},"request_id":{id},"action":{action}}}"#));
        }

        #[test]
        fn request_id_is_echoed_unchanged(action in ".*", id in part()) {
            let text = json!({ "action": action, "request_id": id }).to_string();
            let (request, _) = SocketRequest::parse(&text).expect("an action");
            prop_assert_eq!(request.action, action);
            let expected = if id.is_array() || id.is_object() { Value::Null } else { id };
            prop_assert_eq!(request.request_id, expected.to_string());
        }
    }
}
