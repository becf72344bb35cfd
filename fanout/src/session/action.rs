//! Actions of a socket: api decides each, and this applies what it decides.
//!
//! The envelope is document 004's: `{"errors", "data", "action", "response_status", "request_id"}`.
//! Only what concerns the socket alone is answered here: `ping` and `unsubscribe`.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::{
    id::RoomId,
    rpc::{ActionReply, ActionRequest, Effect, expiry},
    subject::Channel,
};
use tokio::sync::oneshot;

use super::{State, frame, outbox::Outbox};
use crate::{
    hub::channel::{Answer, Followed, Follower},
    node::Node,
};

/// What an action has changed for its socket.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    followed: Option<(Channel, bool)>,
    left: Option<Left>,
}

#[derive(Debug)]
enum Left {
    Channel(Channel),
    Room(RoomId),
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    action: Option<&'a RawValue>,
    #[serde(borrow, default)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    channel: Option<&'a RawValue>,
}

/// Where an answer goes: what its request was called.
#[derive(Clone)]
struct Request {
    action: String,
    id: String,
}

impl Request {
    fn answer(&self, status: u16, errors: &[String], data: Option<&str>) -> Bytes {
        let errors = serde_json::to_string(errors).unwrap_or_else(|_| "[]".to_owned());
        let action = serde_json::Value::from(self.action.as_str());
        frame::text(&[
            format!(r#"{{"errors":{errors},"data":"#).as_bytes(),
            data.unwrap_or("null").as_bytes(),
            format!(r#","action":{action},"response_status":{status},"request_id":{}}}"#, self.id).as_bytes(),
        ])
    }
}

/// An answer that refuses a frame which may have no action, no id, or neither.
pub(crate) fn error(action: Option<&str>, request_id: Option<&RawValue>, status: u16, detail: &str) -> Bytes {
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

/// Begins an action; `None` where it is answered already.
pub(crate) fn begin(
    node: &Arc<Node>,
    state: &State,
    outbox: &Arc<Outbox>,
    text: &str,
) -> Option<Pin<Box<dyn Future<Output = Applied> + Send>>> {
    let refuse = |frame| {
        outbox.push(frame);
        None
    };
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        return refuse(error(None, None, 400, "The frame is not JSON."));
    };
    let head = Some(raw.get()).filter(|text| text.starts_with('{'));
    let head = head.and_then(|text| serde_json::from_str::<Head<'_>>(text).ok());
    let Some(head) = head else {
        return refuse(error(None, None, 400, "The frame must be a JSON object without repeated keys."));
    };
    let name = head.action.and_then(|action| serde_json::from_str::<String>(action.get()).ok());
    let Some(action) = name else {
        return refuse(error(None, head.request_id, 405, "Unable to find action in message body."));
    };
    let request = Request { action, id: scalar(head.request_id) };
    match request.action.as_str() {
        "ping" => return refuse(request.answer(200, &[], Some("{}"))),
        "unsubscribe" => {
            let channel = head.channel.and_then(|name| serde_json::from_str::<Channel>(name.get()).ok());
            let Some(channel) = channel.filter(|channel| state.channels.contains(channel)) else {
                let detail = "channel: must be one that this socket follows.";
                return refuse(error(Some("unsubscribe"), head.request_id, 400, detail));
            };
            let data = serde_json::json!({ "channel": channel }).to_string();
            outbox.push(request.answer(200, &[], Some(&data)));
            let left = Some(Left::Channel(channel));
            return Some(Box::pin(std::future::ready(Applied { followed: None, left })));
        }
        _ => {}
    }
    let ask = ActionRequest {
        caller: state.caller.clone(),
        action: request.action.clone(),
        rooms: state.rooms.iter().copied().collect(),
        key: format!("{:016x}:{}:{}", node.incarnation, state.connection, state.frames),
        request: format!("{:08x}-{}-{}", node.incarnation >> 32, state.connection, state.frames),
        frame: raw.to_owned(),
        expires_at: expiry(),
    };
    let (node, outbox, connection) = (node.clone(), outbox.clone(), state.connection);
    Some(Box::pin(async move { decide(&node, &outbox, connection, &request, &ask).await }))
}

/// Has api decide, applies the effect, answers.
async fn decide(
    node: &Node,
    outbox: &Arc<Outbox>,
    connection: u64,
    request: &Request,
    ask: &ActionRequest,
) -> Applied {
    let reply = match node.ask.action(ask).await {
        Ok(reply) => reply,
        Err(error) => {
            outbox.push(request.answer(error.code.status(), &[error.detail], None));
            return Applied::default();
        }
    };
    let data = reply.data.as_deref().map(RawValue::get);
    match reply.effect {
        Some(Effect::Subscribe { ref channel, participant, since, epoch, .. }) => {
            let answer = following(request.clone(), &reply);
            let (done, followed) = oneshot::channel();
            let follower = Follower { connection, outbox: outbox.clone(), since, epoch, answer, done };
            let sent = node.follow(channel.clone(), follower).await;
            if sent && followed.await.is_ok() {
                return Applied { followed: Some((channel.clone(), participant)), left: None };
            }
            let detail = "The channel can't be followed now. Try again.".to_owned();
            outbox.push(request.answer(503, &[detail], None));
            Applied::default()
        }
        Some(Effect::Unsubscribe { channel }) => {
            outbox.push(request.answer(reply.status, &reply.errors, data));
            Applied { followed: None, left: Some(Left::Channel(channel)) }
        }
        Some(Effect::Leave { room }) => {
            outbox.push(request.answer(reply.status, &reply.errors, data));
            Applied { followed: None, left: Some(Left::Room(room)) }
        }
        None => {
            outbox.push(request.answer(reply.status, &reply.errors, data));
            Applied::default()
        }
    }
}

/// The answer to one who follows: api's data, and where the follower begins.
fn following(request: Request, reply: &ActionReply) -> Answer {
    let status = reply.status;
    let data = reply.data.as_deref().map_or("{}", RawValue::get).to_owned();
    Box::new(move |followed: &Followed| {
        let Followed { shard, epoch, id, recovered } = followed;
        // A room's own `id` is in its data already: the position has names of its own there.
        let position = if request.action == "subscribe" {
            format!(r#""shard":{shard},"epoch":{epoch},"id":{id},"recovered":{recovered}"#)
        } else {
            format!(r#""position":{{"shard":{shard},"epoch":{epoch},"id":{id},"recovered":{recovered}}}"#)
        };
        let object = data.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let inner = object.unwrap_or("").trim();
        let comma = if inner.is_empty() { "" } else { "," };
        request.answer(status, &[], Some(&format!("{{{inner}{comma}{position}}}")))
    })
}

/// Makes what an action has changed part of the session's state.
pub(crate) fn settle(node: &Arc<Node>, state: &mut State, applied: Applied) {
    if let Some((channel, participant)) = applied.followed {
        if let (Channel::Room(room), true) = (&channel, participant)
            && state.rooms.insert(*room)
        {
            node.presence.enter(*room, state.caller.user.clone());
        }
        state.channels.insert(channel);
    }
    let channel = match applied.left {
        Some(Left::Channel(channel)) => channel,
        Some(Left::Room(room)) => Channel::Room(room),
        None => return,
    };
    if let Channel::Room(room) = &channel
        && state.rooms.remove(room)
    {
        node.presence.leave(*room, state.caller.user.clone());
    }
    if state.channels.remove(&channel) {
        let (node, connection) = (node.clone(), state.connection);
        tokio::spawn(async move { node.unfollow(channel, connection).await });
    }
}

/// The socket is closed: it follows nothing any more, and its person may come back.
pub(crate) async fn leave_everything(node: &Node, state: &mut State) {
    for room in std::mem::take(&mut state.rooms) {
        node.presence.lose(room, state.caller.user.clone());
    }
    for channel in std::mem::take(&mut state.channels) {
        node.unfollow(channel, state.connection).await;
    }
}
