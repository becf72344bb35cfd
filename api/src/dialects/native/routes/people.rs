//! People and their read marks, over HTTP.

use axum::extract::State;
use protocol::event::PersonChange;

use super::{Answer, Settled};
use crate::{
    commands::state::Api,
    commands::{marks, people},
    dialects::native::{
        encode,
        errors::Problem,
        extract::{Caller, IdempotencyKey, InRoom, Json, OfUser},
        wire,
    },
};

pub(super) async fn show(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfUser(user): OfUser,
) -> Answer<wire::Person> {
    let found = people::show(&api, &caller, &user).await?;
    Ok(axum::Json(encode::person(found, true)))
}

pub(super) async fn put(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfUser(user): OfUser,
    key: IdempotencyKey,
    Json(change): Json<PersonChange>,
) -> Answer<wire::Person> {
    let (found, applied) = people::put(&api, &caller, &user, change, &key.request()).await?;
    Ok(axum::Json(encode::person(found, applied)))
}

pub(super) async fn presence(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfUser(user): OfUser,
) -> Answer<wire::Presence> {
    let (is_online, rooms) = people::presence(&api, &caller, &user).await?;
    Ok(axum::Json(wire::Presence { user, is_online, rooms }))
}

pub(super) async fn read(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
    key: IdempotencyKey,
    Json(body): Json<wire::ReadUpTo>,
) -> Result<Settled, Problem> {
    Ok(Settled(marks::put(&api, &caller, room, body.message_id, &key.request()).await?))
}
