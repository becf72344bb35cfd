//! Writes errors with the texts of Django REST Framework.

use axum::{
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::error::{Error, ErrorCode};
use serde::Serialize;
use serde_json::Value;

use super::wire;
use crate::documents::{self, SchemaSet};

/// An error response of the topics dialect.
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

    /// An error with a single sentence, `{"detail": "…"}`.
    pub(super) fn with_detail(status: StatusCode, detail: &str) -> Self {
        Self::new(status, &wire::Refused { detail })
    }

    /// 400: the errors of each field.
    pub(super) fn invalid(fields: &wire::Invalid) -> Self {
        Self::new(StatusCode::BAD_REQUEST, fields)
    }

    /// 400: an error of the body as a whole.
    pub(super) fn invalid_whole(reason: &str) -> Self {
        let reason = Some(vec![reason.to_owned()]);
        Self::invalid(&wire::Invalid { non_field_errors: reason, ..wire::Invalid::default() })
    }

    /// 400: another chat of the category has this title.
    pub(super) fn title_taken() -> Self {
        Self::invalid_whole("The fields room, title must make a unique set.")
    }

    /// 400: the category does not exist.
    pub(super) fn wrong_room() -> Self {
        Self::new(StatusCode::BAD_REQUEST, &wire::WrongRoom { error: "wrong room" })
    }

    /// 404: the page does not exist.
    pub(super) fn page_not_found() -> Self {
        Self::with_detail(StatusCode::NOT_FOUND, "Invalid page.")
    }

    /// 401: a token is needed.
    pub(super) fn token_missing() -> Self {
        Self::with_detail(StatusCode::UNAUTHORIZED, "Authentication credentials were not provided.")
    }

    /// 401: the `Authorization` header is not a scheme and a token.
    pub(super) fn bad_header() -> Self {
        let detail = "Authorization header must contain two space-delimited values";
        Self::new(StatusCode::UNAUTHORIZED, &wire::BadHeader { detail, code: "bad_authorization_header" })
    }

    /// 401: the token is not valid.
    fn bad_token(message: &str) -> Self {
        let message = wire::TokenMessage { token_class: "AccessToken", token_type: "access", message };
        let detail = "Given token not valid for any token type";
        let body = wire::BadToken { detail, code: "token_not_valid", messages: [message] };
        Self::new(StatusCode::UNAUTHORIZED, &body)
    }

    /// 415: the dialect does not parse bodies of this media type.
    pub(super) fn unsupported_media_type(media_type: &str) -> Self {
        let detail = format!("Unsupported media type \"{media_type}\" in request.");
        Self::with_detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, &detail)
    }

    /// 400: the body does not parse as `form`.
    pub(super) fn unreadable(form: &str, reason: &str) -> Self {
        Self::with_detail(StatusCode::BAD_REQUEST, &format!("{form} parse error - {reason}"))
    }

    /// 413: the body is too long.
    pub(super) fn too_large() -> Self {
        Self::with_detail(StatusCode::PAYLOAD_TOO_LARGE, "Request body is too large.")
    }

    /// 405: the path does not take this method.
    pub(super) fn method_not_allowed(method: &Method) -> Self {
        Self::with_detail(StatusCode::METHOD_NOT_ALLOWED, &format!("Method \"{method}\" not allowed."))
    }

    /// The error with its usual status and text; a rate limit has the framework's text.
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
            // The dialect's document has 400 here.
            ErrorCode::Forbidden => Self::with_detail(StatusCode::BAD_REQUEST, &error.detail),
            ErrorCode::Unauthorized => Self::bad_token(&error.detail),
            _ => Self::from_error(&error),
        }
    }
}

/// The response to an error outside the dialect's handlers: an unknown path, a limit, a timeout.
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
