//! Teams, over HTTP.

use axum::extract::State;
use shared::id::TeamId;

use super::{Answer, Created, Queried, Settled, query};
use crate::{
    commands::teams,
    dialects::native::{
        decode, encode,
        errors::Problem,
        extract::{Caller, IdempotencyKey, Json, Member, OfTeam},
        wire,
    },
    state::Api,
};

pub(super) async fn make(
    State(api): State<Api>,
    Caller(caller): Caller,
    key: IdempotencyKey,
    Json(body): Json<wire::NewTeam>,
) -> Result<Created<wire::Team>, Problem> {
    let (team, applied) = teams::make(&api, &caller, body.name, body.users, key.as_deref()).await?;
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
    let is_full = i64::try_from(teams.len()) == Ok(limit);
    let next = teams.last().filter(|_| is_full).map(|team| decode::write_mark(&team.id));
    let results = teams.into_iter().map(|team| encode::team(team, true)).collect();
    Ok(axum::Json(wire::Page { results, next }))
}

pub(super) async fn show(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfTeam(team): OfTeam,
) -> Answer<wire::Team> {
    Ok(axum::Json(encode::team(teams::show(&api, &caller, team).await?, true)))
}

pub(super) async fn add(
    State(api): State<Api>,
    Caller(caller): Caller,
    Member(team, user): Member<TeamId>,
    key: IdempotencyKey,
) -> Result<Settled, Problem> {
    Ok(Settled(teams::add(&api, &caller, team, user, key.as_deref()).await?))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Caller(caller): Caller,
    Member(team, user): Member<TeamId>,
    key: IdempotencyKey,
) -> Result<Settled, Problem> {
    Ok(Settled(teams::remove(&api, &caller, team, user, key.as_deref()).await?))
}
