//! The routes, with the slash at their end that the document has. Without it a write is served all the same,
//! since clients lose the body on a redirect; a read is sent to the address with it.

use axum::{
    body::Body,
    extract::{DefaultBodyLimit, Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use protocol::error::Error;
use serde_json::{Value, json};

use super::{
    decode, encode,
    errors::Refusal,
    extract::{Asked, Base, Caller, Form, IdempotencyKey, InCategory, OfChat, Reader},
    wire,
};
use crate::{
    commands::state::Api,
    commands::topics,
    documents::{DocumentedInput, DocumentedOutput, Operation, Routes, get, patch, post},
    media::PictureName,
};

/// The largest body: what is too large for a picture is told so as long as it fits in here.
const BODY_MAX: usize = 32 << 20;
/// A picture never changes under its name.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// The default one may with a new version.
const FOR_A_DAY: &str = "public, max-age=86400";
const DEFAULT_PICTURE: &[u8] = include_bytes!("default.png");

/// All of them.
pub(crate) fn routes() -> Routes {
    let limit = DefaultBodyLimit::max(BODY_MAX);
    let create = || post("Makes a chat", create).limit(limit);
    let slash = || get("Where the address with a slash is", slash);
    Routes::of::<Refusal>("topics", "Public chats in categories, with pictures.")
        .at("/api/chat/", [create()])
        .at("/api/chat", [slash(), create()])
        .at("/api/chat/{room}/", [get("A category's chats", list)])
        .at("/api/chat/{room}", [slash()])
        .at("/api/chat/{room}/{id}/", [patch("Describes a chat, by who made it", change)])
        .at("/api/chat/{room}/{id}", [slash(), patch("Describes a chat, by who made it", change)])
        .at("/media/chat_img/{name}", [get("A picture", picture)])
        .map(|router| {
            router.method_not_allowed_fallback(|method: Method| async move { Refusal::method(&method) })
        })
}

async fn create(
    State(api): State<Api>,
    Caller(caller): Caller,
    key: IdempotencyKey,
    base: Base,
    form: Form<wire::NewChat>,
) -> Result<axum::Json<wire::Created>, Refusal> {
    let make = decode::new_chat(&api, form.read().await?).await?;
    let made = topics::make(&api, &caller, make, &key.request_with_body()).await?;
    let topic = made.ok_or_else(Refusal::taken)?;
    Ok(axum::Json(wire::Created { chat: encode::chat(topic, &base) }))
}

async fn list(
    State(api): State<Api>,
    _: Reader,
    InCategory(category): InCategory,
    base: Base,
    Asked(query): Asked,
) -> Result<axum::Json<wire::Page>, Refusal> {
    let pages = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "page");
    let asked = decode::page(pages.last().map(|(_, value)| value).as_deref()).ok_or_else(Refusal::no_page)?;
    let page = topics::list(&api, &category, asked).await?.ok_or_else(Refusal::no_page)?;
    Ok(axum::Json(encode::page(page, &category, &query, &base)))
}

async fn change(
    State(api): State<Api>,
    Caller(caller): Caller,
    OfChat(category, room): OfChat,
    key: IdempotencyKey,
    base: Base,
    form: Form<wire::Change>,
) -> Result<axum::Json<wire::Chat>, Refusal> {
    let topic = topics::own(&api, &caller, &category, room).await?;
    let topic = match decode::change(form.read().await?)? {
        Some(description) => {
            topics::describe(&api, &caller, topic, description, &key.request_with_body()).await?
        }
        None => topic,
    };
    Ok(axum::Json(encode::chat(topic, &base)))
}

/// Sends to the same address with a slash at its end.
async fn slash(uri: Uri) -> Moved {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Moved(format!("{}/{query}", uri.path()))
}

/// What is asked for is elsewhere.
struct Moved(String);

impl IntoResponse for Moved {
    fn into_response(self) -> Response {
        (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, self.0)]).into_response()
    }
}

impl DocumentedOutput for Moved {
    fn describe(operation: &mut Operation<'_>) {
        operation.answers(301, "It is at the address in `Location`.", Value::Null);
    }
}

impl DocumentedInput for Uri {
    fn describe(_: &mut Operation<'_>) {}
}

impl DocumentedInput for Result<Path<String>, PathRejection> {
    fn describe(operation: &mut Operation<'_>) {
        operation.path::<String>();
    }
}

/// A picture on its way to the client.
struct Picture(Response);

impl IntoResponse for Picture {
    fn into_response(self) -> Response {
        self.0
    }
}

impl DocumentedOutput for Picture {
    fn describe(operation: &mut Operation<'_>) {
        let bytes = json!({ "schema": {} });
        let kinds = ["image/png", "image/jpeg", "image/gif", "image/webp"];
        let content: Value = kinds.into_iter().map(|kind| (kind.to_owned(), bytes.clone())).collect();
        operation.answers(200, "The picture.", content);
        operation.answers(304, "The client has it.", Value::Null);
    }
}

impl DocumentedInput for HeaderMap {
    fn describe(operation: &mut Operation<'_>) {
        operation.header("If-None-Match", "The pictures that the client has.", &json!({ "type": "string" }));
    }
}

/// A picture; nothing that browsers could take for anything else.
async fn picture(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Picture, Refusal> {
    let Path(name) = name.map_err(|_| Error::not_found())?;
    let is_default = name == encode::DEFAULT_PICTURE;
    let known = if is_default { None } else { Some(PictureName::parse(&name).ok_or_else(Error::not_found)?) };
    let tag = match known {
        Some(_) => format!("\"{name}\""),
        None => concat!("\"default-", env!("CARGO_PKG_VERSION"), "\"").to_owned(),
    };
    let kept = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_kept =
        kept.is_some_and(|kept| kept.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = match known {
        _ if is_kept => StatusCode::NOT_MODIFIED.into_response(),
        None => typed("image/png", DEFAULT_PICTURE.len() as u64, DEFAULT_PICTURE.into()),
        Some(name) => {
            let found = api.media.get(name).await?;
            let size = found.meta.size;
            typed(name.form().content_type(), size, Body::from_stream(found.into_stream()))
        }
    };
    let fixed: [(HeaderName, &'static str); 3] = [
        (header::CACHE_CONTROL, if is_default { FOR_A_DAY } else { FOR_EVER }),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ];
    let headers = response.headers_mut();
    headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers.extend(HeaderValue::try_from(tag).map(|tag| (header::ETAG, tag)));
    Ok(Picture(response))
}

fn typed(content_type: &'static str, size: u64, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_LENGTH, HeaderValue::from(size)),
    ];
    (headers, body).into_response()
}
