//! Defines the closed set of error codes. Every dialect maps it once to its own form.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($(#[doc = $doc:literal] $variant:ident = $status:literal $name:literal,)*) => {
        /// What went wrong, by what a client can do about it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $(#[doc = $doc] $variant,)*
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status, which sockets answer as `response_status`.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// What the code means, for clients.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

codes! {
    /// The request is malformed.
    BadRequest = 400 "bad_request",
    /// There is no token, or it is not accepted.
    Unauthorized = 401 "unauthorized",
    /// The caller is known, but not allowed to do this.
    Forbidden = 403 "forbidden",
    /// It does not exist, or this person may not know of it.
    NotFound = 404 "not_found",
    /// There is no such action.
    MethodNotAllowed = 405 "method_not_allowed",
    /// The state does not allow it: the room is closed, or the invitation is answered already.
    Conflict = 409 "conflict",
    /// The request took too long to arrive.
    RequestTimeout = 408 "request_timeout",
    /// The request, or the answer to it, is larger than allowed.
    TooLarge = 413 "too_large",
    /// The body is not JSON.
    UnsupportedMediaType = 415 "unsupported_media_type",
    /// The address needs another protocol, which the answer's `Upgrade` names.
    UpgradeRequired = 426 "upgrade_required",
    /// The same key was used before for another request.
    KeyReused = 422 "key_reused",
    /// The rate limit is exceeded: try again later.
    RateLimited = 429 "rate_limited",
    /// A defect of the server: details are in its log.
    Internal = 500 "internal",
    /// The request is not stored, and never will be: try again.
    NotStored = 503 "not_stored",
    /// The request may be stored: try again under the same key.
    OutcomeUnknown = 503 "outcome_unknown",
    /// A part that is needed for the answer is not available now.
    Unavailable = 503 "unavailable",
}

impl<'de> Deserialize<'de> for ErrorCode {
    /// Reads a code that only a later version knows as `internal`; the text says what it means.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::ALL.iter().copied().find(|code| code.as_str() == name).unwrap_or(Self::Internal))
    }
}

/// A refusal with its reason, safe to show to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Error {
    /// What went wrong.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub detail: String,
    /// Seconds after which a retry may succeed, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u32>,
}

impl Error {
    /// Creates an error without `wait`.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), wait: None }
    }

    /// The request is malformed.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, detail)
    }

    /// The thing does not exist, or the caller may not know of it: the answer is the same.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "Not found.")
    }

    /// The request has no token, and needs one.
    #[must_use]
    pub fn token_needed() -> Self {
        Self::new(ErrorCode::Unauthorized, "A token is needed.")
    }

    /// The caller is not allowed to do this.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::new(ErrorCode::Forbidden, "You do not have permission to perform this action.")
    }

    /// The caller has exceeded a rate limit, for this long.
    #[must_use]
    pub fn rate_limited(wait: std::time::Duration) -> Self {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let detail = format!("That is too often. Try again in {seconds} s.");
        Self { wait: Some(seconds), ..Self::new(ErrorCode::RateLimited, detail) }
    }

    /// A part that is needed for the answer is not available. Logs the cause, which the caller is not shown.
    #[must_use]
    pub fn unavailable(component: &str, cause: &dyn std::fmt::Display) -> Self {
        tracing::warn!(component, %cause, "a part that is needed for an answer is not available");
        Self::new(ErrorCode::Unavailable, format!("{component} is not available now. Try again."))
    }

    /// A defect of the server. Logs the cause, which the caller is not shown.
    #[must_use]
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(
            ErrorCode::Internal,
            "An internal error occurred. The server's log has it under the request id.",
        )
    }

    /// Seconds to wait before a retry, if a retry may succeed.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u32> {
        match self.code.status() {
            429 | 503 if self.wait.is_none() => Some(1),
            _ => self.wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_code_is_written_by_its_name() {
        for code in ErrorCode::ALL {
            let json = serde_json::to_value(code).expect("a code");
            assert_eq!(json, code.as_str());
            assert_eq!(serde_json::from_value::<ErrorCode>(json).expect("a code"), *code);
        }
    }

    #[test]
    fn error_code_of_a_later_version_is_internal_and_keeps_its_text() {
        let later = r#"{"code":"quarantined","detail":"The room is quarantined.","until":7}"#;
        let error: Error = serde_json::from_str(later).expect("an error");
        assert_eq!(error, Error::new(ErrorCode::Internal, "The room is quarantined."));
    }
}
