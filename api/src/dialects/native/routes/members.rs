//! Who may enter a room and who is in it, over HTTP.

use axum::extract::State;
use protocol::id::{RoomId, UserId};

use super::{Answer, Queried, Settled, query};
use crate::{
    commands::members,
    commands::state::Api,
    dialects::native::{
        decode,
        errors::Problem,
        extract::{Caller, IdempotencyKey, InRoom, Member},
        pages, wire,
    },
};

pub(super) async fn list(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
    asked: Queried<wire::ListQuery>,
) -> Answer<wire::Page<UserId>> {
    let asked = query(asked)?;
    let limit = decode::limit(asked.limit.as_deref())?;
    let after: Option<UserId> = asked.cursor.as_deref().map(decode::mark).transpose()?;
    // One more tells whether there is a next page.
    let found = members::list(&api, &caller, room, after.as_ref(), limit + 1).await?;
    Ok(axum::Json(pages::people(found, limit)))
}

pub(super) async fn present(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
    asked: Queried<wire::ListQuery>,
) -> Answer<wire::Page<UserId>> {
    let asked = query(asked)?;
    let limit = decode::limit(asked.limit.as_deref())?;
    let after: Option<UserId> = asked.cursor.as_deref().map(decode::mark).transpose()?;
    // One more tells whether there is a next page.
    let found = members::present(&api, &caller, room, after.as_ref(), limit + 1).await?;
    Ok(axum::Json(pages::people(found, limit)))
}

pub(super) async fn add(
    State(api): State<Api>,
    Caller(caller): Caller,
    Member(room, user): Member<RoomId>,
    key: IdempotencyKey,
) -> Result<Settled, Problem> {
    Ok(Settled(members::add(&api, &caller, room, user, &key.request()).await?))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Caller(caller): Caller,
    Member(room, user): Member<RoomId>,
    key: IdempotencyKey,
) -> Result<Settled, Problem> {
    Ok(Settled(members::remove(&api, &caller, room, user, &key.request()).await?))
}
