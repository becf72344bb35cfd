//! Subjects and tokens.

use std::hint::black_box;

use serde_json::json;
use shared::{
    event::EventName,
    id::{RoomId, ShardCount},
    lifecycle::Shutdown,
    subject::{self, Channel},
    token::{self, TokenArgs, Verifier},
};
use tokio::runtime::Runtime;

use crate::Operation;

/// The shards of the log.
pub(crate) const SHARDS: ShardCount = ShardCount::new(8).expect("a count");

pub(crate) fn room(_: &Runtime) -> Operation {
    subject_of(&Channel::Room(RoomId(42)))
}

pub(crate) fn person(_: &Runtime) -> Operation {
    subject_of(&Channel::User("ann.smith@example.com".parse().expect("an id")))
}

fn subject_of(channel: &Channel) -> Operation {
    let subject = channel.chat(SHARDS, EventName::ChatMessage, None);
    Box::new(move || {
        let parsed = subject::parse(black_box(&subject)).expect("our own form");
        assert_eq!(parsed.channel.chat(SHARDS, EventName::ChatMessage, None), subject);
    })
}

pub(crate) fn token(runtime: &Runtime) -> Operation {
    let secret = "s".repeat(32);
    let claims = json!({
        "user_id": 7, "iat": 1_790_000_000, "exp": 4_102_444_800_u64, "token_type": "access",
        "username": "Ann", "email": "ann@example.com", "language": "en",
    });
    let token = token::sign(&secret, &claims).expect("JSON");
    let keys =
        TokenArgs { jwt_secret: Some(secret), jwt_jwks: None, jwt_audience: vec![], jwt_issuer: vec![] };
    let verifier = runtime.block_on(Verifier::start(&keys, &Shutdown::default())).expect("a long secret");
    Box::new(move || {
        let identity = verifier.verify(black_box(&token)).expect("our own token");
        assert_eq!(identity.caller.user.as_str(), "7");
    })
}
