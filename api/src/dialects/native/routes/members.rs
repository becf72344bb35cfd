//! Declares the routes of a room's members and participants.

use std::sync::Arc;

use axum::extract::State;
use protocol::id::{RoomId, UserId};

use super::{AppliedOrPending, JsonResult, QueryResult, require_query};
use crate::{
    commands::members,
    commands::state::CommandState,
    dialects::native::{
        decode,
        errors::Rejection,
        extract::{Authenticated, IdempotencyKey},
        pages, wire,
    },
    dialects::path::PathIds,
};

pub(super) async fn list(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
    query: QueryResult<wire::ListQuery>,
) -> JsonResult<wire::Page<UserId>> {
    let query = require_query(query)?;
    let limit = decode::parse_limit(query.limit.as_deref())?;
    let after: Option<UserId> = query.cursor.as_deref().map(decode::decode_cursor).transpose()?;
    let found = members::list(&api, &caller, room, after.as_ref(), limit).await?;
    Ok(axum::Json(pages::people_page(found)))
}

pub(super) async fn present(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
    query: QueryResult<wire::ListQuery>,
) -> JsonResult<wire::Page<UserId>> {
    let query = require_query(query)?;
    let limit = decode::parse_limit(query.limit.as_deref())?;
    let after: Option<UserId> = query.cursor.as_deref().map(decode::decode_cursor).transpose()?;
    let found = members::list_participants(&api, &caller, room, after.as_ref(), limit).await?;
    Ok(axum::Json(pages::people_page(found)))
}

pub(super) async fn add(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds((room, user), ..): PathIds<(RoomId, UserId), Rejection>,
    key: IdempotencyKey,
) -> Result<AppliedOrPending, Rejection> {
    Ok(AppliedOrPending(members::add(&api, &caller, room, user, &key.request_context()).await?))
}

pub(super) async fn remove(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds((room, user), ..): PathIds<(RoomId, UserId), Rejection>,
    key: IdempotencyKey,
) -> Result<AppliedOrPending, Rejection> {
    Ok(AppliedOrPending(members::remove(&api, &caller, room, user, &key.request_context()).await?))
}
