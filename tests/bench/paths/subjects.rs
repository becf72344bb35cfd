//! Prepares the paths of subjects: parsing one and writing it again.

use std::hint::black_box;

use protocol::{
    event::EventName,
    id::{RoomId, ShardCount},
    subject::{self, Channel},
};
use tokio::runtime::Runtime;

use crate::Operation;

/// Number of shards of the log.
pub(crate) const SHARDS: ShardCount = ShardCount::new(8).expect("a valid number of shards");

pub(crate) fn room(_: &Runtime) -> Operation {
    subject_of(&Channel::Room(RoomId(42)))
}

pub(crate) fn person(_: &Runtime) -> Operation {
    subject_of(&Channel::User("ann.smith@example.com".parse().expect("a valid user id")))
}

fn subject_of(channel: &Channel) -> Operation {
    let subject = channel.log_subject(SHARDS, EventName::ChatMessage, None);
    Box::new(move || {
        let parsed = subject::parse(black_box(&subject)).expect("a subject that was written can be parsed");
        assert_eq!(parsed.channel.log_subject(SHARDS, EventName::ChatMessage, None), subject);
    })
}
