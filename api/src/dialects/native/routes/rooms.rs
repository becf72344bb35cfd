//! Rooms, over HTTP.

use axum::extract::State;

use super::{Answer, Made, Queried, Settled, query};
use crate::{
    commands::state::Api,
    commands::{pairs, rooms},
    dialects::native::{
        decode, encode,
        errors::Problem,
        extract::{Caller, IdempotencyKey, InRoom, Json},
        pages, wire,
    },
    page::{self, HTTP_MAX_BYTES},
};

pub(super) async fn make_room(
    State(api): State<Api>,
    Caller(caller): Caller,
    key: IdempotencyKey,
    Json(body): Json<wire::NewRoom>,
) -> Result<Made<wire::Room>, Problem> {
    if body.kind == Some(wire::NewKind::Match) {
        let paired = pairs::create_match(&api, &caller, body.name, body.users, &key.request()).await?;
        let room = encode::room(paired.room, paired.applied);
        return Ok(if paired.is_new { Made::New(room) } else { Made::Known(room) });
    }
    let make = rooms::NewRoom {
        name: body.name,
        description: body.description,
        private: body.private,
        team: body.team,
        users: body.users,
    };
    let (room, applied) = rooms::make(&api, &caller, make, &key.request()).await?;
    Ok(Made::New(encode::room(room, applied)))
}

pub(super) async fn list_rooms(
    State(api): State<Api>,
    Caller(caller): Caller,
    asked: Queried<wire::ListQuery>,
) -> Answer<wire::Page<wire::Room>> {
    let asked = query(asked)?;
    let limit = decode::limit(asked.limit.as_deref())?;
    let before = asked.cursor.as_deref().map(decode::cursor).transpose()?;
    let rooms = rooms::list(&api, &caller, before, limit).await?;
    Ok(axum::Json(pages::rooms(rooms, HTTP_MAX_BYTES)?))
}

pub(super) async fn show_room(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
) -> Answer<wire::Room> {
    let room = rooms::show(&api, &caller, room).await?;
    Ok(axum::Json(page::fit_entry(encode::room(room, true), HTTP_MAX_BYTES)?))
}

pub(super) async fn change_room(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
    key: IdempotencyKey,
    Json(body): Json<wire::RoomChange>,
) -> Answer<wire::Room> {
    let change = rooms::RoomChange { name: body.name, description: body.description, private: body.private };
    let (room, applied) = rooms::change(&api, &caller, room, change, &key.request()).await?;
    Ok(axum::Json(page::fit_entry(encode::room(room, applied), HTTP_MAX_BYTES)?))
}

pub(super) async fn close_room(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
    key: IdempotencyKey,
) -> Result<Settled, Problem> {
    Ok(Settled(rooms::close(&api, &caller, room, &key.request()).await?))
}
