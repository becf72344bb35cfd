//! Verifies tokens of the host application; signs tokens only for trials and tests.
//!
//! What must hold: only algorithms of configured keys are accepted, and never `none`; the key determines the algorithm,
//! not the token; a token whose header has critical extensions is refused. Expiry has no leeway. No token is ever
//! logged.

mod cache;
mod claims;
mod jwks;

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use axum::http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode_header};
use serde_json::value::RawValue;

use cache::VerifiedTokens;
pub use claims::Identity;
use claims::{AcceptedTokens, Claims};
use jwks::Jwks;

use crate::lifecycle::Shutdown;
use protocol::{clock::Timestamp, json};

/// Minimum length of the secret, in bytes: that of an HS256 hash.
const SECRET_BYTES_MIN: usize = 32;
/// Maximum length of a token, in bytes.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Which tokens are accepted.
#[derive(Clone, clap::Args)]
pub struct TokenArgs {
    /// The secret of HS256 tokens, at least 32 bytes.
    #[arg(long, env = "ROOMCAST_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,
    /// Public keys for RS256, ES256 and EdDSA tokens: a JWKS file, or its https address. Read again when it
    /// changes.
    #[arg(long, env = "ROOMCAST_JWT_JWKS")]
    pub jwt_jwks: Option<String>,
    /// Audiences, separated by commas: `aud` must name one of them. If unset, `aud` is not checked.
    #[arg(long, env = "ROOMCAST_JWT_AUDIENCE", value_delimiter = ',')]
    pub jwt_audience: Vec<String>,
    /// Issuers, separated by commas: `iss` must be one of them. If unset, `iss` is not checked.
    #[arg(long, env = "ROOMCAST_JWT_ISSUER", value_delimiter = ',')]
    pub jwt_issuer: Vec<String>,
}

impl std::fmt::Debug for TokenArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenArgs")
            .field("jwt_jwks", &self.jwt_jwks)
            .field("jwt_audience", &self.jwt_audience)
            .field("jwt_issuer", &self.jwt_issuer)
            .finish_non_exhaustive()
    }
}

/// Why a token is refused. It tells the holder no more than a usual library would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a token, is not signed with a known key, or lacks a required claim.
    #[error("Token is invalid")]
    Invalid,
    /// It was valid, and has expired.
    #[error("Token is expired")]
    Expired,
    /// It is valid only from a later time, or was issued at a later time.
    #[error("Token is not valid yet")]
    Early,
    /// It is not an access token.
    #[error("Token has wrong type")]
    WrongType,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct TokenVerifier {
    secret: Option<DecodingKey>,
    jwks: Option<Arc<Jwks>>,
    accepted: AcceptedTokens,
    verified: VerifiedTokens,
}

impl TokenVerifier {
    /// Reads the keys. Those of a file or an address are read again until the soft stop.
    ///
    /// # Errors
    /// Names the variable that is missing or wrong.
    pub async fn start(args: &TokenArgs, shutdown: &Shutdown) -> anyhow::Result<Arc<Self>> {
        let secret = match args.jwt_secret.as_deref() {
            None | Some("") => None,
            Some(secret) if secret.len() < SECRET_BYTES_MIN => {
                bail!("ROOMCAST_JWT_SECRET must have at least {SECRET_BYTES_MIN} bytes")
            }
            Some(secret) => Some(DecodingKey::from_secret(secret.as_bytes())),
        };
        let jwks = match args.jwt_jwks.as_deref() {
            None | Some("") => None,
            Some(source) => Some(Jwks::start(source, shutdown).await.context("ROOMCAST_JWT_JWKS")?),
        };
        if secret.is_none() && jwks.is_none() {
            bail!("set ROOMCAST_JWT_SECRET or ROOMCAST_JWT_JWKS: without either no token is accepted");
        }
        // An empty variable counts as unset.
        let non_empty = |names: &[String]| -> Vec<String> {
            names.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
        };
        let accepted =
            AcceptedTokens { audiences: non_empty(&args.jwt_audience), issuers: non_empty(&args.jwt_issuer) };
        Ok(Arc::new(Self { secret, jwks, accepted, verified: VerifiedTokens::default() }))
    }

    /// Returns the person that a token names. The signature is verified at the first time only; expiry is checked each
    /// time.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn identify(&self, token: &str) -> Result<Arc<Identity>, TokenError> {
        // Read before the keys, so that a token verified by older keys is never taken for one of the newer ones.
        let keys_generation = self.jwks.as_ref().map_or(0, |jwks| jwks.generation());
        self.verified.get_or_verify(token, keys_generation, || self.verify(token))
    }

    /// Verifies a token with its signature, and returns the person that it names.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        // No extension is understood here (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        let key = match header.alg {
            Algorithm::HS256 => self.secret.clone(),
            Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA => {
                self.jwks.as_ref().and_then(|jwks| jwks.find_key(header.kid.as_deref(), header.alg))
            }
            _ => None,
        };
        let claims = read_signed_claims(token, &key.ok_or(TokenError::Invalid)?, header.alg)?;
        claims.identity(&self.accepted, Timestamp::now())
    }
}

/// The claims of a token that this key has signed. They are not checked yet.
fn read_signed_claims(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Claims, TokenError> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Box<RawValue>>(token, key, &validation);
    let claims = decoded.map_err(|_| TokenError::Invalid)?.claims;
    json::object(claims.get().as_bytes()).map_err(|_| TokenError::Invalid)
}

/// The given secret, or the one that `deploy/up` has stored in its data folder.
///
/// # Errors
/// If there is neither.
pub fn given_or_stored_secret(given: Option<&str>, data: &Path) -> anyhow::Result<String> {
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

/// The token of a request: `Authorization: Bearer|Token|JWT <jwt>`, `?token=<jwt>`, or the subprotocol pair `bearer,
/// <jwt>`, since browsers can't set headers of a socket.
#[must_use]
pub fn token_from(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    if let Some(authorization) = text(header::AUTHORIZATION) {
        let (scheme, token) = authorization.trim().split_once(' ')?;
        let is_known =
            ["bearer", "token", "jwt"].iter().any(|is_known| scheme.eq_ignore_ascii_case(is_known));
        return is_known.then(|| token.trim().to_owned());
    }
    let mut pairs = query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    if let Some((_, token)) = pairs.find(|(name, _)| *name == "token") {
        return Some(token.to_owned());
    }
    let values =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut protocols = values.flat_map(|value| value.split(',')).map(str::trim);
    protocols.find(|protocol| protocol.eq_ignore_ascii_case("bearer"))?;
    protocols.next().map(str::to_owned)
}

#[cfg(test)]
mod tests;
