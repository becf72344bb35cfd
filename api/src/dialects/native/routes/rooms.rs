//! Declares the routes of rooms.

use std::sync::Arc;

use axum::extract::State;
use protocol::id::RoomId;

use super::{AppliedOrPending, CreatedOrExisting, JsonResult, QueryResult, require_query};
use crate::{
    commands::state::CommandState,
    commands::{pair_rooms, rooms},
    dialects::native::{
        decode, encode,
        errors::Rejection,
        extract::{Authenticated, IdempotencyKey, JsonBody},
        pages, wire,
    },
    dialects::path::PathIds,
    page::{self, HTTP_MAX_BYTES},
};

pub(super) async fn make_room(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<wire::NewRoom>,
) -> Result<CreatedOrExisting<wire::Room>, Rejection> {
    if body.kind == Some(wire::NewKind::Match) {
        let paired =
            pair_rooms::create_match(&api, &caller, body.name, body.users, &key.request_context()).await?;
        let room = encode::room(paired.room, paired.is_applied);
        return Ok(if paired.is_new {
            CreatedOrExisting::Created(room)
        } else {
            CreatedOrExisting::Existing(room)
        });
    }
    let new_room = rooms::NewRoom {
        name: body.name,
        description: body.description,
        private: body.private,
        team: body.team,
        users: body.users,
    };
    let (room, applied) = rooms::create(&api, &caller, new_room, &key.request_context()).await?;
    Ok(CreatedOrExisting::Created(encode::room(room, applied)))
}

pub(super) async fn list_rooms(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    query: QueryResult<wire::ListQuery>,
) -> JsonResult<wire::Page<wire::Room>> {
    let query = require_query(query)?;
    let limit = decode::parse_limit(query.limit.as_deref())?;
    let before = query.cursor.as_deref().map(decode::decode_room_cursor).transpose()?;
    let rooms = rooms::list(&api, &caller, before, limit).await?;
    Ok(axum::Json(pages::rooms_page(rooms, HTTP_MAX_BYTES)?))
}

pub(super) async fn show_room(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
) -> JsonResult<wire::Room> {
    let room = rooms::show(&api, &caller, room).await?;
    Ok(axum::Json(page::fit_entry(encode::room(room, true), HTTP_MAX_BYTES)?))
}

pub(super) async fn change_room(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<wire::RoomChange>,
) -> JsonResult<wire::Room> {
    let change = rooms::RoomChange { name: body.name, description: body.description, private: body.private };
    let (room, applied) = rooms::update(&api, &caller, room, change, &key.request_context()).await?;
    Ok(axum::Json(page::fit_entry(encode::room(room, applied), HTTP_MAX_BYTES)?))
}

pub(super) async fn close_room(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
    key: IdempotencyKey,
) -> Result<AppliedOrPending, Rejection> {
    Ok(AppliedOrPending(rooms::close(&api, &caller, room, &key.request_context()).await?))
}
