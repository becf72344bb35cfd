//! Tokens of the host application: read, never issued, except for trials and tests.
//!
//! What must hold: only algorithms that the configuration names count, `none` never; the key
//! decides the algorithm, not the token. Expiry has no leeway. No token is ever logged.

mod claims;
mod jwks;

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use axum::http::{HeaderMap, header};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode_header, errors::ErrorKind,
};

use claims::Claims;
pub use claims::Identity;
use jwks::Jwks;

use crate::lifecycle::Shutdown;

/// The shortest secret that counts, in bytes: as long as what HS256 makes of it.
const SECRET_MIN: usize = 32;
/// The longest token that is looked at, in bytes.
const TOKEN_MAX: usize = 8 << 10;

/// Whose tokens count.
#[derive(Clone, clap::Args)]
pub struct TokenArgs {
    /// The secret of HS256 tokens, at least 32 bytes.
    #[arg(long, env = "ROOMCAST_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,
    /// Public keys for RS256, ES256 and EdDSA tokens: a JWKS file, or its http(s) address.
    #[arg(long, env = "ROOMCAST_JWT_JWKS")]
    pub jwt_jwks: Option<String>,
}

impl std::fmt::Debug for TokenArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenArgs").field("jwt_jwks", &self.jwt_jwks).finish_non_exhaustive()
    }
}

/// Why a token does not count. It tells its holder no more than a library would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token, not signed by a key we know, or without a claim that is needed.
    #[error("Token is invalid")]
    Invalid,
    /// It was valid.
    #[error("Token is expired")]
    Expired,
    /// Not an access token.
    #[error("Token has wrong type")]
    WrongType,
}

/// Checks tokens.
#[derive(Debug)]
pub struct Verifier {
    secret: Option<DecodingKey>,
    jwks: Option<Arc<Jwks>>,
}

impl Verifier {
    /// Reads the keys; those of an address are refreshed until the soft stop.
    ///
    /// # Errors
    /// Names the variable that is missing or wrong.
    pub async fn start(args: &TokenArgs, shutdown: &Shutdown) -> anyhow::Result<Arc<Self>> {
        let secret = match args.jwt_secret.as_deref() {
            None | Some("") => None,
            Some(secret) if secret.len() < SECRET_MIN => {
                bail!("ROOMCAST_JWT_SECRET must have at least {SECRET_MIN} bytes")
            }
            Some(secret) => Some(DecodingKey::from_secret(secret.as_bytes())),
        };
        let jwks = match args.jwt_jwks.as_deref() {
            None | Some("") => None,
            Some(source) => Some(Jwks::start(source, shutdown).await.context("ROOMCAST_JWT_JWKS")?),
        };
        if secret.is_none() && jwks.is_none() {
            bail!("set ROOMCAST_JWT_SECRET or ROOMCAST_JWT_JWKS: without either no token counts");
        }
        Ok(Arc::new(Self { secret, jwks }))
    }

    /// Who a token names.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        if token.len() > TOKEN_MAX {
            return Err(TokenError::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        match header.alg {
            Algorithm::HS256 => {
                let key = self.secret.as_ref().ok_or(TokenError::Invalid)?;
                check(token, key, Algorithm::HS256)
            }
            Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA => {
                let jwks = self.jwks.as_ref().ok_or(TokenError::Invalid)?;
                let (algorithm, key) =
                    jwks.key(header.kid.as_deref(), header.alg).ok_or(TokenError::Invalid)?;
                check(token, &key, algorithm)
            }
            _ => Err(TokenError::Invalid),
        }
    }
}

fn check(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Identity, TokenError> {
    let mut validation = Validation::new(algorithm);
    validation.leeway = 0;
    validation.validate_nbf = true;
    validation.validate_aud = false;
    validation.set_required_spec_claims(&["exp"]);
    let data =
        jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            _ => TokenError::Invalid,
        })?;
    data.claims.identity()
}

/// The secret that is given, or the one that `deploy/up` keeps in its data folder.
///
/// # Errors
/// Where there is neither.
pub fn kept_secret(given: Option<&str>, data: &Path) -> anyhow::Result<String> {
    if let Some(secret) = given {
        return Ok(secret.to_owned());
    }
    let file = data.join("secrets/jwt");
    let secret = std::fs::read_to_string(&file).with_context(|| {
        format!("ROOMCAST_JWT_SECRET is not set, and there is no secret in {}", file.display())
    })?;
    Ok(secret.trim_end().to_owned())
}

/// Signs claims with HS256: for `roomcast token` and for tests.
///
/// # Errors
/// When the claims can't be written as JSON.
pub fn sign(secret: &str, claims: &serde_json::Value) -> anyhow::Result<String> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)?)
}

/// The token of a request: `Authorization: Bearer|Token|JWT <jwt>`, `?token=<jwt>`, or the
/// subprotocol pair `bearer, <jwt>`, for browsers can't set a header on a socket.
#[must_use]
pub fn token_from(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    if let Some(authorization) = text(header::AUTHORIZATION) {
        let (scheme, token) = authorization.trim().split_once(' ')?;
        let known = ["bearer", "token", "jwt"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        return known.then(|| token.trim().to_owned());
    }
    let mut pairs = query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    if let Some((_, token)) = pairs.find(|(name, _)| *name == "token") {
        return Some(token.to_owned());
    }
    let mut protocols = text(header::SEC_WEBSOCKET_PROTOCOL)?.split(',').map(str::trim);
    protocols.find(|protocol| protocol.eq_ignore_ascii_case("bearer"))?;
    protocols.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::{Value, json};

    use super::*;
    use crate::id::UserId;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    async fn verifier() -> Arc<Verifier> {
        let args = TokenArgs { jwt_secret: Some(SECRET.to_owned()), jwt_jwks: None };
        Verifier::start(&args, &Shutdown::default()).await.expect("a secret of 32 bytes")
    }

    fn claims(more: &Value) -> Value {
        let mut claims = json!({ "user_id": 7, "exp": jsonwebtoken::get_current_timestamp() + 60 });
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    }

    async fn verify(more: &Value) -> Result<Identity, TokenError> {
        verifier().await.verify(&sign(SECRET, &claims(more)).expect("JSON"))
    }

    #[tokio::test]
    async fn the_host_applications_token_counts() {
        let identity =
            verify(&json!({ "is_staff": true, "username": "Ann", "iat": 5 })).await.expect("valid");
        assert_eq!(identity.caller.user.as_str(), "7");
        assert!(identity.caller.is_admin);
        assert_eq!(identity.person.username.as_deref(), Some("Ann"));
        assert_eq!(identity.issued_at, Some(5));
    }

    #[tokio::test]
    async fn what_is_wrong_does_not_count() {
        let invalid = TokenError::Invalid;
        for (more, error) in [
            (json!({ "exp": 1 }), TokenError::Expired),
            (json!({ "exp": null }), invalid),
            (json!({ "user_id": "a b" }), invalid),
            (json!({ "user_id": "visitor:7" }), invalid),
            (json!({ "token_type": "refresh" }), TokenError::WrongType),
        ] {
            assert_eq!(verify(&more).await, Err(error), "{more}");
        }
        let forged = sign("another secret of more than 32 bytes", &claims(&json!({}))).expect("JSON");
        assert_eq!(verifier().await.verify(&forged), Err(invalid));
        // {"alg":"none","typ":"JWT"} . {"user_id":7,"exp":9999999999} .
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJ1c2VyX2lkIjo3LCJleHAiOjk5OTk5OTk5OTl9.";
        for bad in [none, "", "a.b.c", &"x".repeat(TOKEN_MAX + 1)] {
            assert_eq!(verifier().await.verify(bad), Err(invalid), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_start_without_keys_names_the_variables() {
        let none = TokenArgs { jwt_secret: None, jwt_jwks: None };
        let error = Verifier::start(&none, &Shutdown::default()).await.expect_err("no keys").to_string();
        assert!(error.contains("ROOMCAST_JWT_SECRET") && error.contains("ROOMCAST_JWT_JWKS"), "{error}");
        let short = TokenArgs { jwt_secret: Some("short".to_owned()), jwt_jwks: None };
        assert!(Verifier::start(&short, &Shutdown::default()).await.is_err());
    }

    #[test]
    fn a_token_comes_in_three_ways() {
        let headers =
            |name, value: &'static str| HeaderMap::from_iter([(name, value.parse().expect("a header"))]);
        for scheme in ["Bearer t", "Token t", "JWT t", "bearer  t"] {
            let headers = headers(header::AUTHORIZATION, Box::leak(scheme.to_owned().into_boxed_str()));
            assert_eq!(token_from(&headers, None).as_deref(), Some("t"));
        }
        assert_eq!(token_from(&headers(header::AUTHORIZATION, "Basic t"), None), None);
        assert_eq!(token_from(&HeaderMap::new(), Some("a=b&token=t")).as_deref(), Some("t"));
        let pair = headers(header::SEC_WEBSOCKET_PROTOCOL, "bearer, t");
        assert_eq!(token_from(&pair, None).as_deref(), Some("t"));
        assert_eq!(token_from(&HeaderMap::new(), None), None);
    }

    /// A claim of any form.
    fn claim() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            vec(".*", 0..3).prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn any_claims_name_somebody_or_nobody(name in "exp|iat|nbf|user_id|sub|token_type|is_admin|username|business|org_id|aud", claim in claim()) {
            let key = DecodingKey::from_secret(SECRET.as_bytes());
            let verifier = Verifier { secret: Some(key), jwks: None };
            if let Ok(identity) = verifier.verify(&sign(SECRET, &claims(&json!({ name: claim }))).expect("JSON")) {
                prop_assert!(!identity.caller.user.as_str().starts_with(UserId::VISITOR));
                prop_assert!(crate::rules::person(&identity.person).is_ok(), "{:?}", identity.person);
            }
        }

        #[test]
        fn any_text_is_no_token(text in prop_oneof![".*", "[A-Za-z0-9_-]{0,40}[.][A-Za-z0-9_-]{0,40}[.][A-Za-z0-9_-]{0,40}"], bytes in vec(32..255_u8, 0..60)) {
            let verifier = Verifier { secret: Some(DecodingKey::from_secret(SECRET.as_bytes())), jwks: None };
            prop_assert_eq!(verifier.verify(&text), Err(TokenError::Invalid));
            for name in [header::AUTHORIZATION, header::SEC_WEBSOCKET_PROTOCOL] {
                if let Ok(value) = axum::http::HeaderValue::from_bytes(&bytes) {
                    let _ = token_from(&HeaderMap::from_iter([(name, value)]), Some(&text));
                }
            }
        }
    }
}
