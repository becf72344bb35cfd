//! The native REST routes.

use axum::{
    Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, patch},
};
use shared::error::Error;
use tokio::time::Instant;

use super::{
    decode, encode,
    errors::Problem,
    extract::{Caller, IdempotencyKey, InRoom, Json, OfMessage},
    wire,
};
use crate::{
    commands::{messages, rooms},
    queries::messages::Page,
    state::{APPEND, Api},
};

/// All of them.
pub(crate) fn router() -> Router<Api> {
    Router::new()
        .route("/api/v1/rooms", get(list_rooms).post(make_room))
        .route("/api/v1/rooms/{room}", get(show_room))
        .route("/api/v1/rooms/{room}/messages", get(history).post(send))
        .route("/api/v1/rooms/{room}/messages/{message}", patch(edit).delete(delete))
}

fn created(body: impl serde::Serialize) -> Response {
    (StatusCode::CREATED, axum::Json(body)).into_response()
}

type Answer<T> = Result<axum::Json<T>, Problem>;
type Queried<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

fn query<T>(query: Queried<T>) -> Result<T, Error> {
    query.map(|Query(query)| query).map_err(|_| Error::bad_request("The query is malformed."))
}

async fn make_room(
    State(api): State<Api>,
    Caller(caller): Caller,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<wire::NewRoom>,
) -> Result<Response, Problem> {
    let make = rooms::Make {
        name: body.name,
        description: body.description,
        private: body.private,
        users: body.users,
    };
    let (room, applied) = rooms::make(&api, &caller, make, key.as_deref()).await?;
    Ok(created(encode::room(room, applied)))
}

async fn list_rooms(
    State(api): State<Api>,
    Caller(caller): Caller,
    asked: Queried<wire::RoomsQuery>,
) -> Answer<wire::Page<wire::Room>> {
    let asked = query(asked)?;
    let limit = decode::limit(asked.limit.as_deref())?;
    let after = asked.cursor.as_deref().map(decode::cursor).transpose()?;
    let rooms = rooms::list(&api, &caller, after, limit).await?;
    let is_full = i64::try_from(rooms.len()) == Ok(limit);
    let last = rooms.last().filter(|_| is_full).map(|room| (room.created_at, room.id));
    let results = rooms.into_iter().map(|room| encode::room(room, true)).collect();
    Ok(axum::Json(wire::Page { results, next: last.map(decode::write_cursor) }))
}

async fn show_room(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
) -> Answer<wire::Room> {
    let room = rooms::show(&api, &caller, room).await?;
    Ok(axum::Json(encode::room(room, true)))
}

async fn send(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<wire::NewMessage>,
) -> Result<Response, Problem> {
    let send = messages::Send {
        room,
        text: &body.message,
        client_id: body.client_id.as_deref().or(key.as_deref()),
        fallback: None,
        is_in: false,
        deadline: Instant::now() + APPEND,
    };
    Ok(created(encode::sent(messages::send(&api, &caller, send).await?)))
}

async fn history(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
    asked: Queried<wire::HistoryQuery>,
) -> Answer<wire::Page<wire::Message>> {
    let asked = query(asked)?;
    let limit = decode::limit(asked.limit.as_deref())?;
    let page = decode::page(&asked)?;
    let found = messages::history(&api, &caller, room, page, limit).await?;
    let is_full = i64::try_from(found.len()) == Ok(limit);
    // Where the next page in the same direction begins.
    let edge = match page {
        Page::After(_) => found.last(),
        Page::Last | Page::Before(_) => found.first(),
    };
    let next = edge.filter(|_| is_full).map(|message| message.id.to_string());
    let results = found.into_iter().map(|message| encode::message(room, message)).collect();
    Ok(axum::Json(wire::Page { results, next }))
}

async fn edit(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfMessage(room, message): OfMessage,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<wire::NewText>,
) -> Answer<wire::Edited> {
    let (edit, changed) = messages::edit(&api, &caller, room, message, &body.message, key.as_deref()).await?;
    let applied = api.is_applied(changed.shard, changed.seq).await;
    Ok(axum::Json(wire::Edited {
        id: edit.message_id,
        room: edit.room,
        user: edit.user,
        message: edit.message,
        edited_at: edit.edited_at,
        applied: encode::applied(applied),
    }))
}

async fn delete(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfMessage(room, message): OfMessage,
    IdempotencyKey(key): IdempotencyKey,
) -> Result<StatusCode, Problem> {
    let (_, changed) = messages::delete(&api, &caller, room, vec![message], key.as_deref()).await?;
    api.is_applied(changed.shard, changed.seq).await;
    Ok(StatusCode::NO_CONTENT)
}
