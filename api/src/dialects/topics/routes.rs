//! Declares the topics dialect's routes, with the trailing slash of the dialect's document. Without the slash a
//! `GET` is redirected, and a write is served, since clients drop the body when they follow a redirect.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{DefaultBodyLimit, Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use protocol::{error::Error, id::RoomId};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::{
    decode, encode,
    errors::Rejection,
    extract::{Authenticated, BaseUrl, CategoryPath, IdempotencyKey, LazyForm, OptionalCaller, PageQuery},
    wire,
};
use crate::{
    commands::state::CommandState,
    commands::topics,
    dialects::path::PathIds,
    documents::{DocumentedInput, DocumentedOutput, DocumentedRoutes, OperationBuilder, get, patch, post},
    pictures::{PictureName, PictureStore},
    state::DialectSettings,
};

/// Maximum bytes of a body. A picture above its own limit gets an error of its field, if the body is below this.
const BODY_MAX_BYTES: usize = 32 << 20;
/// `Cache-Control` of an uploaded picture, which never changes under its name.
const CACHE_FOREVER: &str = "public, max-age=31536000, immutable";
/// `Cache-Control` of the default picture, which a new version may change.
const CACHE_ONE_DAY: &str = "public, max-age=86400";
const DEFAULT_PICTURE: &[u8] = include_bytes!("default.png");

/// All routes of the dialect.
pub(crate) fn routes() -> DocumentedRoutes {
    let limit = DefaultBodyLimit::max(BODY_MAX_BYTES);
    let create = || post("Creates a chat", create).body_limit(limit);
    let slash = || get("Redirects to the address with a trailing slash", redirect_to_slash);
    DocumentedRoutes::new::<Rejection>("topics", "Public chats in categories, with pictures.")
        .route("/api/chat/", [create()])
        .route("/api/chat", [slash(), create()])
        .route("/api/chat/{room}/", [get("Lists a category's chats", list)])
        .route("/api/chat/{room}", [slash()])
        .route(
            "/api/chat/{room}/{id}/",
            [patch("Changes a chat's description. For its creator and admins", change)],
        )
        .route(
            "/api/chat/{room}/{id}",
            [slash(), patch("Changes a chat's description. For its creator and admins", change)],
        )
        .route("/media/chat_img/{name}", [get("Returns a picture", show_picture)])
        .map_router(|router| {
            router.method_not_allowed_fallback(|method: Method| async move {
                Rejection::method_not_allowed(&method)
            })
        })
}

async fn create(
    State(api): State<Arc<CommandState>>,
    State(settings): State<Arc<DialectSettings>>,
    Authenticated(caller): Authenticated,
    key: IdempotencyKey,
    base: BaseUrl,
    form: LazyForm<wire::NewChat>,
) -> Result<axum::Json<wire::Created>, Rejection> {
    let fields = form.read().await?;
    let new_topic = decode::parse_new_chat(fields, &settings.topic_categories, &api.pictures).await?;
    let topic = topics::create(&api, &caller, new_topic, &key.request_context_after_body()).await?;
    let topic = topic.ok_or_else(Rejection::title_taken)?;
    Ok(axum::Json(wire::Created { chat: encode::chat(topic, &base) }))
}

async fn list(
    State(api): State<Arc<CommandState>>,
    _: OptionalCaller,
    CategoryPath(category): CategoryPath,
    base: BaseUrl,
    PageQuery(query): PageQuery,
) -> Result<axum::Json<wire::Page>, Rejection> {
    let pages = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "page");
    let number = decode::parse_page(pages.last().map(|(_, value)| value).as_deref())
        .ok_or_else(Rejection::page_not_found)?;
    let page = topics::list(&api, &category, number).await?.ok_or_else(Rejection::page_not_found)?;
    Ok(axum::Json(encode::page(page, &category, &query, &base)))
}

async fn change(
    State(api): State<Arc<CommandState>>,
    Authenticated(caller): Authenticated,
    PathIds((category, room), ..): PathIds<(String, RoomId), Rejection>,
    key: IdempotencyKey,
    base: BaseUrl,
    form: LazyForm<wire::Change>,
) -> Result<axum::Json<wire::Chat>, Rejection> {
    let topic = topics::require_own_topic(&api, &caller, &category, room).await?;
    let topic = match decode::parse_change(form.read().await?)? {
        Some(description) => {
            topics::update_description(&api, &caller, topic, description, &key.request_context_after_body())
                .await?
        }
        None => topic,
    };
    Ok(axum::Json(encode::chat(topic, &base)))
}

/// Redirects to the path with a trailing slash.
async fn redirect_to_slash(uri: Uri) -> MovedPermanently {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    MovedPermanently(format!("{}/{query}", uri.path()))
}

/// A redirect (301) to this path.
struct MovedPermanently(String);

impl IntoResponse for MovedPermanently {
    fn into_response(self) -> Response {
        (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, self.0)]).into_response()
    }
}

impl DocumentedOutput for MovedPermanently {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.responds(301, "A redirect to the address with a trailing slash.", Value::Null);
    }
}

impl DocumentedInput for Uri {
    fn describe(_: &mut OperationBuilder<'_>) {}
}

impl DocumentedInput for Result<Path<String>, PathRejection> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.path_parameter::<String>();
    }
}

/// The response with a picture.
struct PictureResponse(Response);

impl IntoResponse for PictureResponse {
    fn into_response(self) -> Response {
        self.0
    }
}

impl DocumentedOutput for PictureResponse {
    fn describe(operation: &mut OperationBuilder<'_>) {
        let bytes = json!({ "schema": {} });
        let kinds = ["image/png", "image/jpeg", "image/gif", "image/webp"];
        let content: Value = kinds.into_iter().map(|kind| (kind.to_owned(), bytes.clone())).collect();
        operation.responds(200, "The picture.", content);
        operation.responds(304, "The client's copy is current.", Value::Null);
    }
}

impl DocumentedInput for HeaderMap {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.header_parameter(
            "If-None-Match",
            "The `ETag` values of the pictures that the client has.",
            &json!({ "type": "string" }),
        );
    }
}

/// Serves a picture, with headers that keep browsers from treating it as anything else.
async fn show_picture(
    State(pictures): State<Arc<PictureStore>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<PictureResponse, Rejection> {
    let Path(name) = name.map_err(|_| Error::not_found())?;
    let is_default = name == encode::DEFAULT_PICTURE;
    let known = if is_default { None } else { Some(PictureName::parse(&name).ok_or_else(Error::not_found)?) };
    let tag = match known {
        Some(_) => format!("\"{name}\""),
        None => concat!("\"default-", env!("CARGO_PKG_VERSION"), "\"").to_owned(),
    };
    let cached = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_cached =
        cached.is_some_and(|tags| tags.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = match known {
        _ if is_cached => StatusCode::NOT_MODIFIED.into_response(),
        None => bytes_response("image/png", DEFAULT_PICTURE.len() as u64, DEFAULT_PICTURE.into()),
        Some(name) => {
            let (file, size) = pictures.get(name).await?;
            bytes_response(name.format().content_type(), size, Body::from_stream(ReaderStream::new(file)))
        }
    };
    let fixed: [(HeaderName, &'static str); 3] = [
        (header::CACHE_CONTROL, if is_default { CACHE_ONE_DAY } else { CACHE_FOREVER }),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ];
    let headers = response.headers_mut();
    headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers.extend(HeaderValue::try_from(tag).map(|tag| (header::ETAG, tag)));
    Ok(PictureResponse(response))
}

fn bytes_response(content_type: &'static str, size: u64, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_LENGTH, HeaderValue::from(size)),
    ];
    (headers, body).into_response()
}
