//! Declares the direct dialect's routes, each with and without a trailing slash.

use std::sync::Arc;

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
    http::{Uri, header},
};
use protocol::{error::Error, id::RoomId};

use super::{
    decode, encode,
    errors::Rejection,
    extract::{Authenticated, AuthenticatedWriter, IdempotencyKey, JsonBody, NoIdempotencyKey},
    wire,
};
use crate::{
    commands::direct,
    commands::state::CommandState,
    dialects::{method_not_allowed, path::PathIds},
    documents::{DocumentedRoute, DocumentedRoutes, get, post},
    state::DialectSettings,
};

type JsonResult<T> = Result<Answer<T>, Rejection>;

/// A `GET` route that writes. `HEAD`, which axum would send to the same handler, is refused with 405.
macro_rules! change {
    ($about:literal, $handler:ident) => {
        refuse_head(get($about, $handler))
    };
}

fn refuse_head(route: DocumentedRoute) -> DocumentedRoute {
    route.head(async |address: Uri| ([(header::ALLOW, "GET")], method_not_allowed(&address)))
}

/// All routes of the dialect.
pub(crate) fn routes() -> DocumentedRoutes {
    DocumentedRoutes::new::<Rejection>(
        "direct",
        "Conversations of two people, with presence, read marks and cameras.",
    )
    .route_with_slash(
        "/room/add",
        [post("Returns the room of two people, and creates it if there is none", add)],
    )
    .route_with_slash("/room/list", [get("Lists your rooms", list), post("Sends a message", send)])
    .route_with_slash(
        "/room/select/{room}",
        [change!("Makes a room your current one, and marks it as read", select)],
    )
    .route_with_slash(
        "/room/stop/{room}",
        [change!("Makes a room inactive until both people write again", stop)],
    )
    .route_with_slash("/webrtc/cameraOn", [change!("Tells your contacts that your camera is on", camera_on)])
    .route_with_slash(
        "/webrtc/cameraOff",
        [change!("Tells your contacts that your camera is off", camera_off)],
    )
}

async fn add(
    State(api): State<Arc<CommandState>>,
    State(settings): State<Arc<DialectSettings>>,
    AuthenticatedWriter(caller): AuthenticatedWriter,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<wire::NewRoom>,
) -> JsonResult<wire::Room> {
    let view =
        direct::get_or_create_room(&api, &caller, body.owner, body.abonent, &key.request_context()).await?;
    Ok(Answer(encode::room_view(view, settings.low_account)))
}

async fn list(
    State(api): State<Arc<CommandState>>,
    State(settings): State<Arc<DialectSettings>>,
    Authenticated(caller): Authenticated,
    query: Result<Query<wire::ListQuery>, QueryRejection>,
) -> JsonResult<wire::Rooms> {
    let Query(query) = query.map_err(|_| Error::bad_request("The query is malformed."))?;
    let after = query.cursor.as_deref().map(decode::decode_cursor).transpose()?;
    let rooms = direct::list(&api, &caller, after).await?;
    Ok(Answer(encode::room_list(rooms, &caller.user, settings.low_account)))
}

async fn send(
    State(api): State<Arc<CommandState>>,
    State(settings): State<Arc<DialectSettings>>,
    AuthenticatedWriter(caller): AuthenticatedWriter,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<wire::NewMessage>,
) -> JsonResult<wire::Room> {
    if body.author.and_then(|author| author.id).is_some_and(|author| author != caller.user) {
        return Err(Error::forbidden().into());
    }
    let view = direct::send(&api, &caller, body.room_id, &body.message, &key.request_context()).await?;
    Ok(Answer(encode::room_view(view, settings.low_account)))
}

async fn select(
    State(api): State<Arc<CommandState>>,
    State(settings): State<Arc<DialectSettings>>,
    AuthenticatedWriter(caller): AuthenticatedWriter,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
    unkeyed: NoIdempotencyKey,
) -> JsonResult<wire::Rooms> {
    let rooms = direct::select_room(&api, &caller, room, &unkeyed.request_context()).await?;
    Ok(Answer(encode::room_list(rooms, &caller.user, settings.low_account)))
}

async fn stop(
    State(api): State<Arc<CommandState>>,
    AuthenticatedWriter(caller): AuthenticatedWriter,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
    unkeyed: NoIdempotencyKey,
) -> JsonResult<wire::Stopped> {
    direct::stop_talk(&api, &caller, room, &unkeyed.request_context()).await?;
    Ok(Answer(wire::Stopped { status: 0, message: "Ok" }))
}

async fn camera_on(
    State(api): State<Arc<CommandState>>,
    AuthenticatedWriter(caller): AuthenticatedWriter,
    unkeyed: NoIdempotencyKey,
) -> JsonResult<wire::CameraOn> {
    direct::set_camera(&api, &caller, true, &unkeyed.request_context()).await?;
    Ok(Answer(wire::CameraOn { camera_on: "ok" }))
}

async fn camera_off(
    State(api): State<Arc<CommandState>>,
    AuthenticatedWriter(caller): AuthenticatedWriter,
    unkeyed: NoIdempotencyKey,
) -> JsonResult<wire::CameraOff> {
    direct::set_camera(&api, &caller, false, &unkeyed.request_context()).await?;
    Ok(Answer(wire::CameraOff { camera_off: "ok" }))
}
