//! Measures how a subject is read and written.

use std::hint::black_box;

use protocol::{
    event::EventName,
    id::{RoomId, ShardCount},
    subject::{self, Channel},
};
use tokio::runtime::Runtime;

use crate::Operation;

/// Number of shards of the log.
pub(crate) const SHARDS: ShardCount = ShardCount::new(8).expect("a count");

pub(crate) fn room(_: &Runtime) -> Operation {
    subject_of(&Channel::Room(RoomId(42)))
}

pub(crate) fn person(_: &Runtime) -> Operation {
    subject_of(&Channel::User("ann.smith@example.com".parse().expect("an id")))
}

fn subject_of(channel: &Channel) -> Operation {
    let subject = channel.log_subject(SHARDS, EventName::ChatMessage, None);
    Box::new(move || {
        let parsed = subject::parse(black_box(&subject)).expect("our own form");
        assert_eq!(parsed.channel.log_subject(SHARDS, EventName::ChatMessage, None), subject);
    })
}
