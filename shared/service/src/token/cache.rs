//! Remembers whom valid tokens name, so that the signature of a token is verified once.
//!
//! What must hold: a remembered token is refused from the moment that it expires, and verified again once the keys have
//! changed. Tokens themselves are not kept, only their hashes.

use std::sync::Arc;

use protocol::clock::Timestamp;
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::{Identity, TokenError};

/// Maximum tokens that are remembered.
const TOKENS_MAX: usize = 10_000;

/// The SHA-256 hash of a token.
type TokenHash = [u8; 32];

/// A valid token.
#[derive(Clone, Debug)]
struct VerifiedToken {
    identity: Arc<Identity>,
    /// The generation of the keys by which it was verified.
    keys_generation: u64,
}

/// The tokens that were verified lately.
#[derive(Debug)]
pub(super) struct VerifiedTokens(Cache<TokenHash, VerifiedToken>);

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Cache::new(TOKENS_MAX))
    }
}

impl VerifiedTokens {
    /// Returns whom the token names; calls `verify` unless it was verified before by keys of this generation.
    ///
    /// # Errors
    /// Those of `verify`, and [`TokenError::Expired`].
    pub(super) fn get_or_verify(
        &self,
        token: &str,
        keys_generation: u64,
        verify: impl FnOnce() -> Result<Identity, TokenError>,
    ) -> Result<Arc<Identity>, TokenError> {
        let hash: TokenHash = Sha256::digest(token).into();
        if let Some(known) = self.0.get(&hash)
            && known.keys_generation == keys_generation
        {
            if known.identity.expires_at_ms > Timestamp::now().unix_ms() {
                return Ok(known.identity);
            }
            self.0.remove(&hash);
            return Err(TokenError::Expired);
        }
        let identity = Arc::new(verify()?);
        self.0.insert(hash, VerifiedToken { identity: identity.clone(), keys_generation });
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lifecycle::Shutdown;
    use crate::token::{TokenArgs, TokenVerifier, sign};

    const SECRET: &str = "a secret of thirty-two bytes, and more";

    async fn identity_until(expires_at_ms: i64) -> Identity {
        let args = TokenArgs {
            jwt_secret: Some(SECRET.to_owned()),
            jwt_jwks: None,
            jwt_audience: vec![],
            jwt_issuer: vec![],
        };
        let verifier = TokenVerifier::start(&args, &Shutdown::default()).await.expect("a secret");
        let token = sign(SECRET, &json!({ "user_id": 7, "exp": 4_102_444_800_u64 })).expect("JSON");
        Identity { expires_at_ms, ..verifier.verify(&token).expect("valid") }
    }

    #[tokio::test]
    async fn remembered_token_is_verified_again_only_by_new_keys() {
        let identity = identity_until(i64::MAX).await;
        let tokens = VerifiedTokens::default();
        let verified = tokens.get_or_verify("a", 0, || Ok(identity.clone())).expect("verified");
        let again = tokens.get_or_verify("a", 0, || Err(TokenError::Invalid)).expect("remembered");
        assert_eq!(again, verified);
        assert_eq!(tokens.get_or_verify("b", 0, || Err(TokenError::Invalid)), Err(TokenError::Invalid));
        assert_eq!(
            tokens.get_or_verify("b", 0, || Ok(identity.clone())).as_deref(),
            Ok(&identity),
            "no refusal is kept"
        );
        assert_eq!(tokens.get_or_verify("a", 1, || Err(TokenError::Invalid)), Err(TokenError::Invalid));
    }

    #[tokio::test]
    async fn remembered_token_is_refused_once_it_has_expired() {
        let now = Timestamp::now().unix_ms();
        let identity = identity_until(now).await;
        let tokens = VerifiedTokens::default();
        tokens.get_or_verify("a", 0, || Ok(identity)).expect("verified");
        assert_eq!(tokens.get_or_verify("a", 0, || Err(TokenError::Invalid)), Err(TokenError::Expired));
    }
}
