//! Declares the routes of people and their read marks.

use std::sync::Arc;

use axum::extract::State;
use protocol::{
    event::PersonChange,
    id::{RoomId, UserId},
};

use super::{AppliedOrPending, JsonResult};
use crate::{
    commands::state::CommandState,
    commands::{people, read_marks},
    dialects::native::{
        encode,
        errors::Rejection,
        extract::{Authenticated, IdempotencyKey, JsonBody},
        wire,
    },
    dialects::path::PathIds,
};

pub(super) async fn show(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(user, ..): PathIds<UserId, Rejection>,
) -> JsonResult<wire::Person> {
    let found = people::show(&api, &caller, &user).await?;
    Ok(axum::Json(encode::person(found, true)))
}

pub(super) async fn put(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(user, ..): PathIds<UserId, Rejection>,
    key: IdempotencyKey,
    JsonBody(change): JsonBody<PersonChange>,
) -> JsonResult<wire::Person> {
    let (found, applied) =
        people::update_profile(&api, &caller, &user, change, &key.request_context()).await?;
    Ok(axum::Json(encode::person(found, applied)))
}

pub(super) async fn presence(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(user, ..): PathIds<UserId, Rejection>,
) -> JsonResult<wire::Presence> {
    let (is_online, rooms) = people::presence_of(&api, &caller, &user).await?;
    Ok(axum::Json(wire::Presence { user, is_online, rooms }))
}

pub(super) async fn read(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<wire::ReadUpTo>,
) -> Result<AppliedOrPending, Rejection> {
    Ok(AppliedOrPending(
        read_marks::mark_read(&api, &caller, room, body.message_id, &key.request_context()).await?,
    ))
}
