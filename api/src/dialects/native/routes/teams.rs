//! Teams, over HTTP.

use axum::extract::State;
use protocol::id::{TeamId, UserId};

use super::{Answer, Created, Queried, Settled, query};
use crate::{
    commands::state::Api,
    commands::teams,
    dialects::native::{
        decode, encode,
        errors::Problem,
        extract::{Caller, IdempotencyKey, Json, Member, OfTeam},
        pages, wire,
    },
    page::{self, HTTP_MAX_BYTES},
};

pub(super) async fn make(
    State(api): State<Api>,
    Caller(caller): Caller,
    key: IdempotencyKey,
    Json(body): Json<wire::NewTeam>,
) -> Result<Created<wire::Team>, Problem> {
    let (team, applied) = teams::make(&api, &caller, body.name, body.users, &key.request()).await?;
    Ok(Created(encode::team(team, applied)))
}

pub(super) async fn list(
    State(api): State<Api>,
    Caller(caller): Caller,
    asked: Queried<wire::ListQuery>,
) -> Answer<wire::Page<wire::Team>> {
    let asked = query(asked)?;
    let limit = decode::limit(asked.limit.as_deref())?;
    let before = asked.cursor.as_deref().map(decode::mark).transpose()?;
    let teams = teams::list(&api, &caller, before, limit).await?;
    let teams = teams.into_iter().map(|team| encode::team(team, true)).collect();
    let cursor = |last: &wire::Team| decode::write_mark(&last.id);
    Ok(axum::Json(pages::page(teams, limit, HTTP_MAX_BYTES, cursor)?))
}

pub(super) async fn members(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfTeam(team): OfTeam,
    asked: Queried<wire::ListQuery>,
) -> Answer<wire::Page<UserId>> {
    let asked = query(asked)?;
    let limit = decode::limit(asked.limit.as_deref())?;
    let after: Option<UserId> = asked.cursor.as_deref().map(decode::mark).transpose()?;
    // One more tells whether there is a next page.
    let found = teams::names(&api, &caller, team, after.as_ref(), limit + 1).await?;
    Ok(axum::Json(pages::people(found, limit)))
}

pub(super) async fn show(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfTeam(team): OfTeam,
) -> Answer<wire::Team> {
    let team = encode::team(teams::show(&api, &caller, team).await?, true);
    Ok(axum::Json(page::fit_entry(team, HTTP_MAX_BYTES)?))
}

pub(super) async fn add(
    State(api): State<Api>,
    Caller(caller): Caller,
    Member(team, user): Member<TeamId>,
    key: IdempotencyKey,
) -> Result<Settled, Problem> {
    Ok(Settled(teams::add(&api, &caller, team, user, &key.request()).await?))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Caller(caller): Caller,
    Member(team, user): Member<TeamId>,
    key: IdempotencyKey,
) -> Result<Settled, Problem> {
    Ok(Settled(teams::remove(&api, &caller, team, user, &key.request()).await?))
}
