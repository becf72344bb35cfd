//! Declares the routes of invitations.

use std::sync::Arc;

use axum::extract::State;
use protocol::id::{MessageId, RoomId};

use super::{Created, JsonResult, QueryResult, require_query};
use crate::{
    commands::invitations,
    commands::state::CommandState,
    dialects::native::{
        decode, encode,
        errors::Rejection,
        extract::{Authenticated, IdempotencyKey, JsonBody, NoIdempotencyKey},
        pages, wire,
    },
    dialects::path::PathIds,
    page::HTTP_MAX_BYTES,
};

pub(super) async fn invite(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<wire::NewInvitation>,
) -> Result<Created<wire::Invitation>, Rejection> {
    let (created, applied) =
        invitations::invite(&api, &caller, room, body.user, &key.request_context()).await?;
    Ok(Created(encode::invitation(created, applied)))
}

pub(super) async fn list(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    query: QueryResult<wire::ListQuery>,
) -> JsonResult<wire::Page<wire::Invitation>> {
    let query = require_query(query)?;
    let limit = decode::parse_limit(query.limit.as_deref())?;
    let before = query.cursor.as_deref().map(decode::decode_cursor).transpose()?;
    let found = invitations::list(&api, &caller, before, limit).await?;
    let invitations = found.map(|one| encode::invitation(one, true));
    let cursor = |last: &wire::Invitation| decode::encode_cursor(&last.id);
    Ok(axum::Json(pages::fit_page(invitations, HTTP_MAX_BYTES, cursor)?))
}

pub(super) async fn accept(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(MessageId(id), ..): PathIds<MessageId, Rejection>,
    unkeyed: NoIdempotencyKey,
) -> JsonResult<wire::Invitation> {
    let (answered, applied) =
        invitations::answer(&api, &caller, id, true, &unkeyed.request_context()).await?;
    Ok(axum::Json(encode::invitation(answered, applied)))
}

pub(super) async fn decline(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(MessageId(id), ..): PathIds<MessageId, Rejection>,
    unkeyed: NoIdempotencyKey,
) -> JsonResult<wire::Invitation> {
    let (answered, applied) =
        invitations::answer(&api, &caller, id, false, &unkeyed.request_context()).await?;
    Ok(axum::Json(encode::invitation(answered, applied)))
}
