//! Prepares the paths of fanout: a live message to sockets, and a frame of a client.

use std::hint::black_box;

use async_nats::{HeaderMap, Message, header as nats};
use fanout::bench::{BenchRoom, BenchSession};
use protocol::{
    event::{EventName, header},
    id::RoomId,
    rpc::Surface,
    subject::Channel,
};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{Operation, WARM_UP_RUNS, subjects::SHARDS};

const ROOM: RoomId = RoomId(42);

pub(crate) fn native_room(runtime: &Runtime, sockets: usize) -> Operation {
    let data =
        r#"{"message":"hello, everyone","room":42,"user":"7","created_at":"2026-11-21T08:51:26.593514Z"}"#;
    deliver(runtime, &vec![Surface::Native; sockets], data)
}

pub(crate) fn match_room(runtime: &Runtime) -> Operation {
    let data = r#"{"message":"hello","room":42,"user":"7","created_at":"2026-11-21T08:51:26.593514Z","detail":{"match":{"user":{"id":7,"username":"Ann"},"room":{"pk":42,"users":[7,8]}}}}"#;
    deliver(runtime, &[Surface::Match; 2], data)
}

/// A live message that is delivered to a room with these sockets.
fn deliver(runtime: &Runtime, surfaces: &[Surface], data: &'static str) -> Operation {
    let mut room = runtime.block_on(BenchRoom::open(ROOM, SHARDS, surfaces));
    room.receive(message(1, data));
    for received in room.received() {
        let text = String::from_utf8_lossy(&received).into_owned();
        assert!(text.starts_with("answer") && text.contains("hello"), "a socket got {text:?}");
    }
    let mut messages = (2..WARM_UP_RUNS + 3).map(|seq| message(seq, data)).collect::<Vec<_>>().into_iter();
    Box::new(move || room.receive(black_box(messages.next().expect("there is a message for each run"))))
}

/// A message with the headers of the broker's republish.
fn message(seq: u64, data: &'static str) -> Message {
    let subject = Channel::Room(ROOM).unstored_subject(SHARDS, EventName::ChatMessage.as_str());
    let mut headers = HeaderMap::new();
    headers.insert(nats::NATS_SEQUENCE, seq.to_string());
    headers.insert(nats::NATS_LAST_SEQUENCE, (seq - 1).to_string());
    headers.insert(nats::NATS_SUBJECT, subject.as_str());
    headers.insert(nats::NATS_MESSAGE_ID, "0123456789abcdef0123456789abcdef");
    headers.insert(header::APPENDED, "1790000000000000");
    Message {
        subject: subject.into(),
        reply: None,
        payload: data.into(),
        headers: Some(headers),
        status: None,
        description: None,
        length: data.len(),
    }
}

pub(crate) fn frame(runtime: &Runtime) -> Operation {
    let mut reader = runtime.block_on(BenchSession::open(SHARDS));
    let action = json!({
        "action": "create_message", "room_pk": 42, "msg_text": "hello, everyone", "request_id": 17,
    });
    let frame = masked_text_frame(action.to_string().as_bytes());
    Box::new(move || assert!(reader.receive(black_box(&frame)), "the frame begins an action"))
}

/// A masked text frame, as clients send it.
fn masked_text_frame(text: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
    let mut frame = vec![0x81, 0x80 | length];
    frame.extend(MASK);
    frame.extend(text.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
