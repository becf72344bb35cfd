//! Prepares the path of tokens: verifying one.

use std::hint::black_box;

use serde_json::json;
use service::{
    lifecycle::Shutdown,
    token::{self, TokenArgs, TokenVerifier},
};
use tokio::runtime::Runtime;

use crate::Operation;

pub(crate) fn token(runtime: &Runtime) -> Operation {
    let secret = "s".repeat(32);
    let claims = json!({
        "user_id": 7, "iat": 1_790_000_000, "exp": 4_102_444_800_u64, "token_type": "access",
        "username": "Ann", "email": "ann@example.com", "language": "en",
    });
    let token = token::sign(&secret, &claims).expect("claims are JSON");
    let keys =
        TokenArgs { jwt_secret: Some(secret), jwt_jwks: None, jwt_audience: vec![], jwt_issuer: vec![] };
    let verifier = runtime
        .block_on(TokenVerifier::start(&keys, &Shutdown::default()))
        .expect("the secret is long enough");
    Box::new(move || {
        let identity = verifier.verify(black_box(&token)).expect("the token is valid");
        assert_eq!(identity.caller.user.as_str(), "7");
    })
}
