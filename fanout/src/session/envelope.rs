//! The envelope of answers, document 004's:
//! `{"errors", "data", "action", "response_status", "request_id"}`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::{rpc::ActionReply, socket::Position};

use super::frame;
use crate::hub::follower::{Answer, Followed};

/// What every frame has. The rest is for whoever handles the action.
#[derive(Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow, default)]
    pub(super) action: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) request_id: Option<&'a RawValue>,
}

/// Where an answer goes: what its request was called.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) action: String,
    id: String,
}

impl Request {
    pub(super) fn new(action: String, id: Option<&RawValue>) -> Self {
        Self { action, id: scalar(id) }
    }

    /// An answer of that status.
    pub(super) fn answer(&self, status: u16, errors: &[String], data: Option<&str>) -> Bytes {
        let errors = serde_json::to_string(errors).unwrap_or_else(|_| "[]".to_owned());
        let action = serde_json::Value::from(self.action.as_str());
        frame::text(&[
            format!(r#"{{"errors":{errors},"data":"#).as_bytes(),
            data.unwrap_or("null").as_bytes(),
            format!(r#","action":{action},"response_status":{status},"request_id":{}}}"#, self.id).as_bytes(),
        ])
    }

    /// A refusal.
    pub(super) fn refuse(&self, status: u16, detail: &str) -> Bytes {
        self.answer(status, &[detail.to_owned()], None)
    }

    /// The answer to one who follows, as api has it.
    pub(super) fn plain(self, reply: &ActionReply) -> Answer {
        let frame = self.answer(reply.status, &reply.errors, reply.data.as_deref().map(RawValue::get));
        Box::new(|_: &Followed| frame)
    }

    /// The answer to one who follows: api's data, who is there, and where the follower begins.
    pub(super) fn following(self, reply: &ActionReply) -> Answer {
        let status = reply.status;
        let data = reply.data.as_deref().map_or("{}", RawValue::get).to_owned();
        Box::new(move |followed: &Followed| {
            let &Followed { shard, epoch, id, recovered, ref people } = followed;
            let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(&data).unwrap_or_default();
            let position = serde_json::to_string(&Position { shard, epoch, id, recovered });
            let position = position.expect("text keys and no failing serializer");
            // A room's own `id` is in its data already: the position has names of its own there.
            let mut position = match self.action.as_str() {
                "subscribe" => position[1..position.len() - 1].to_owned(),
                _ => format!(r#""position":{position}"#),
            };
            if let Some(people) = people {
                // The log knows better than Postgres who is there now.
                fields.remove("participants");
                fields.remove("count");
                position = format!("{people},{position}");
            }
            let fields = serde_json::to_string(&fields).unwrap_or_else(|_| "{}".to_owned());
            let comma = if fields == "{}" { "" } else { "," };
            self.answer(status, &[], Some(&format!("{}{comma}{position}}}", &fields[..fields.len() - 1])))
        })
    }
}

/// An answer that refuses a frame which may have no action, no id, or neither.
pub(super) fn error(action: Option<&str>, request_id: Option<&RawValue>, status: u16, detail: &str) -> Bytes {
    let action = action.map_or(serde_json::Value::Null, serde_json::Value::from);
    let body = serde_json::json!([detail]);
    let id = scalar(request_id);
    let text = format!(
        r#"{{"errors":{body},"data":null,"action":{action},"response_status":{status},"request_id":{id}}}"#
    );
    frame::text(&[text.as_bytes()])
}

/// A request id as it came, where it is a scalar.
fn scalar(id: Option<&RawValue>) -> String {
    match id.map(RawValue::get) {
        Some(text) if !text.starts_with(['{', '[']) => text.to_owned(),
        _ => "null".to_owned(),
    }
}
