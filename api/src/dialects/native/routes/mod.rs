//! The native REST routes, one file a noun.

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

use super::{errors::Problem, wire};
use crate::documents::{DocumentedOutput, Operation, Routes, delete, get, patch, post, put};

/// All of them.
pub(crate) fn routes() -> Routes {
    Routes::of::<Problem>("native", "Rooms, messages, people and teams, as JSON.")
        .at(
            "/api/v1/rooms",
            [
                get("The rooms that you may enter, newest first", rooms::list_rooms),
                post(
                    "Makes a room; with `kind` `match`, by an admin, the one of two people",
                    rooms::make_room,
                ),
            ],
        )
        .at(
            "/api/v1/rooms/{room}",
            [
                get("A room", rooms::show_room),
                patch("Changes a room", rooms::change_room),
                delete("Closes a room: its history stays", rooms::close_room),
            ],
        )
        .at(
            "/api/v1/rooms/{room}/messages",
            [
                get("A room's messages, or what has changed since an event", messages::history),
                post("Sends a message", messages::send),
            ],
        )
        .at(
            "/api/v1/rooms/{room}/messages/{message}",
            [
                patch("Changes a message's text", messages::edit),
                delete("Deletes a message", messages::delete),
            ],
        )
        .at("/api/v1/messages/search", [get("Messages with these words, newest first", messages::search)])
        .at("/api/v1/rooms/{room}/members", [get("Who may enter, where not everyone may", members::list)])
        .at(
            "/api/v1/rooms/{room}/members/{user}",
            [put("Lets a person in", members::add), delete("Takes a person out", members::remove)],
        )
        .at("/api/v1/rooms/{room}/participants", [get("Who is in a room now", members::present)])
        .at("/api/v1/rooms/{room}/invitations", [post("Asks a person into a room", invitations::invite)])
        .at("/api/v1/rooms/{room}/read", [put("Says up to where you have read", people::read)])
        .at("/api/v1/invitations", [get("Your unanswered invitations, newest first", invitations::list)])
        .at("/api/v1/invitations/{invitation}/accept", [post("Says yes", invitations::accept)])
        .at("/api/v1/invitations/{invitation}/decline", [post("Says no", invitations::decline)])
        .at(
            "/api/v1/users/{user}",
            [get("A person", people::show), put("Describes a person, as an admin", people::put)],
        )
        .at("/api/v1/users/{user}/presence", [get("Where a person is", people::presence)])
        .at(
            "/api/v1/teams",
            [get("Your teams, newest first", teams::list), post("Makes a team", teams::make)],
        )
        .at("/api/v1/teams/{team}", [get("A team", teams::show)])
        .at("/api/v1/teams/{team}/members", [get("Who belongs to a team", teams::members)])
        .at(
            "/api/v1/teams/{team}/members/{user}",
            [
                put("Takes a person into a team", teams::add),
                delete("Takes a person out of it", teams::remove),
            ],
        )
}

/// What was made; or, where it was there before, what is there.
enum Made<T> {
    New(T),
    Known(T),
}

impl<T: Serialize> IntoResponse for Made<T> {
    fn into_response(self) -> Response {
        match self {
            Self::New(body) => (StatusCode::CREATED, axum::Json(body)).into_response(),
            Self::Known(body) => axum::Json(body).into_response(),
        }
    }
}

impl<T: JsonSchema> DocumentedOutput for Made<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.answers_json::<T>(200, "It was there.");
        operation.answers_json::<T>(201, "Made.");
    }
}

/// What was made.
struct Created<T>(T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, axum::Json(self.0)).into_response()
    }
}

impl<T: JsonSchema> DocumentedOutput for Created<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.answers_json::<T>(201, "Made.");
    }
}

/// Whether reads can see what was done; there is nothing more to say.
struct Settled(bool);

impl IntoResponse for Settled {
    fn into_response(self) -> Response {
        if self.0 {
            StatusCode::NO_CONTENT.into_response()
        } else {
            (StatusCode::ACCEPTED, axum::Json(wire::Pending { applied: false })).into_response()
        }
    }
}

impl DocumentedOutput for Settled {
    fn describe(operation: &mut Operation<'_>) {
        operation.answers(204, "Done.", Value::Null);
        operation.answers_json::<wire::Pending>(202, "Done; reads can't see it yet.");
    }
}

type Answer<T> = Result<axum::Json<T>, Problem>;
type Queried<T> = Result<Query<T>, QueryRejection>;

fn query<T>(query: Queried<T>) -> Result<T, Error> {
    query.map(|Query(query)| query).map_err(|_| Error::bad_request("The query is malformed."))
}
