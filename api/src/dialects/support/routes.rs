//! Declares the support dialect's routes: `room-control` for visitors, `room-service` for visitors and agents,
//! `room-list` for agents.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use protocol::error::Error;

use super::{
    PREFIX, decode, encode,
    errors::Rejection,
    extract::{IdempotencyKey, NoIdempotencyKey, Sender, UntypedJson, WithVisitorPass},
    wire::{self, Answer, Done, ServiceQuery},
};
use crate::{
    commands::state::CommandState,
    commands::{
        request_context::RequestContext,
        support::{self, NewSupportMessage, SupportCaller, SupportVisit},
    },
    documents::{DocumentedRoutes, delete, get, post},
};

const ROOM_DETAILS_TEXT: &str = "Room deatils based on workspace id";

/// All routes of the dialect.
pub(crate) fn routes() -> DocumentedRoutes {
    let path = |name: &str| format!("{PREFIX}{name}");
    DocumentedRoutes::new::<Rejection>(
        "support",
        "A customer desk: visitors write to the agents of an organisation.",
    )
    .route_with_slash(
        &path("room-control"),
        [post("Returns the visitor's open room, and creates it if there is none", visit)],
    )
    .route_with_slash(
        &path("room-service"),
        [
            get("Returns a room or its messages; with a body, can close the room", read),
            post("Sends a message, or closes the room", write),
            delete("Closes the room", close),
        ],
    )
    .route_with_slash(&path("room-list"), [get("Lists an organisation's open rooms. For agents", list)])
}

type QueryResult<T> = Result<Query<T>, QueryRejection>;

fn require_query<T>(query: QueryResult<T>) -> Result<T, Error> {
    query.map(|Query(query)| query).map_err(|_| Error::bad_request("The query is malformed."))
}

async fn visit(
    State(api): State<Arc<CommandState>>,
    Sender(guest): Sender,
    unkeyed: NoIdempotencyKey,
    body: UntypedJson<wire::NewRoom>,
) -> Result<WithVisitorPass<Json<Answer<wire::Room>>>, Rejection> {
    let wire::NewRoom { user_id: user, org_id, portfolio_name, product_name } = body.parse()?;
    let visit = SupportVisit { user, org_id, portfolio_name, product_name };
    let (room, pass) = support::get_or_create_room(&api, &guest, visit, &unkeyed.request_context()).await?;
    let inserted_id = Some(room.secret.clone());
    let answer = Answer { inserted_id, ..encode::answer("Room filter successfully", encode::room(room)) };
    Ok(WithVisitorPass(pass, Json(answer)))
}

/// Answers a room or its messages, or closes the room. Closing needs `delete_room` in the body: in the query alone
/// it is refused, so that following a link closes nothing.
async fn read(
    State(api): State<Arc<CommandState>>,
    Sender(guest): Sender,
    key: IdempotencyKey,
    query: QueryResult<ServiceQuery>,
    body: UntypedJson<ServiceQuery>,
) -> Result<Json<wire::ServiceAnswer>, Rejection> {
    let body: ServiceQuery = body.parse_or_default()?;
    let in_body = body.kind.is_some();
    let query = decode::merge_query(body, require_query(query)?);
    match query.kind.as_deref() {
        Some("get_messages") => {
            let before = query.before.as_deref().map(decode::parse_message_id).transpose()?;
            let (room, page) = support::history(&api, decode::require_room_key(&query)?, before).await?;
            Ok(Json(wire::ServiceAnswer::Messages(encode::messages(ROOM_DETAILS_TEXT, room, page)?)))
        }
        Some("get_room_by_id") => {
            let room = support::show(&api, decode::require_room_key(&query)?).await?;
            Ok(Json(wire::ServiceAnswer::Rooms(encode::answer(ROOM_DETAILS_TEXT, [encode::room(room)]))))
        }
        Some("delete_room") if in_body => {
            let Json(done) = close_room(&api, &guest, &query, &key.request_context()).await?;
            Ok(Json(wire::ServiceAnswer::Done(done)))
        }
        _ => {
            let detail = "type: must be get_messages or get_room_by_id, or in a body delete_room.";
            Err(Error::bad_request(detail).into())
        }
    }
}

async fn write(
    State(api): State<Arc<CommandState>>,
    Sender(guest): Sender,
    key: IdempotencyKey,
    body: UntypedJson<wire::Write>,
) -> Result<Json<Answer<Done>>, Rejection> {
    let query: ServiceQuery = body.parse()?;
    match query.kind.as_deref() {
        Some("create_message") => {
            let wire::NewMessage { room_id, message_data: text, side, auther, message_type } =
                body.parse()?;
            let message = NewSupportMessage { text, side, auther, message_type };
            support::send_message(&api, &guest, &room_id, message, &key.request_context()).await?;
            Ok(Json(encode::done("Message updated successfully")))
        }
        Some("delete_room") => close_room(&api, &guest, &query, &key.request_context()).await,
        _ => Err(Error::bad_request("type: must be create_message or delete_room.").into()),
    }
}

async fn close(
    State(api): State<Arc<CommandState>>,
    Sender(guest): Sender,
    key: IdempotencyKey,
    query: QueryResult<ServiceQuery>,
    body: UntypedJson<ServiceQuery>,
) -> Result<Json<Answer<Done>>, Rejection> {
    let query = decode::merge_query(body.parse_or_default()?, require_query(query)?);
    if query.kind.as_deref().is_some_and(|kind| kind != "delete_room") {
        return Err(Error::bad_request("type: must be delete_room.").into());
    }
    close_room(&api, &guest, &query, &key.request_context()).await
}

async fn close_room(
    api: &CommandState,
    guest: &SupportCaller,
    query: &ServiceQuery,
    request: &RequestContext<'_>,
) -> Result<Json<Answer<Done>>, Rejection> {
    support::close(api, guest, decode::require_close(query)?, request).await?;
    Ok(Json(encode::done("Room deleted successfully")))
}

async fn list(
    State(api): State<Arc<CommandState>>,
    Sender(guest): Sender,
    query: QueryResult<wire::ListQuery>,
) -> Result<Json<wire::Rooms>, Rejection> {
    let wire::ListQuery { org_id, product_name, cursor } = require_query(query)?;
    let before = cursor.as_deref().map(decode::parse_cursor).transpose()?;
    let listed = support::list(&api, guest.caller.as_ref(), &org_id, &product_name, before).await?;
    Ok(Json(encode::rooms(listed)?))
}
