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
                get("Lists the rooms that you may enter, newest first", rooms::list_rooms),
                post(
                    "Creates a room. Admins can create the match room of two people, with `kind` `match`",
                    rooms::make_room,
                ),
            ],
        )
        .route(
            "/api/v1/rooms/{room}",
            [
                get("Returns a room", rooms::show_room),
                patch("Changes a room's name, description or privacy", rooms::change_room),
                delete("Closes a room. Its messages stay readable", rooms::close_room),
            ],
        )
        .route(
            "/api/v1/rooms/{room}/messages",
            [
                get("Lists a room's messages, or the changes since an event", messages::history),
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
        .route(
            "/api/v1/messages/search",
            [get("Searches messages for words, newest first", messages::search)],
        )
        .route(
            "/api/v1/rooms/{room}/members",
            [get("Lists the members of a room that not everyone may enter", members::list)],
        )
        .route(
            "/api/v1/rooms/{room}/members/{user}",
            [
                put("Adds a member to a room", members::add),
                delete("Removes a member from a room", members::remove),
            ],
        )
        .route(
            "/api/v1/rooms/{room}/participants",
            [get("Lists the people who are in a room now", members::present)],
        )
        .route("/api/v1/rooms/{room}/invitations", [post("Invites a person to a room", invitations::invite)])
        .route("/api/v1/rooms/{room}/read", [put("Marks a room as read up to a message", people::read)])
        .route(
            "/api/v1/invitations",
            [get("Lists your unanswered invitations, newest first", invitations::list)],
        )
        .route(
            "/api/v1/invitations/{invitation}/accept",
            [post("Accepts an invitation", invitations::accept)],
        )
        .route(
            "/api/v1/invitations/{invitation}/decline",
            [post("Declines an invitation", invitations::decline)],
        )
        .route(
            "/api/v1/users/{user}",
            [
                get("Returns a person's profile", people::show),
                put("Changes a person's profile. For admins", people::put),
            ],
        )
        .route(
            "/api/v1/users/{user}/presence",
            [get("Returns whether a person is online, and the rooms that they are in", people::presence)],
        )
        .route(
            "/api/v1/teams",
            [get("Lists your teams, newest first", teams::list), post("Creates a team", teams::make)],
        )
        .route("/api/v1/teams/{team}", [get("Returns a team", teams::show)])
        .route("/api/v1/teams/{team}/members", [get("Lists the members of a team", teams::members)])
        .route(
            "/api/v1/teams/{team}/members/{user}",
            [
                put("Adds a member to a team", teams::add),
                delete("Removes a member from a team", teams::remove),
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
        operation.responds_json::<T>(200, "It existed already.");
        operation.responds_json::<T>(201, "Created.");
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
        operation.responds_json::<T>(201, "Created.");
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
        operation.responds_json::<wire::Pending>(202, "Stored. Reads can't see the change yet.");
    }
}

type JsonResult<T> = Result<axum::Json<T>, Rejection>;
type QueryResult<T> = Result<Query<T>, QueryRejection>;

fn require_query<T>(query: QueryResult<T>) -> Result<T, Error> {
    query.map(|Query(query)| query).map_err(|_| Error::bad_request("The query is malformed."))
}
