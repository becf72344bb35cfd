//! The actions of native sockets: in the envelope of match sockets, with the native names.

use protocol::{
    error::{Error, ErrorCode},
    id::RoomId,
    rpc::{ActionReply, ActionRequest, SocketEffect},
    socket::{ActionDescription, RoomFrame},
    subject::Channel,
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    decode, encode, pages,
    wire::{
        action::{Action, Changed, Deleted, Followed, Joined, Listed, Read, Topic},
        frame,
    },
};
use crate::{
    commands::state::{Api, ApiState},
    commands::{
        self, invitations, marks,
        messages::{self, SenderAccess},
        request::RequestContext,
        rooms, teams,
    },
    page,
};

/// The actions, as documents describe them.
pub(crate) const ACTIONS: &[ActionDescription] = Action::DESCRIPTIONS;
/// Rooms that `list` answers.
const LIST: i64 = 200;

/// Decides one action.
pub(crate) async fn act(api: &Api, request: &ActionRequest, deadline: Instant) -> ActionReply {
    let write = RequestContext::new(Some(&request.key), deadline);
    match decide(api, request, &write).await {
        Ok(reply) => reply,
        Err(error) => {
            let error = write.progress.failure(error);
            ActionReply { status: error.code.status(), data: None, errors: vec![error.detail], effect: None }
        }
    }
}

fn reply(status: u16, data: &impl Serialize, effect: Option<SocketEffect>) -> Result<ActionReply, Error> {
    let data = serde_json::value::to_raw_value(data).map_err(|error| Error::internal(&error))?;
    Ok(ActionReply { status, data: Some(data), errors: vec![], effect })
}

/// The room an action is about: the one it names, else the only one the socket is in.
fn room(named: Option<RoomId>, request: &ActionRequest) -> Result<RoomId, Error> {
    match (named, request.rooms.as_slice()) {
        (Some(room), _) => Ok(room),
        (None, [room]) => Ok(*room),
        (None, []) => Err(Error::bad_request("room_pk: this socket is in no room.")),
        (None, _) => Err(Error::bad_request("room_pk: this socket is in several rooms.")),
    }
}

async fn decide(
    api: &Api,
    request: &ActionRequest,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let Some(action) = Action::named(&request.action) else {
        let detail = format!("Method {:?} not allowed.", request.action);
        return Err(Error::new(ErrorCode::MethodNotAllowed, detail));
    };
    let frame = &request.frame;
    match action {
        Action::Subscribe => subscribe(api, request, decode::json(text(frame))?).await,
        Action::JoinRoom => join(api, request, decode::json(text(frame))?).await,
        Action::CreateMessage => create(api, request, decode::json(text(frame))?, write).await,
        Action::EditMessage => edit(api, request, decode::json(text(frame))?, write).await,
        Action::DeleteMessages => delete(api, request, decode::json(text(frame))?, write).await,
        Action::TopicInfo => topic(api, decode::json(text(frame))?).await,
        Action::History => history(api, request, decode::json(text(frame))?).await,
        Action::MarkRead => mark_read(api, request, decode::json(text(frame))?, write).await,
        Action::Invite => invite(api, request, decode::json(text(frame))?, write).await,
        Action::CurrentRoomInfo => {
            let frame: RoomFrame = decode::json(text(frame))?;
            let room = rooms::show(api, &request.caller, room(frame.room_pk, request)?).await?;
            reply(200, &page::fit_entry(encode::room(room, true), api.socket_max_bytes())?, None)
        }
        Action::List => list(api, request, decode::json(text(frame))?).await,
    }
}

fn text(frame: &RawValue) -> &[u8] {
    frame.get().as_bytes()
}

async fn subscribe(
    api: &ApiState,
    request: &ActionRequest,
    frame: frame::Subscribe,
) -> Result<ActionReply, Error> {
    let grant = match &frame.channel {
        Channel::System => None,
        Channel::Room(room) => Some(commands::require_join(api, *room, &request.caller).await?.grant()),
        Channel::User(user) if *user == request.caller.user => None,
        Channel::User(_) => return Err(Error::forbidden()),
        Channel::Team(team) => Some(teams::follow(api, &request.caller, *team).await?),
    };
    let channel = frame.channel.clone();
    let data = Followed { channel, participants: None, count: None, position: None };
    let effect = SocketEffect::Subscribe {
        channel: frame.channel,
        participant: false,
        since: frame.since,
        epoch: frame.epoch,
        grant,
    };
    reply(200, &data, Some(effect))
}

async fn join(api: &ApiState, request: &ActionRequest, frame: frame::JoinRoom) -> Result<ActionReply, Error> {
    let (room, facts) = rooms::join(api, &request.caller, frame.room_pk).await?;
    let effect = SocketEffect::Subscribe {
        channel: Channel::Room(frame.room_pk),
        participant: true,
        since: frame.since,
        epoch: frame.epoch,
        grant: Some(facts.grant()),
    };
    let room = page::fit_entry(encode::room(room, true), api.socket_max_bytes())?;
    reply(200, &Joined { room, position: None }, Some(effect))
}

/// A topic, where it stands in the category that its address names.
async fn topic(api: &ApiState, frame: frame::TopicInfo) -> Result<ActionReply, Error> {
    rooms::topic(api, frame.room_pk, &frame.category).await?;
    reply(200, &Topic { room: frame.room_pk, category: frame.category }, None)
}

async fn create(
    api: &ApiState,
    request: &ActionRequest,
    frame: frame::CreateMessage,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let room = room(frame.room_pk, request)?;
    // A message in a room of two says more, which is asked for with the right.
    let is_joined = request.rooms.contains(&room) && !request.pairs.contains(&room);
    let send = messages::NewMessage {
        room,
        text: &frame.msg_text,
        client_id: frame.client_id.as_deref(),
        request: write,
        access: if is_joined { SenderAccess::Joined } else { SenderAccess::Unknown },
        detail: None,
    };
    let sent = messages::send(api, &request.caller, send).await?;
    reply(201, &encode::sent(sent), None)
}

async fn edit(
    api: &ApiState,
    request: &ActionRequest,
    frame: frame::EditMessage,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let room = room(frame.room_pk, request)?;
    let text = &frame.edited_msg_text;
    let (edit, _) = messages::edit(api, &request.caller, room, frame.msg_id, text, write).await?;
    let data = Changed { room_id: edit.room, message_id: edit.message_id, message_text: edit.message };
    reply(200, &data, None)
}

async fn delete(
    api: &ApiState,
    request: &ActionRequest,
    frame: frame::DeleteMessages,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let room = room(frame.room_pk, request)?;
    let (delete, _) = messages::delete(api, &request.caller, room, frame.msg_id_list, write).await?;
    reply(200, &Deleted { room_id: delete.room, messages_ids: delete.messages_ids }, None)
}

async fn history(
    api: &ApiState,
    request: &ActionRequest,
    frame: frame::History,
) -> Result<ActionReply, Error> {
    let room = room(frame.room_pk, request)?;
    let limit = decode::bounded(frame.limit)?;
    let page = decode::page(frame.before, frame.after)?;
    let found = messages::history(api, &request.caller, room, page, limit).await?;
    reply(200, &pages::history(room, page, found, limit, api.socket_max_bytes())?, None)
}

/// The newest rooms, all in one answer; in pages for whom asks for them.
async fn list(api: &ApiState, request: &ActionRequest, frame: frame::List) -> Result<ActionReply, Error> {
    let is_paged = frame.limit.is_some() || frame.cursor.is_some();
    let limit = if is_paged { decode::bounded(frame.limit)? } else { LIST };
    let before = frame.cursor.as_deref().map(decode::cursor).transpose()?;
    let found = rooms::list(api, &request.caller, before, limit).await?;
    let count = found.rooms.len();
    let page = pages::rooms(found, api.socket_max_bytes())?;
    let listed = if is_paged {
        Listed::Page(page)
    } else if page.results.len() == count {
        Listed::All(page.results)
    } else {
        let detail = "The rooms do not fit into one answer: give limit, and what comes as next as cursor.";
        return Err(Error::new(ErrorCode::TooLarge, detail));
    };
    reply(200, &listed, None)
}

async fn mark_read(
    api: &Api,
    request: &ActionRequest,
    frame: frame::MarkRead,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let room = room(frame.room_pk, request)?;
    let is_in = request.rooms.contains(&room);
    marks::push(api, &request.caller, room, frame.message_id, is_in, write).await?;
    reply(200, &Read { room, message_id: frame.message_id }, None)
}

async fn invite(
    api: &ApiState,
    request: &ActionRequest,
    frame: frame::Invite,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let room = room(frame.room_pk, request)?;
    let (made, applied) = invitations::invite(api, &request.caller, room, frame.user, write).await?;
    reply(201, &encode::invitation(made, applied), None)
}
