//! The native REST routes, one file a noun.

mod invitations;
mod members;
mod messages;
mod people;
mod rooms;
mod teams;

use axum::{
    Router,
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, patch, post, put},
};
use serde_json::json;
use shared::{error::Error, id::UserId};

use super::{decode, errors::Problem, wire};
use crate::state::Api;

/// All of them.
pub(crate) fn router() -> Router<Api> {
    Router::new()
        .route("/api/v1/rooms", get(rooms::list_rooms).post(rooms::make_room))
        .route(
            "/api/v1/rooms/{room}",
            get(rooms::show_room).patch(rooms::change_room).delete(rooms::close_room),
        )
        .route("/api/v1/rooms/{room}/messages", get(messages::history).post(messages::send))
        .route("/api/v1/rooms/{room}/messages/{message}", patch(messages::edit).delete(messages::delete))
        .route("/api/v1/messages/search", get(messages::search))
        .route("/api/v1/rooms/{room}/members", get(members::list))
        .route("/api/v1/rooms/{room}/members/{user}", put(members::add).delete(members::remove))
        .route("/api/v1/rooms/{room}/participants", get(members::present))
        .route("/api/v1/rooms/{room}/invitations", post(invitations::invite))
        .route("/api/v1/rooms/{room}/read", put(people::read))
        .route("/api/v1/invitations", get(invitations::list))
        .route("/api/v1/invitations/{invitation}/accept", post(invitations::accept))
        .route("/api/v1/invitations/{invitation}/decline", post(invitations::decline))
        .route("/api/v1/users/{user}", get(people::show).put(people::put))
        .route("/api/v1/users/{user}/presence", get(people::presence))
        .route("/api/v1/teams", get(teams::list).post(teams::make))
        .route("/api/v1/teams/{team}", get(teams::show))
        .route("/api/v1/teams/{team}/members/{user}", put(teams::add).delete(teams::remove))
}

fn created(body: impl serde::Serialize) -> Response {
    (StatusCode::CREATED, axum::Json(body)).into_response()
}

type Answer<T> = Result<axum::Json<T>, Problem>;
type Queried<T> = Result<Query<T>, QueryRejection>;

fn query<T>(query: Queried<T>) -> Result<T, Error> {
    query.map(|Query(query)| query).map_err(|_| Error::bad_request("The query is malformed."))
}

/// Nothing more to say; or that reads can't see it yet.
fn settled(applied: bool) -> Response {
    if applied {
        StatusCode::NO_CONTENT.into_response()
    } else {
        (StatusCode::ACCEPTED, axum::Json(json!({ "applied": false }))).into_response()
    }
}

/// A page of people, who are in the order of their ids.
fn named(people: Vec<UserId>, asked: &wire::ListQuery) -> Result<wire::Page<UserId>, Error> {
    let limit = decode::limit(asked.limit.as_deref())?;
    let after: Option<UserId> = asked.cursor.as_deref().map(decode::mark).transpose()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut rest = people.into_iter().filter(|user| after.as_ref().is_none_or(|after| user > after));
    let results: Vec<UserId> = rest.by_ref().take(limit).collect();
    let next = results.last().filter(|_| rest.next().is_some()).map(decode::write_mark);
    Ok(wire::Page { results, next })
}
