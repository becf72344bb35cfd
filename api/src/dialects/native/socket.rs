//! Handles the actions of native sockets. The envelope is that of match sockets; the fields have native names.

use std::sync::Arc;

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
    commands::state::CommandState,
    commands::{
        self, invitations,
        messages::{self, SenderAccess},
        read_marks,
        request_context::RequestContext,
        rooms, teams,
    },
    page,
};

/// Descriptions of the actions, for `asyncapi.json`.
pub(crate) const ACTIONS: &[ActionDescription] = Action::DESCRIPTIONS;
/// Maximum number of rooms that `list` answers without `limit` and `cursor`.
const ROOMS_LISTED_MAX: i64 = 200;

/// Executes one action. Errors are part of the reply.
pub(crate) async fn handle(
    api: &Arc<CommandState>,
    request: &ActionRequest,
    deadline: Instant,
) -> ActionReply {
    let write = RequestContext::new(Some(&request.key), deadline);
    match dispatch(api, request, &write).await {
        Ok(reply) => reply,
        Err(error) => {
            let error = write.progress.client_error(error);
            ActionReply { status: error.code.status(), data: None, errors: vec![error.detail], effect: None }
        }
    }
}

fn reply(status: u16, data: &impl Serialize, effect: Option<SocketEffect>) -> Result<ActionReply, Error> {
    let data = serde_json::value::to_raw_value(data).map_err(|error| Error::internal(&error))?;
    Ok(ActionReply { status, data: Some(data), errors: vec![], effect })
}

/// The room of an action: the one that it names, else the only one that the socket is in.
fn room_of_action(named: Option<RoomId>, request: &ActionRequest) -> Result<RoomId, Error> {
    match (named, request.rooms.as_slice()) {
        (Some(room), _) => Ok(room),
        (None, [room]) => Ok(*room),
        (None, []) => Err(Error::bad_request("room_pk: this socket is in no room.")),
        (None, _) => Err(Error::bad_request("room_pk: this socket is in several rooms.")),
    }
}

async fn dispatch(
    api: &Arc<CommandState>,
    request: &ActionRequest,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let Some(action) = Action::named(&request.action) else {
        let detail = format!("Method {:?} not allowed.", request.action);
        return Err(Error::new(ErrorCode::MethodNotAllowed, detail));
    };
    let frame = &request.frame;
    match action {
        Action::Subscribe => subscribe(api, request, decode::parse_object(frame_bytes(frame))?).await,
        Action::JoinRoom => join(api, request, decode::parse_object(frame_bytes(frame))?).await,
        Action::CreateMessage => create(api, request, decode::parse_object(frame_bytes(frame))?, write).await,
        Action::EditMessage => edit(api, request, decode::parse_object(frame_bytes(frame))?, write).await,
        Action::DeleteMessages => {
            delete(api, request, decode::parse_object(frame_bytes(frame))?, write).await
        }
        Action::TopicInfo => topic_info(api, decode::parse_object(frame_bytes(frame))?).await,
        Action::History => history(api, request, decode::parse_object(frame_bytes(frame))?).await,
        Action::MarkRead => mark_read(api, request, decode::parse_object(frame_bytes(frame))?, write).await,
        Action::Invite => invite(api, request, decode::parse_object(frame_bytes(frame))?, write).await,
        Action::CurrentRoomInfo => {
            let frame: RoomFrame = decode::parse_object(frame_bytes(frame))?;
            let room = rooms::show(api, &request.caller, room_of_action(frame.room_pk, request)?).await?;
            reply(200, &page::fit_entry(encode::room(room, true), api.socket_max_bytes())?, None)
        }
        Action::List => list(api, request, decode::parse_object(frame_bytes(frame))?).await,
    }
}

fn frame_bytes(frame: &RawValue) -> &[u8] {
    frame.get().as_bytes()
}

async fn subscribe(
    api: &CommandState,
    request: &ActionRequest,
    frame: frame::Subscribe,
) -> Result<ActionReply, Error> {
    let grant = match &frame.channel {
        Channel::System => None,
        Channel::Room(room) => Some(commands::require_join(api, *room, &request.caller).await?.grant()),
        Channel::User(user) if *user == request.caller.user => None,
        Channel::User(_) => return Err(Error::forbidden()),
        Channel::Team(team) => Some(teams::require_grant(api, &request.caller, *team).await?),
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

async fn join(
    api: &CommandState,
    request: &ActionRequest,
    frame: frame::JoinRoom,
) -> Result<ActionReply, Error> {
    let (room, access) = rooms::join(api, &request.caller, frame.room_pk).await?;
    let effect = SocketEffect::Subscribe {
        channel: Channel::Room(frame.room_pk),
        participant: true,
        since: frame.since,
        epoch: frame.epoch,
        grant: Some(access.grant()),
    };
    let mut room = page::fit_entry(encode::room(room, true), api.socket_max_bytes())?;
    room.participants = None;
    reply(200, &Joined { room, position: None }, Some(effect))
}

/// Confirms that a topic belongs to a category; if not, 404.
async fn topic_info(api: &CommandState, frame: frame::TopicInfo) -> Result<ActionReply, Error> {
    rooms::require_topic(api, frame.room_pk, &frame.category).await?;
    reply(200, &Topic { room: frame.room_pk, category: frame.category }, None)
}

async fn create(
    api: &CommandState,
    request: &ActionRequest,
    frame: frame::CreateMessage,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let room = room_of_action(frame.room_pk, request)?;
    // In a room of two people, the access check also loads details that the message needs.
    let is_joined = request.rooms.contains(&room) && !request.pairs.contains(&room);
    let send = messages::NewMessage {
        room,
        text: &frame.msg_text,
        client_id: frame.client_id.as_deref(),
        request: write,
        access: if is_joined { SenderAccess::Joined } else { SenderAccess::Unchecked },
        detail: None,
    };
    let sent = messages::send(api, &request.caller, send).await?;
    reply(201, &encode::sent(sent), None)
}

async fn edit(
    api: &CommandState,
    request: &ActionRequest,
    frame: frame::EditMessage,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let room = room_of_action(frame.room_pk, request)?;
    let text = &frame.edited_msg_text;
    let (edit, _) = messages::edit(api, &request.caller, room, frame.msg_id, text, write).await?;
    let data = Changed { room_id: edit.room, message_id: edit.message_id, message_text: edit.message };
    reply(200, &data, None)
}

async fn delete(
    api: &CommandState,
    request: &ActionRequest,
    frame: frame::DeleteMessages,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let room = room_of_action(frame.room_pk, request)?;
    let (delete, _) = messages::delete(api, &request.caller, room, frame.msg_id_list, write).await?;
    reply(200, &Deleted { room_id: delete.room, messages_ids: delete.messages_ids }, None)
}

async fn history(
    api: &CommandState,
    request: &ActionRequest,
    frame: frame::History,
) -> Result<ActionReply, Error> {
    let room = room_of_action(frame.room_pk, request)?;
    let limit = decode::require_limit_in_range(frame.limit)?;
    let page = decode::history_range(frame.before, frame.after)?;
    let found = messages::history(api, &request.caller, room, page, limit).await?;
    reply(200, &pages::history_page(room, page, found, api.socket_max_bytes())?, None)
}

/// The newest rooms: a page where the frame has `limit` or `cursor`, else all in one answer.
async fn list(api: &CommandState, request: &ActionRequest, frame: frame::List) -> Result<ActionReply, Error> {
    let is_paged = frame.limit.is_some() || frame.cursor.is_some();
    let limit = if is_paged { decode::require_limit_in_range(frame.limit)? } else { ROOMS_LISTED_MAX };
    let before = frame.cursor.as_deref().map(decode::decode_room_cursor).transpose()?;
    let found = rooms::list(api, &request.caller, before, limit).await?;
    let count = found.rooms.len();
    let page = pages::rooms_page(found, api.socket_max_bytes())?;
    let listed = if is_paged {
        Listed::Page(page)
    } else if page.results.len() == count {
        Listed::All(page.results)
    } else {
        let detail =
            "The rooms do not fit into one answer: send limit, and then next of each answer as cursor.";
        return Err(Error::new(ErrorCode::TooLarge, detail));
    };
    reply(200, &listed, None)
}

async fn mark_read(
    api: &Arc<CommandState>,
    request: &ActionRequest,
    frame: frame::MarkRead,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let room = room_of_action(frame.room_pk, request)?;
    let is_in = request.rooms.contains(&room);
    read_marks::mark_read_by_socket(api, &request.caller, room, frame.message_id, is_in, write).await?;
    reply(200, &Read { room, message_id: frame.message_id }, None)
}

async fn invite(
    api: &CommandState,
    request: &ActionRequest,
    frame: frame::Invite,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let room = room_of_action(frame.room_pk, request)?;
    let (created, applied) = invitations::invite(api, &request.caller, room, frame.user, write).await?;
    reply(201, &encode::invitation(created, applied), None)
}
