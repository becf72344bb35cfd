//! The routes: `room-control` for visitors, `room-service` for both sides, `room-list` for agents.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use protocol::error::Error;

use super::{
    PREFIX, decode, encode,
    errors::Refusal,
    extract::{Asker, Body, IdempotencyKey, NoIdempotencyKey, WithPass},
    wire::{self, Answer, Asked, Done},
};
use crate::{
    commands::state::Api,
    commands::{
        request::RequestContext,
        support::{self, NewSupportMessage, SupportCaller, SupportVisit},
    },
    documents::{Routes, delete, get, post},
};

const SHOWN: &str = "Room deatils based on workspace id";

/// All of them.
pub(crate) fn routes() -> Routes {
    let path = |name: &str| format!("{PREFIX}{name}");
    Routes::of::<Refusal>("support", "The customer desk, by organisation and product.")
        .at_both(&path("room-control"), [post("The visitor's room, made where there is none", visit)])
        .at_both(
            &path("room-service"),
            [
                get("A room, its messages, or, with a body, its end", read),
                post("Sends a message, or closes the room", write),
                delete("Closes the room", close),
            ],
        )
        .at_both(&path("room-list"), [get("An organisation's rooms", list)])
}

type Queried<T> = Result<Query<T>, QueryRejection>;

fn query<T>(query: Queried<T>) -> Result<T, Error> {
    query.map(|Query(query)| query).map_err(|_| Error::bad_request("The query is malformed."))
}

async fn visit(
    State(api): State<Api>,
    Asker(guest): Asker,
    unkeyed: NoIdempotencyKey,
    body: Body<wire::NewRoom>,
) -> Result<WithPass<Json<Answer<wire::Room>>>, Refusal> {
    let wire::NewRoom { user_id: user, org_id, portfolio_name, product_name } = body.json()?;
    let visit = SupportVisit { user, org_id, portfolio_name, product_name };
    let (room, pass) = support::visit(&api, &guest, visit, &unkeyed.request()).await?;
    let inserted_id = Some(room.secret.clone());
    let answer = Answer { inserted_id, ..encode::answer("Room filter successfully", encode::room(room)) };
    Ok(WithPass(pass, Json(answer)))
}

/// Reads; and closes a room, where the body says so. An address that is only followed closes nothing.
async fn read(
    State(api): State<Api>,
    Asker(guest): Asker,
    key: IdempotencyKey,
    asked: Queried<Asked>,
    body: Body<Asked>,
) -> Result<Json<wire::Service>, Refusal> {
    let body: Asked = body.if_any()?;
    let in_body = body.kind.is_some();
    let asked = decode::either(body, query(asked)?);
    match asked.kind.as_deref() {
        Some("get_messages") => {
            let before = asked.before.as_deref().map(decode::message).transpose()?;
            let (room, messages, has_more) = support::history(&api, decode::room(&asked)?, before).await?;
            Ok(Json(wire::Service::Messages(encode::messages(SHOWN, room, messages, has_more)?)))
        }
        Some("get_room_by_id") => {
            let room = support::show(&api, decode::room(&asked)?).await?;
            Ok(Json(wire::Service::Rooms(encode::answer(SHOWN, [encode::room(room)]))))
        }
        Some("delete_room") if in_body => {
            let Json(done) = end(&api, &guest, &asked, &key.request()).await?;
            Ok(Json(wire::Service::Done(done)))
        }
        _ => {
            let detail = "type: must be get_messages or get_room_by_id, or in a body delete_room.";
            Err(Error::bad_request(detail).into())
        }
    }
}

async fn write(
    State(api): State<Api>,
    Asker(guest): Asker,
    key: IdempotencyKey,
    body: Body<wire::Write>,
) -> Result<Json<Answer<Done>>, Refusal> {
    let asked: Asked = body.json()?;
    match asked.kind.as_deref() {
        Some("create_message") => {
            let wire::NewMessage { room_id, message_data: text, side, auther, message_type } = body.json()?;
            let said = NewSupportMessage { text, side, auther, message_type };
            support::say(&api, &guest, &room_id, said, &key.request()).await?;
            Ok(Json(encode::done("Message updated successfully")))
        }
        Some("delete_room") => end(&api, &guest, &asked, &key.request()).await,
        _ => Err(Error::bad_request("type: must be create_message or delete_room.").into()),
    }
}

async fn close(
    State(api): State<Api>,
    Asker(guest): Asker,
    key: IdempotencyKey,
    asked: Queried<Asked>,
    body: Body<Asked>,
) -> Result<Json<Answer<Done>>, Refusal> {
    let asked = decode::either(body.if_any()?, query(asked)?);
    if asked.kind.as_deref().is_some_and(|kind| kind != "delete_room") {
        return Err(Error::bad_request("type: must be delete_room.").into());
    }
    end(&api, &guest, &asked, &key.request()).await
}

async fn end(
    api: &Api,
    guest: &SupportCaller,
    asked: &Asked,
    request: &RequestContext<'_>,
) -> Result<Json<Answer<Done>>, Refusal> {
    support::close(api, guest, decode::to_close(asked)?, request).await?;
    Ok(Json(encode::done("Room deleted successfully")))
}

async fn list(
    State(api): State<Api>,
    Asker(guest): Asker,
    asked: Queried<wire::ListQuery>,
) -> Result<Json<wire::Rooms>, Refusal> {
    let wire::ListQuery { org_id, product_name, cursor } = query(asked)?;
    let before = cursor.as_deref().map(decode::cursor).transpose()?;
    let listed = support::list(&api, guest.caller.as_ref(), &org_id, &product_name, before).await?;
    Ok(Json(encode::rooms(listed)?))
}
