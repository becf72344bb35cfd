//! Declares the native REST routes; each kind of resource has a file of handlers.

mod invitations;
mod members;
mod messages;
mod people;
mod rooms;
mod teams;

use axum::{
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use protocol::error::Error;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{errors::Rejection, wire};
use crate::documents::{DocumentedOutput, DocumentedRoutes, OperationBuilder, delete, get, patch, post, put};

/// All REST routes of the dialect.
pub(crate) fn routes() -> DocumentedRoutes {
    DocumentedRoutes::new::<Rejection>("native", "Rooms, messages, people and teams, as JSON.")
        .route(
            "/api/v1/rooms",
            [
                get("The rooms that you may enter, newest first", rooms::list_rooms),
                post(
                    "Makes a room; with `kind` `match`, by an admin, the one of two people",
                    rooms::make_room,
                ),
            ],
        )
        .route(
            "/api/v1/rooms/{room}",
            [
                get("A room", rooms::show_room),
                patch("Changes a room", rooms::change_room),
                delete("Closes a room: its history stays", rooms::close_room),
            ],
        )
        .route(
            "/api/v1/rooms/{room}/messages",
            [
                get("A room's messages, or what has changed since an event", messages::history),
                post("Sends a message", messages::send),
            ],
        )
        .route(
            "/api/v1/rooms/{room}/messages/{message}",
            [
                patch("Changes a message's text", messages::edit),
                delete("Deletes a message", messages::delete),
            ],
        )
        .route("/api/v1/messages/search", [get("Messages with these words, newest first", messages::search)])
        .route("/api/v1/rooms/{room}/members", [get("Who may enter, where not everyone may", members::list)])
        .route(
            "/api/v1/rooms/{room}/members/{user}",
            [put("Lets a person in", members::add), delete("Takes a person out", members::remove)],
        )
        .route("/api/v1/rooms/{room}/participants", [get("Who is in a room now", members::present)])
        .route("/api/v1/rooms/{room}/invitations", [post("Asks a person into a room", invitations::invite)])
        .route("/api/v1/rooms/{room}/read", [put("Says up to where you have read", people::read)])
        .route("/api/v1/invitations", [get("Your unanswered invitations, newest first", invitations::list)])
        .route("/api/v1/invitations/{invitation}/accept", [post("Says yes", invitations::accept)])
        .route("/api/v1/invitations/{invitation}/decline", [post("Says no", invitations::decline)])
        .route(
            "/api/v1/users/{user}",
            [get("A person", people::show), put("Describes a person, as an admin", people::put)],
        )
        .route("/api/v1/users/{user}/presence", [get("Where a person is", people::presence)])
        .route(
            "/api/v1/teams",
            [get("Your teams, newest first", teams::list), post("Makes a team", teams::make)],
        )
        .route("/api/v1/teams/{team}", [get("A team", teams::show)])
        .route("/api/v1/teams/{team}/members", [get("Who belongs to a team", teams::members)])
        .route(
            "/api/v1/teams/{team}/members/{user}",
            [
                put("Takes a person into a team", teams::add),
                delete("Takes a person out of it", teams::remove),
            ],
        )
}

/// 201 for a resource that was created, 200 for one that existed already.
enum CreatedOrExisting<T> {
    Created(T),
    Existing(T),
}

impl<T: Serialize> IntoResponse for CreatedOrExisting<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Created(body) => (StatusCode::CREATED, axum::Json(body)).into_response(),
            Self::Existing(body) => axum::Json(body).into_response(),
        }
    }
}

impl<T: JsonSchema> DocumentedOutput for CreatedOrExisting<T> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.responds_json::<T>(200, "It was there.");
        operation.responds_json::<T>(201, "Made.");
    }
}

/// 201, for a resource that was created.
struct Created<T>(T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, axum::Json(self.0)).into_response()
    }
}

impl<T: JsonSchema> DocumentedOutput for Created<T> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.responds_json::<T>(201, "Made.");
    }
}

/// 204 where reads can see the change, else 202 with `{"applied": false}`.
struct AppliedOrPending(bool);

impl IntoResponse for AppliedOrPending {
    fn into_response(self) -> Response {
        if self.0 {
            StatusCode::NO_CONTENT.into_response()
        } else {
            (StatusCode::ACCEPTED, axum::Json(wire::Pending { applied: false })).into_response()
        }
    }
}

impl DocumentedOutput for AppliedOrPending {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.responds(204, "Done.", Value::Null);
        operation.responds_json::<wire::Pending>(202, "Done; reads can't see it yet.");
    }
}

type JsonResult<T> = Result<axum::Json<T>, Rejection>;
type QueryResult<T> = Result<Query<T>, QueryRejection>;

fn require_query<T>(query: QueryResult<T>) -> Result<T, Error> {
    query.map(|Query(query)| query).map_err(|_| Error::bad_request("The query is malformed."))
}
