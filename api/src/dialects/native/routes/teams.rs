//! Declares the routes of teams.

use std::sync::Arc;

use axum::extract::State;
use protocol::id::{TeamId, UserId};

use super::{AppliedOrPending, Created, JsonResult, QueryResult, require_query};
use crate::{
    commands::state::CommandState,
    commands::teams,
    dialects::native::{
        decode, encode,
        errors::Rejection,
        extract::{Authenticated, IdempotencyKey, JsonBody},
        pages, wire,
    },
    dialects::path::PathIds,
    page::{self, HTTP_MAX_BYTES},
};

pub(super) async fn make(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<wire::NewTeam>,
) -> Result<Created<wire::Team>, Rejection> {
    let (team, applied) = teams::create(&api, &caller, body.name, body.users, &key.request_context()).await?;
    Ok(Created(encode::team(team, applied)))
}

pub(super) async fn list(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    query: QueryResult<wire::ListQuery>,
) -> JsonResult<wire::Page<wire::Team>> {
    let query = require_query(query)?;
    let limit = decode::parse_limit(query.limit.as_deref())?;
    let before = query.cursor.as_deref().map(decode::decode_cursor).transpose()?;
    let teams = teams::list(&api, &caller, before, limit).await?;
    let teams = teams.map(|team| encode::team(team, true));
    let cursor = |last: &wire::Team| decode::encode_cursor(&last.id);
    Ok(axum::Json(pages::fit_page(teams, HTTP_MAX_BYTES, cursor)?))
}

pub(super) async fn members(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(team, ..): PathIds<TeamId, Rejection>,
    query: QueryResult<wire::ListQuery>,
) -> JsonResult<wire::Page<UserId>> {
    let query = require_query(query)?;
    let limit = decode::parse_limit(query.limit.as_deref())?;
    let after: Option<UserId> = query.cursor.as_deref().map(decode::decode_cursor).transpose()?;
    let found = teams::list_members(&api, &caller, team, after.as_ref(), limit).await?;
    Ok(axum::Json(pages::people_page(found)))
}

pub(super) async fn show(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(team, ..): PathIds<TeamId, Rejection>,
) -> JsonResult<wire::Team> {
    let team = encode::team(teams::show(&api, &caller, team).await?, true);
    Ok(axum::Json(page::fit_entry(team, HTTP_MAX_BYTES)?))
}

pub(super) async fn add(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds((team, user), ..): PathIds<(TeamId, UserId), Rejection>,
    key: IdempotencyKey,
) -> Result<AppliedOrPending, Rejection> {
    Ok(AppliedOrPending(teams::add(&api, &caller, team, user, &key.request_context()).await?))
}

pub(super) async fn remove(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds((team, user), ..): PathIds<(TeamId, UserId), Rejection>,
    key: IdempotencyKey,
) -> Result<AppliedOrPending, Rejection> {
    Ok(AppliedOrPending(teams::remove(&api, &caller, team, user, &key.request_context()).await?))
}
