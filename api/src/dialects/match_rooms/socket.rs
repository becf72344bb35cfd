//! Decodes the actions of match sockets, and encodes their answers.

use protocol::{
    error::{Error, ErrorCode},
    id::RoomId,
    rpc::{ActionReply, ActionRequest, SocketEffect, Surface},
    socket::{self, ActionDescription, LeftRoom},
    subject::Channel,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::wire::{self, Action};
use crate::{
    commands::state::CommandState,
    commands::{
        match_detail::MatchRoomView,
        match_rooms::{self, MatchRoom},
        messages::{self, SenderAccess},
        request_context::RequestContext,
    },
    page::PageEntry,
};

impl PageEntry for MatchRoomView {}

/// Descriptions of the actions, for `asyncapi.json`.
pub(crate) const ACTIONS: &[ActionDescription] = Action::DESCRIPTIONS;
/// Actions that admins' sockets do not have.
const ACTIONS_KEPT_FROM_ADMINS: [Action; 1] = [Action::CurrentRoomInfo];

/// Whether admins' sockets do not have this action.
pub(crate) fn is_kept_from_admins(action: &str) -> bool {
    Action::named(action).is_some_and(|action| ACTIONS_KEPT_FROM_ADMINS.contains(&action))
}

/// Maximum length of a `request_id`, in bytes of its JSON in ASCII.
const REQUEST_ID_MAX: usize = 256;

/// Executes one action. Errors are part of the reply.
pub(crate) async fn handle(api: &CommandState, request: &ActionRequest, deadline: Instant) -> ActionReply {
    let write = RequestContext::new(Some(&request.key), deadline);
    match dispatch(api, request, &write).await {
        Ok(reply) => reply,
        Err(error) => {
            let error = write.progress.client_error(error);
            ActionReply {
                status: error.code.status(),
                data: None,
                errors: vec![error_text(error)],
                effect: None,
            }
        }
    }
}

/// The text of an error; for 404 it is the one of the server that this dialect imitates.
fn error_text(error: Error) -> String {
    if error.code == ErrorCode::NotFound { "Not found".to_owned() } else { error.detail }
}

async fn dispatch(
    api: &CommandState,
    request: &ActionRequest,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let is_admin = request.surface == Surface::MatchAdmin;
    let action = Action::named(&request.action)
        .filter(|action| !is_admin || !ACTIONS_KEPT_FROM_ADMINS.contains(action));
    let Some(action) = action else {
        let detail = format!("Method {:?} not allowed.", request.action);
        return Err(Error::new(ErrorCode::MethodNotAllowed, detail));
    };
    match action {
        Action::List => list(api, request, parse_frame(request)?).await,
        Action::JoinRoom => join(api, request, parse_frame(request)?).await,
        Action::LeaveRoom => leave(request),
        Action::CurrentRoomInfo => reply(200, &MatchRoomView::from(&current_room(api, request).await?), None),
        Action::CreateMessage => create_message(api, request, parse_frame(request)?, write).await,
        Action::EditMessage => edit_message(api, request, parse_frame(request)?, write).await,
        Action::DeleteMessages => delete_messages(api, request, parse_frame(request)?, write).await,
    }
}

fn reply(status: u16, data: &impl Serialize, effect: Option<SocketEffect>) -> Result<ActionReply, Error> {
    let data = serde_json::value::to_raw_value(data).map_err(|error| Error::internal(&error))?;
    Ok(ActionReply { status, data: Some(data), errors: vec![], effect })
}

fn parse_frame<T: for<'de> Deserialize<'de>>(request: &ActionRequest) -> Result<T, Error> {
    crate::dialects::json::parse_object(request.frame.get().as_bytes())
}

/// The room that the socket is in.
fn joined_room(request: &ActionRequest) -> Result<RoomId, Error> {
    let none = || Error::bad_request("This socket is in no room: join one first.");
    request.rooms.first().copied().ok_or_else(none)
}

/// The room that the socket is in, if the caller still has access to it. Admins get it even where they may not
/// write.
async fn current_room(api: &CommandState, request: &ActionRequest) -> Result<MatchRoom, Error> {
    let as_admin = request.surface == Surface::MatchAdmin;
    let (found, _) =
        match_rooms::require_match_room(api, &request.caller, joined_room(request)?, as_admin).await?;
    Ok(found)
}

/// The id of the room that the socket is in; an error where the caller may not write there.
async fn writable_room(api: &CommandState, request: &ActionRequest) -> Result<RoomId, Error> {
    let found = current_room(api, request).await?;
    if request.surface == Surface::MatchAdmin {
        match_rooms::require_admin_may_write(&found)?;
    }
    Ok(found.room)
}

/// The newest rooms. Without `limit` and `before` all must fit into one answer; with them, the answer has as many as
/// fit.
async fn list(api: &CommandState, request: &ActionRequest, frame: wire::List) -> Result<ActionReply, Error> {
    let of = (request.surface == Surface::Match).then_some(&request.caller.user);
    let limit = match frame.limit {
        None => match_rooms::ROOMS_LISTED_MAX,
        Some(limit) if (1..=match_rooms::ROOMS_LISTED_MAX).contains(&limit) => limit,
        Some(_) => {
            return Err(Error::bad_request(format!(
                "limit: must be 1 to {}.",
                match_rooms::ROOMS_LISTED_MAX
            )));
        }
    };
    let found = match_rooms::list(api, of, frame.before, limit).await?;
    let count = found.entries.len();
    let mut page = found.map(|room| MatchRoomView::from(&room)).fit(api.socket_max_bytes())?;
    if page.entries.len() < count && frame.limit.is_none() && frame.before.is_none() {
        let detail = "The rooms do not fit into one answer: give limit, and the last pk as before.";
        return Err(Error::new(ErrorCode::TooLarge, detail));
    }
    if let Some(last) = page.entries.last_mut().filter(|_| page.has_more) {
        last.more = Some(true);
    }
    reply(200, &page.entries, None)
}

async fn join(
    api: &CommandState,
    request: &ActionRequest,
    frame: wire::JoinRoom,
) -> Result<ActionReply, Error> {
    let as_admin = request.surface == Surface::MatchAdmin;
    let (found, access) =
        match_rooms::require_match_room(api, &request.caller, frame.room_pk, as_admin).await?;
    let effect = SocketEffect::Subscribe {
        channel: Channel::Room(frame.room_pk),
        participant: true,
        since: None,
        epoch: None,
        grant: Some(access.grant()),
    };
    reply(200, &MatchRoomView::from(&found), Some(effect))
}

fn leave(request: &ActionRequest) -> Result<ActionReply, Error> {
    let room = joined_room(request)?;
    reply(200, &LeftRoom::of(room), Some(SocketEffect::Leave { room }))
}

async fn create_message(
    api: &CommandState,
    request: &ActionRequest,
    frame: wire::CreateMessage,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let id = request_id(&request.frame)?;
    let room = writable_room(api, request).await?;
    let send = messages::NewMessage {
        room,
        text: &frame.msg_text,
        client_id: None,
        request: &RequestContext { client_request_id: Some(&id), ..write.clone() },
        access: SenderAccess::Unchecked,
        detail: None,
    };
    let sent = messages::send(api, &request.caller, send).await?;
    let (text, created_at) = (sent.message.message, sent.message.created_at);
    // Only the push has `user` and `room`; fan-out answers the client with the push.
    let data = wire::CreatedMessage { id: sent.id, text, created_at, user: None, room: None };
    reply(201, &data, Some(SocketEffect::Appended { room, seq: sent.id.0 }))
}

async fn edit_message(
    api: &CommandState,
    request: &ActionRequest,
    frame: wire::EditMessage,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let id = request_id(&request.frame)?;
    let room = writable_room(api, request).await?;
    let by = &RequestContext { client_request_id: Some(&id), ..write.clone() };
    let text = &frame.edited_msg_text;
    let (edit, appended) = messages::edit(api, &request.caller, room, frame.msg_id, text, by).await?;
    let data = wire::Changed { room_id: room, message_id: edit.message_id, message_text: edit.message };
    reply(200, &data, Some(SocketEffect::Appended { room, seq: appended.seq }))
}

async fn delete_messages(
    api: &CommandState,
    request: &ActionRequest,
    frame: wire::DeleteMessages,
    write: &RequestContext<'_>,
) -> Result<ActionReply, Error> {
    let id = request_id(&request.frame)?;
    let room = writable_room(api, request).await?;
    let by = &RequestContext { client_request_id: Some(&id), ..write.clone() };
    let (delete, appended) = messages::delete(api, &request.caller, room, frame.msg_id_list, by).await?;
    let data = wire::Deleted { room_id: room, messages_ids: delete.messages_ids };
    reply(200, &data, Some(SocketEffect::Appended { room, seq: appended.seq }))
}

/// The client's `request_id`: a JSON scalar, escaped to ASCII because it is sent in a header of the event. Without
/// one it is `null`.
fn request_id(frame: &RawValue) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow, default)]
        request_id: Option<&'a RawValue>,
    }
    let head: Head<'_> = serde_json::from_str(frame.get()).map_err(|error| Error::internal(&error))?;
    let mut ascii = String::new();
    let mut units = [0; 2];
    for letter in socket::request_id(head.request_id).unwrap_or("null").chars() {
        if letter.is_ascii() {
            ascii.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    if ascii.len() > REQUEST_ID_MAX {
        return Err(Error::bad_request(format!("request_id: must have at most {REQUEST_ID_MAX} bytes.")));
    }
    Ok(ascii)
}

/// Parses bytes as each frame of this dialect; for property tests and fuzzing.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    use crate::dialects::json::assert_parsed_or_refused as read;
    read::<wire::List>(bytes);
    read::<wire::JoinRoom>(bytes);
    read::<wire::CreateMessage>(bytes);
    read::<wire::EditMessage>(bytes);
    read::<wire::DeleteMessages>(bytes);
    if let Ok(frame) = serde_json::from_slice::<Box<RawValue>>(bytes) {
        assert!(request_id(&frame).map_or(true, |id| id.is_ascii() && id.len() <= REQUEST_ID_MAX));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::dialects::json::any;

    proptest! {
        #[test]
        fn any_frame_is_read_or_refused(bytes in any::bytes()) {
            read_any(&bytes);
        }

        #[test]
        fn request_id_is_written_in_ascii_with_the_same_value(id in any::value()) {
            let frame = serde_json::value::to_raw_value(&json!({ "request_id": id })).expect("JSON");
            if let Ok(ascii) = request_id(&frame) {
                prop_assert!(ascii.is_ascii() && ascii.len() <= REQUEST_ID_MAX);
                match id {
                    Value::String(id) => prop_assert_eq!(serde_json::from_str::<String>(&ascii).expect("text"), id),
                    Value::Array(_) | Value::Object(_) => prop_assert_eq!(ascii, "null"),
                    other => prop_assert_eq!(ascii, other.to_string()),
                }
            }
        }
    }
}
