//! Prepares the path of api: a message that arrives over HTTP.

use std::hint::black_box;

use api::bench::message as prepare_append;
use protocol::{caller::Caller, id::RoomId};
use tokio::runtime::Runtime;

use crate::{Operation, subjects::SHARDS};

pub(crate) fn message(_: &Runtime) -> Operation {
    let caller = Caller { user: "7".parse().expect("a valid user id"), is_admin: false, org_id: None };
    let body =
        br#"{"message": "Hello, \"everyone\": \u00e9\u00e8 and a few words more.", "client_id": "c-1234"}"#;
    Box::new(move || {
        let (subject, id, payload) =
            prepare_append(&caller, RoomId(42), SHARDS, black_box(body)).expect("a valid message");
        assert!(!subject.is_empty() && id.len() == 32 && !payload.is_empty());
    })
}
