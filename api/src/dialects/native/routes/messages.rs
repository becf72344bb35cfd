//! Declares the routes of messages.

use std::sync::Arc;

use axum::{extract::State, response::NoContent};
use protocol::{
    error::Error,
    id::{MessageId, RoomId},
};

use super::{Created, JsonResult, QueryResult, require_query};
use crate::{
    commands::state::CommandState,
    commands::{
        self,
        messages::{self, SenderAccess},
    },
    dialects::native::{
        decode::{self, HistoryRequest},
        encode,
        errors::Rejection,
        extract::{Authenticated, IdempotencyKey, JsonBody},
        pages, wire,
    },
    dialects::path::PathIds,
    page::{self, HTTP_MAX_BYTES},
    queries::search::SearchQuery,
};

pub(super) async fn send(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<wire::NewMessage>,
) -> Result<Created<wire::Message>, Rejection> {
    let request = key.request_context();
    let send = messages::NewMessage {
        room,
        text: &body.message,
        client_id: body.client_id.as_deref().or(request.idempotency_key),
        request: &request,
        access: SenderAccess::Unchecked,
        detail: None,
    };
    Ok(Created(encode::sent(messages::send(&api, &caller, send).await?)))
}

pub(super) async fn history(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds(room, ..): PathIds<RoomId, Rejection>,
    query: QueryResult<wire::HistoryQuery>,
) -> JsonResult<wire::History> {
    let query = require_query(query)?;
    let limit = decode::parse_limit(query.limit.as_deref())?;
    match decode::parse_history_query(&query)? {
        HistoryRequest::Range(page) => {
            let found = messages::history(&api, &caller, room, page, limit).await?;
            let page = pages::history_page(room, page, found, HTTP_MAX_BYTES)?;
            Ok(axum::Json(wire::History::Page(page)))
        }
        HistoryRequest::Changes(position) => {
            let found = messages::changes(&api, &caller, room, position, limit).await?;
            let page = pages::changes_page(room, found, HTTP_MAX_BYTES)?;
            Ok(axum::Json(wire::History::Changes(page)))
        }
    }
}

pub(super) async fn search(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    query: QueryResult<wire::SearchQuery>,
) -> JsonResult<wire::FoundPage> {
    let query = require_query(query)?;
    let room = query.room.as_deref().map(str::parse).transpose();
    let search_query = SearchQuery {
        words: &query.q,
        room: room.map_err(|_| Error::bad_request("room: must be a room's id."))?,
        after: query.cursor.as_deref().map(decode::decode_search_cursor).transpose()?,
        limit: decode::parse_limit(query.limit.as_deref())?,
    };
    let (found, next) = commands::search::search(&api, &caller, search_query).await?;
    let messages = found.messages.entries.into_iter().map(|(room, message)| encode::message(room, message));
    let fitted = page::fit_page(messages, HTTP_MAX_BYTES)?;
    let last = fitted.entries.last().map(|last| (last.created_at, last.room, last.id));
    let next = if fitted.has_more { last } else { next };
    let page = wire::Page { results: fitted.entries, next: next.map(decode::encode_search_cursor) };
    Ok(axum::Json(wire::FoundPage { page, indexed_through: found.indexed_through }))
}

pub(super) async fn edit(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds((room, message), ..): PathIds<(RoomId, MessageId), Rejection>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<wire::NewText>,
) -> JsonResult<wire::Edited> {
    let (edit, changed) =
        messages::edit(&api, &caller, room, message, &body.message, &key.request_context()).await?;
    let applied = api.wait_until_position_applied(changed).await;
    Ok(axum::Json(wire::Edited {
        id: edit.message_id,
        room: edit.room,
        user: edit.user,
        message: edit.message,
        edited_at: edit.edited_at,
        applied: encode::applied_if_not(applied),
    }))
}

pub(super) async fn delete(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds((room, message), ..): PathIds<(RoomId, MessageId), Rejection>,
    key: IdempotencyKey,
) -> Result<NoContent, Rejection> {
    let (_, changed) = messages::delete(&api, &caller, room, vec![message], &key.request_context()).await?;
    api.wait_until_position_applied(changed).await;
    Ok(NoContent)
}
