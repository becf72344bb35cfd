//! Prepares the path of the persister: a batch of messages that it has read.

use std::hint::black_box;

use async_nats::HeaderMap;
use log::StoredEvent;
use persister::bench::columns;
use protocol::{
    event::{EventName, header},
    id::RoomId,
    subject::Channel,
};
use time::OffsetDateTime;
use tokio::runtime::Runtime;

use crate::{Operation, subjects::SHARDS};

/// Number of messages in the batch.
const MESSAGES: u64 = 100;

pub(crate) fn batch(_: &Runtime) -> Operation {
    let batch: Vec<StoredEvent> = (1..=MESSAGES).map(message).collect();
    Box::new(move || assert_eq!(columns(black_box(&batch)), (100, 0)))
}

fn message(seq: u64) -> StoredEvent {
    let channel = Channel::Room(RoomId(8 * seq));
    let mut headers = HeaderMap::new();
    headers.insert(header::APPENDED, "1790000000000000");
    let payload = format!(
        r#"{{"message":"message {seq} of a batch","room":{},"user":"user-{seq}","created_at":"2026-11-21T08:51:26.593514Z","client_id":"c-{seq}"}}"#,
        8 * seq
    );
    StoredEvent {
        shard: channel.shard(SHARDS),
        seq,
        subject: channel.log_subject(SHARDS, EventName::ChatMessage, None),
        headers,
        payload: payload.into(),
        time: OffsetDateTime::UNIX_EPOCH,
    }
}
