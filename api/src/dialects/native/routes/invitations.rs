//! Invitations, over HTTP.

use axum::extract::State;

use super::{Answer, Created, Queried, query};
use crate::{
    commands::invitations,
    commands::state::Api,
    dialects::native::{
        decode, encode,
        errors::Problem,
        extract::{Caller, IdempotencyKey, InRoom, Json, NoIdempotencyKey, OfInvitation},
        pages, wire,
    },
    page::HTTP_MAX_BYTES,
};

pub(super) async fn invite(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
    key: IdempotencyKey,
    Json(body): Json<wire::NewInvitation>,
) -> Result<Created<wire::Invitation>, Problem> {
    let (made, applied) = invitations::invite(&api, &caller, room, body.user, &key.request()).await?;
    Ok(Created(encode::invitation(made, applied)))
}

pub(super) async fn list(
    State(api): State<Api>,
    Caller(caller): Caller,
    asked: Queried<wire::ListQuery>,
) -> Answer<wire::Page<wire::Invitation>> {
    let asked = query(asked)?;
    let limit = decode::limit(asked.limit.as_deref())?;
    let before = asked.cursor.as_deref().map(decode::mark).transpose()?;
    let found = invitations::list(&api, &caller, before, limit).await?;
    let invitations = found.into_iter().map(|one| encode::invitation(one, true)).collect();
    let cursor = |last: &wire::Invitation| decode::write_mark(&last.id);
    Ok(axum::Json(pages::page(invitations, limit, HTTP_MAX_BYTES, cursor)?))
}

pub(super) async fn accept(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfInvitation(id): OfInvitation,
    unkeyed: NoIdempotencyKey,
) -> Answer<wire::Invitation> {
    let (answered, applied) = invitations::answer(&api, &caller, id, true, &unkeyed.request()).await?;
    Ok(axum::Json(encode::invitation(answered, applied)))
}

pub(super) async fn decline(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfInvitation(id): OfInvitation,
    unkeyed: NoIdempotencyKey,
) -> Answer<wire::Invitation> {
    let (answered, applied) = invitations::answer(&api, &caller, id, false, &unkeyed.request()).await?;
    Ok(axum::Json(encode::invitation(answered, applied)))
}
