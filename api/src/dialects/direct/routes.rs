//! The routes, each with and without the trailing slash.

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
    http::{Uri, header},
};
use protocol::error::Error;

use super::{
    decode, encode,
    errors::Refusal,
    extract::{IdempotencyKey, InRoom, Json, NoIdempotencyKey, Reader, Writer},
    wire,
};
use crate::{
    commands::direct,
    commands::state::Api,
    dialects::not_allowed,
    documents::{Route, Routes, get, post},
};

type Answered<T> = Result<Answer<T>, Refusal>;

/// A `GET` that changes something. `HEAD`, of which nobody expects a change, is refused there.
macro_rules! change {
    ($about:literal, $handler:ident) => {
        refuse_head(get($about, $handler))
    };
}

fn refuse_head(route: Route) -> Route {
    route.head(async |address: Uri| ([(header::ALLOW, "GET")], not_allowed(&address)))
}

/// All of them.
pub(crate) fn routes() -> Routes {
    Routes::of::<Refusal>("direct", "Two people who talk, with presence, read marks and cameras.")
        .at_both("/room/add", [post("The room of two people, made where there is none", add)])
        .at_both("/room/list", [get("Your rooms", list), post("Sends a message", send)])
        .at_both("/room/select/{room}", [change!("Makes a room your current one, and read", select)])
        .at_both("/room/stop/{room}", [change!("Stops the talk until both write again", stop)])
        .at_both("/webrtc/cameraOn", [change!("Your camera is on", camera_on)])
        .at_both("/webrtc/cameraOff", [change!("Your camera is off", camera_off)])
}

async fn add(
    State(api): State<Api>,
    Writer(caller): Writer,
    key: IdempotencyKey,
    Json(body): Json<wire::NewRoom>,
) -> Answered<wire::Room> {
    let seen = direct::add(&api, &caller, body.owner, body.abonent, &key.request()).await?;
    Ok(Answer(encode::seen(seen, api.low_account)))
}

async fn list(
    State(api): State<Api>,
    Reader(caller): Reader,
    asked: Result<Query<wire::ListQuery>, QueryRejection>,
) -> Answered<wire::Rooms> {
    let Query(asked) = asked.map_err(|_| Error::bad_request("The query is malformed."))?;
    let after = asked.cursor.as_deref().map(decode::cursor).transpose()?;
    let rooms = direct::list(&api, &caller, after).await?;
    Ok(Answer(encode::rooms(rooms, &caller.user, api.low_account)))
}

async fn send(
    State(api): State<Api>,
    Writer(caller): Writer,
    key: IdempotencyKey,
    Json(body): Json<wire::NewMessage>,
) -> Answered<wire::Room> {
    if body.author.and_then(|author| author.id).is_some_and(|author| author != caller.user) {
        return Err(Error::forbidden().into());
    }
    let seen = direct::send(&api, &caller, body.room_id, &body.message, &key.request()).await?;
    Ok(Answer(encode::seen(seen, api.low_account)))
}

async fn select(
    State(api): State<Api>,
    Writer(caller): Writer,
    InRoom(room): InRoom,
    unkeyed: NoIdempotencyKey,
) -> Answered<wire::Rooms> {
    let rooms = direct::select(&api, &caller, room, &unkeyed.request()).await?;
    Ok(Answer(encode::rooms(rooms, &caller.user, api.low_account)))
}

async fn stop(
    State(api): State<Api>,
    Writer(caller): Writer,
    InRoom(room): InRoom,
    unkeyed: NoIdempotencyKey,
) -> Answered<wire::Stopped> {
    direct::stop(&api, &caller, room, &unkeyed.request()).await?;
    Ok(Answer(wire::Stopped { status: 0, message: "Ok" }))
}

async fn camera_on(
    State(api): State<Api>,
    Writer(caller): Writer,
    unkeyed: NoIdempotencyKey,
) -> Answered<wire::CameraOn> {
    direct::camera(&api, &caller, true, &unkeyed.request()).await?;
    Ok(Answer(wire::CameraOn { camera_on: "ok" }))
}

async fn camera_off(
    State(api): State<Api>,
    Writer(caller): Writer,
    unkeyed: NoIdempotencyKey,
) -> Answered<wire::CameraOff> {
    direct::camera(&api, &caller, false, &unkeyed.request()).await?;
    Ok(Answer(wire::CameraOff { camera_off: "ok" }))
}
