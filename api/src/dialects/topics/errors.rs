//! Writes refusals in the framework's words.

use axum::{
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::error::{Error, ErrorCode};
use serde::Serialize;
use serde_json::Value;

use super::wire;
use crate::documents::{self, SchemaSet};

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) struct Rejection {
    status: StatusCode,
    body: String,
    retry_after: Option<u32>,
}

impl Rejection {
    fn new(status: StatusCode, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).expect("text keys and no failing serializer");
        Self { status, body, retry_after: None }
    }

    /// One sentence.
    pub(super) fn with_detail(status: StatusCode, detail: &str) -> Self {
        Self::new(status, &wire::Refused { detail })
    }

    /// What is wrong with the fields.
    pub(super) fn invalid(fields: &wire::Invalid) -> Self {
        Self::new(StatusCode::BAD_REQUEST, fields)
    }

    /// What is wrong with all of it.
    pub(super) fn invalid_whole(reason: &str) -> Self {
        let reason = Some(vec![reason.to_owned()]);
        Self::invalid(&wire::Invalid { non_field_errors: reason, ..wire::Invalid::default() })
    }

    /// Another chat of the category has that title.
    pub(super) fn title_taken() -> Self {
        Self::invalid_whole("The fields room, title must make a unique set.")
    }

    /// There is no such category.
    pub(super) fn wrong_room() -> Self {
        Self::new(StatusCode::BAD_REQUEST, &wire::WrongRoom { error: "wrong room" })
    }

    /// There is no such page.
    pub(super) fn page_not_found() -> Self {
        Self::with_detail(StatusCode::NOT_FOUND, "Invalid page.")
    }

    /// A token is needed.
    pub(super) fn token_missing() -> Self {
        Self::with_detail(StatusCode::UNAUTHORIZED, "Authentication credentials were not provided.")
    }

    /// The header is not a scheme and a token.
    pub(super) fn bad_header() -> Self {
        let detail = "Authorization header must contain two space-delimited values";
        Self::new(StatusCode::UNAUTHORIZED, &wire::BadHeader { detail, code: "bad_authorization_header" })
    }

    /// The token does not count.
    fn bad_token(message: &str) -> Self {
        let message = wire::TokenMessage { token_class: "AccessToken", token_type: "access", message };
        let detail = "Given token not valid for any token type";
        let body = wire::BadToken { detail, code: "token_not_valid", messages: [message] };
        Self::new(StatusCode::UNAUTHORIZED, &body)
    }

    /// The body is of a form that is not read here.
    pub(super) fn unsupported_media_type(media_type: &str) -> Self {
        let detail = format!("Unsupported media type \"{media_type}\" in request.");
        Self::with_detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, &detail)
    }

    /// The body is not what it says it is.
    pub(super) fn unreadable(form: &str, reason: &str) -> Self {
        Self::with_detail(StatusCode::BAD_REQUEST, &format!("{form} parse error - {reason}"))
    }

    /// The body has more bytes than are read.
    pub(super) fn too_large() -> Self {
        Self::with_detail(StatusCode::PAYLOAD_TOO_LARGE, "Request body is too large.")
    }

    /// The address does not take that method.
    pub(super) fn method_not_allowed(method: &Method) -> Self {
        Self::with_detail(StatusCode::METHOD_NOT_ALLOWED, &format!("Method \"{method}\" not allowed."))
    }

    /// As it is, but that one status.
    fn from_error(error: &Error) -> Self {
        let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = error.retry_after();
        let detail = match (error.code, retry_after) {
            (ErrorCode::RateLimited, Some(seconds)) => {
                let unit = if seconds == 1 { "second" } else { "seconds" };
                format!("Request was throttled. Expected available in {seconds} {unit}.")
            }
            _ => error.detail.clone(),
        };
        Self { retry_after, ..Self::with_detail(status, &detail) }
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        match error.code {
            // The document's own status.
            ErrorCode::Forbidden => Self::with_detail(StatusCode::BAD_REQUEST, &error.detail),
            ErrorCode::Unauthorized => Self::bad_token(&error.detail),
            _ => Self::from_error(&error),
        }
    }
}

/// A refusal that comes before any route, or beside it.
pub(crate) fn rejection_response(error: &Error) -> Response {
    Rejection::from_error(error).into_response()
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(<Self as documents::DocumentedRejection>::CONTENT_TYPE),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="api""#));
        }
        response
    }
}

impl documents::DocumentedRejection for Rejection {
    const CONTENT_TYPE: &str = "application/json";

    fn schema(schemas: &mut SchemaSet) -> Value {
        schemas.response_schema::<wire::Refusal<'_>>()
    }
}
