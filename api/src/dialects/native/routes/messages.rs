//! Messages, over HTTP.

use axum::{extract::State, response::NoContent};
use protocol::error::Error;

use super::{Answer, Created, Queried, query};
use crate::{
    commands::state::Api,
    commands::{
        self,
        messages::{self, SenderAccess},
    },
    dialects::native::{
        decode::{self, Asked},
        encode,
        errors::Problem,
        extract::{Caller, IdempotencyKey, InRoom, Json, OfMessage},
        pages, wire,
    },
    page::{self, HTTP_MAX_BYTES},
    queries::search::SearchQuery,
};

pub(super) async fn send(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
    key: IdempotencyKey,
    Json(body): Json<wire::NewMessage>,
) -> Result<Created<wire::Message>, Problem> {
    let request = key.request();
    let send = messages::NewMessage {
        room,
        text: &body.message,
        client_id: body.client_id.as_deref().or(request.key),
        request: &request,
        access: SenderAccess::Unknown,
        detail: None,
    };
    Ok(Created(encode::sent(messages::send(&api, &caller, send).await?)))
}

pub(super) async fn history(
    State(api): State<Api>,
    Caller(caller): Caller,
    InRoom(room): InRoom,
    asked: Queried<wire::HistoryQuery>,
) -> Answer<wire::History> {
    let asked = query(asked)?;
    let limit = decode::limit(asked.limit.as_deref())?;
    match decode::history(&asked)? {
        Asked::Page(page) => {
            let found = messages::history(&api, &caller, room, page, limit).await?;
            let page = pages::history(room, page, found, limit, HTTP_MAX_BYTES)?;
            Ok(axum::Json(wire::History::Page(page)))
        }
        Asked::Changes(place) => {
            let found = messages::changes(&api, &caller, room, place, limit).await?;
            let page = pages::changes(room, found, limit, HTTP_MAX_BYTES)?;
            Ok(axum::Json(wire::History::Changes(page)))
        }
    }
}

pub(super) async fn search(
    State(api): State<Api>,
    Caller(caller): Caller,
    asked: Queried<wire::SearchQuery>,
) -> Answer<wire::FoundPage> {
    let asked = query(asked)?;
    let room = asked.room.as_deref().map(str::parse).transpose();
    let query = SearchQuery {
        words: &asked.q,
        room: room.map_err(|_| Error::bad_request("room: must be a room's id."))?,
        after: asked.cursor.as_deref().map(decode::found).transpose()?,
        limit: decode::limit(asked.limit.as_deref())?,
    };
    let (found, next) = commands::search::search(&api, &caller, query).await?;
    let messages = found.messages.into_iter().map(|(room, message)| encode::message(room, message));
    let fitted = page::fit_page(messages, HTTP_MAX_BYTES)?;
    let last = fitted.entries.last().map(|last| (last.created_at, last.room, last.id));
    let next = if fitted.is_cut { last } else { next };
    let page = wire::Page { results: fitted.entries, next: next.map(decode::write_found) };
    Ok(axum::Json(wire::FoundPage { page, indexed_through: found.through }))
}

pub(super) async fn edit(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfMessage(room, message): OfMessage,
    key: IdempotencyKey,
    Json(body): Json<wire::NewText>,
) -> Answer<wire::Edited> {
    let (edit, changed) = messages::edit(&api, &caller, room, message, &body.message, &key.request()).await?;
    let applied = api.has_applied(changed).await;
    Ok(axum::Json(wire::Edited {
        id: edit.message_id,
        room: edit.room,
        user: edit.user,
        message: edit.message,
        edited_at: edit.edited_at,
        applied: encode::applied(applied),
    }))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfMessage(room, message): OfMessage,
    key: IdempotencyKey,
) -> Result<NoContent, Problem> {
    let (_, changed) = messages::delete(&api, &caller, room, vec![message], &key.request()).await?;
    api.has_applied(changed).await;
    Ok(NoContent)
}
