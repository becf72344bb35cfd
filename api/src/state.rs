//! Holds the state that handlers of HTTP requests name in parts: each takes only what it uses.

use std::sync::Arc;

use axum::extract::FromRef;
use service::{origin::OriginArgs, rate::AddressArgs, token::TokenVerifier};

use crate::{commands::state::CommandState, config::TokenUse, limits::ApiLimits, pictures::PictureStore};

/// The state of the routes, cheap to clone.
#[derive(Clone, FromRef)]
pub(crate) struct ApiState {
    /// The state that commands and queries use.
    pub(crate) commands: Arc<CommandState>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) dialects: Arc<DialectSettings>,
    pub(crate) pictures: Arc<PictureStore>,
}

/// Checks tokens, origins and limits of a request, before a command gets it.
pub(crate) struct Gate {
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) origins: OriginArgs,
    pub(crate) client_address_args: AddressArgs,
    pub(crate) limits: Arc<ApiLimits>,
}

/// Settings that only dialects use.
pub(crate) struct DialectSettings {
    /// Account balance below which direct rooms show `is_low_account`.
    pub(crate) low_account: f64,
    /// Whether requests to the support dialect need a token.
    pub(crate) support_tokens: TokenUse,
    /// The categories of topics.
    pub(crate) topic_categories: Vec<String>,
}
