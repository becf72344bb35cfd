//! The routes, each with and without the trailing slash.

use axum::{
    Json as Answer, Router,
    extract::State,
    routing::{MethodRouter, get, post},
};
use serde_json::{Value, json};
use shared::error::Error;

use super::{
    encode,
    errors::Refusal,
    extract::{IdempotencyKey, InRoom, Json, Reader, Writer},
    wire,
};
use crate::{commands::direct, state::Api};

type Answered<T> = Result<Answer<T>, Refusal>;

/// All of them.
pub(crate) fn router() -> Router<Api> {
    let routes: [(&str, MethodRouter<Api>); 6] = [
        ("/room/add", post(add)),
        ("/room/list", get(list).post(send)),
        ("/room/select/{room}", get(select)),
        ("/room/stop/{room}", get(stop)),
        ("/webrtc/cameraOn", get(camera_on)),
        ("/webrtc/cameraOff", get(camera_off)),
    ];
    routes.into_iter().fold(Router::new(), |router, (path, methods)| {
        router.route(path, methods.clone()).route(&format!("{path}/"), methods)
    })
}

async fn add(
    State(api): State<Api>,
    Writer(caller): Writer,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<wire::NewRoom>,
) -> Answered<wire::Room> {
    let seen = direct::add(&api, &caller, body.owner, body.abonent, key.as_deref()).await?;
    Ok(Answer(encode::seen(seen, api.low_account)))
}

async fn list(State(api): State<Api>, Reader(caller): Reader) -> Answered<wire::Rooms> {
    let rooms = direct::list(&api, &caller).await?;
    Ok(Answer(encode::rooms(rooms, &caller.user, api.low_account)))
}

async fn send(
    State(api): State<Api>,
    Writer(caller): Writer,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<wire::NewMessage>,
) -> Answered<wire::Room> {
    if body.author.and_then(|author| author.id).is_some_and(|author| author != caller.user) {
        return Err(Error::forbidden().into());
    }
    let seen = direct::send(&api, &caller, body.room_id, &body.message, key.as_deref()).await?;
    Ok(Answer(encode::seen(seen, api.low_account)))
}

async fn select(
    State(api): State<Api>,
    Writer(caller): Writer,
    InRoom(room): InRoom,
) -> Answered<wire::Rooms> {
    let rooms = direct::select(&api, &caller, room).await?;
    Ok(Answer(encode::rooms(rooms, &caller.user, api.low_account)))
}

async fn stop(State(api): State<Api>, Writer(caller): Writer, InRoom(room): InRoom) -> Answered<Value> {
    direct::stop(&api, &caller, room).await?;
    Ok(Answer(json!({ "status": 0, "message": "Ok" })))
}

async fn camera_on(State(api): State<Api>, Writer(caller): Writer) -> Answered<Value> {
    direct::camera(&api, &caller, true).await?;
    Ok(Answer(json!({ "camera_on": "ok" })))
}

async fn camera_off(State(api): State<Api>, Writer(caller): Writer) -> Answered<Value> {
    direct::camera(&api, &caller, false).await?;
    Ok(Answer(json!({ "camera_off": "ok" })))
}
