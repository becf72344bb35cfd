//! Tests which tokens are accepted, and what is read from them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::*;
use protocol::id::UserId;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn args() -> TokenArgs {
    TokenArgs {
        jwt_secret: Some(SECRET.to_owned()),
        jwt_jwks: None,
        jwt_audience: vec![],
        jwt_issuer: vec![],
    }
}

async fn start_verifier(args: &TokenArgs) -> Arc<TokenVerifier> {
    TokenVerifier::start(args, &Shutdown::default()).await.expect("keys that can be read")
}

async fn verifier() -> Arc<TokenVerifier> {
    start_verifier(&args()).await
}

fn claims(extra: &Value) -> Value {
    let mut claims = json!({ "user_id": 7, "exp": jsonwebtoken::get_current_timestamp() + 60 });
    for (name, value) in extra.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

async fn verify(extra: &Value) -> Result<Identity, TokenError> {
    verifier().await.verify(&sign(SECRET, &claims(extra)).expect("JSON"))
}

#[tokio::test]
async fn token_of_the_host_application_is_accepted() {
    let identity = verify(&json!({ "is_staff": true, "username": "Ann", "iat": 5 })).await.expect("valid");
    assert_eq!(identity.caller.user.as_str(), "7");
    assert!(identity.caller.is_admin);
    assert_eq!(identity.person.username.as_deref(), Some("Ann"));
    assert_eq!(identity.issued_at, Some(5));
}

#[tokio::test]
async fn invalid_token_is_refused() {
    let invalid = TokenError::Invalid;
    for (extra, error) in [
        (json!({ "exp": 1 }), TokenError::Expired),
        (json!({ "exp": null }), invalid),
        (json!({ "user_id": "a b" }), invalid),
        (json!({ "user_id": "visitor:7" }), invalid),
        (json!({ "token_type": "refresh" }), TokenError::WrongType),
    ] {
        assert_eq!(verify(&extra).await, Err(error), "{extra}");
    }
    let forged = sign("another secret of more than 32 bytes", &claims(&json!({}))).expect("JSON");
    assert_eq!(verifier().await.verify(&forged), Err(invalid));
    // {"alg":"none","typ":"JWT"} . {"user_id":7,"exp":9999999999} .
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJ1c2VyX2lkIjo3LCJleHAiOjk5OTk5OTk5OTl9.";
    for bad in [unsigned, "", "a.b.c", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
        assert_eq!(verifier().await.verify(bad), Err(invalid), "{bad}");
    }
}

/// A token with this header and these claims, both as they are written.
fn sign_raw(header: &str, claims: &str) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{claims}");
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("a key");
    format!("{message}.{signature}")
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[tokio::test]
async fn token_with_a_critical_extension_is_refused() {
    let claims = claims(&json!({})).to_string();
    let verifier = verifier().await;
    assert!(verifier.verify(&sign_raw(HS256, &claims)).is_ok());
    for header in [
        r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":["http://example.com/UNDEFINED"],"http://example.com/UNDEFINED":true}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":"exp"}"#,
        r#"{"alg":"HS256","crit":[5]}"#,
        r#"["JWT","HS256"]"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"typ":"JWT"}"#,
    ] {
        assert_eq!(verifier.verify(&sign_raw(header, &claims)), Err(TokenError::Invalid), "{header}");
    }
}

#[tokio::test]
async fn numeric_dates_may_have_fractions_and_exponents() {
    let verifier = verifier().await;
    let verify = |claims: &str| verifier.verify(&sign_raw(HS256, claims));
    let expiry =
        |exp: &str| verify(&format!(r#"{{"user_id":5,"exp":{exp}}}"#)).map(|identity| identity.expires_at_ms);
    for (exp, ms) in [
        ("2.1e9", 2_100_000_000_000),
        ("2100000000", 2_100_000_000_000),
        ("2100000000.0", 2_100_000_000_000),
        ("2100000000.25", 2_100_000_000_250),
        ("21E8", 2_100_000_000_000),
        ("9223372036854775807", i64::MAX),
        ("18446744073709551615", i64::MAX),
        ("1e300", i64::MAX),
    ] {
        assert_eq!(expiry(exp), Ok(ms), "{exp}");
    }
    for exp in ["1", "1.5", "0", "-0.0", "-1", "-1e300", "1e-300"] {
        assert_eq!(expiry(exp), Err(TokenError::Expired), "{exp}");
    }
    for exp in ["null", "\"2100000000\"", "true", "[2100000000]", "{}", "1e400"] {
        assert_eq!(expiry(exp), Err(TokenError::Invalid), "{exp}");
    }
    let issued_at = |iat: &str| {
        verify(&format!(r#"{{"user_id":5,"exp":2.1e9,"iat":{iat}}}"#)).map(|identity| identity.issued_at)
    };
    assert_eq!(issued_at("1790000000.75"), Ok(Some(1_790_000_000)));
    assert_eq!(issued_at("-0.5"), Ok(Some(-1)));
    assert_eq!(issued_at("null"), Ok(None));
    assert_eq!(issued_at("\"5\""), Err(TokenError::Invalid));
}

#[tokio::test]
async fn token_is_valid_from_its_first_moment_up_to_its_last() {
    let now = Timestamp::now().unix_ms();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let at = |ms: i64| json!((now + ms) as f64 / 1_000.0);
    for (extra, expected) in [
        (json!({ "exp": at(-1) }), Err(TokenError::Expired)),
        (json!({ "exp": at(60_000) }), Ok(())),
        (json!({ "nbf": at(-1) }), Ok(())),
        (json!({ "nbf": at(60_000) }), Err(TokenError::Early)),
        (json!({ "nbf": null }), Ok(())),
        (json!({ "iat": at(30_000) }), Ok(())),
        (json!({ "iat": at(90_000) }), Err(TokenError::Early)),
        // In milliseconds: no later token could change the profile.
        (json!({ "iat": now }), Err(TokenError::Early)),
        (json!({ "iat": 1e300 }), Err(TokenError::Early)),
    ] {
        assert_eq!(verify(&extra).await.map(|_| ()), expected, "{extra}");
    }
}

#[tokio::test]
async fn admin_claim_counts_only_as_true_and_never_refuses_the_token() {
    for (extra, is_admin) in [
        (json!({ "is_admin": true }), true),
        (json!({ "is_staff": true, "is_admin": null }), true),
        (json!({ "is_admin": null }), false),
        (json!({ "is_admin": 0, "is_staff": "false" }), false),
        (json!({ "is_admin": 1 }), false),
        (json!({ "is_admin": "true", "is_staff": [true] }), false),
        (json!({ "is_admin": { "true": true } }), false),
        (json!({ "token_type": null, "org_id": null, "username": null, "sub": null }), false),
    ] {
        let identity = verify(&extra).await.expect("valid");
        assert_eq!(identity.caller.is_admin, is_admin, "{extra}");
    }
}

#[tokio::test]
async fn user_id_is_the_text_of_the_claim() {
    let user_of = async |claims: &str| {
        let token = sign_raw(HS256, &format!(r#"{{"exp":2.1e9,{claims}}}"#));
        verifier().await.verify(&token).map(|identity| identity.caller.user.as_str().to_owned())
    };
    for (claims, user) in [
        (r#""user_id":175928847299117063"#, "175928847299117063"),
        (r#""user_id":18446744073709551615"#, "18446744073709551615"),
        (r#""sub":"auth0|507f1f77bcf86cd799439011""#, "auth0|507f1f77bcf86cd799439011"),
        (r#""sub":"a+b@example.com""#, "a+b@example.com"),
        (r#""user_id":null,"sub":"7""#, "7"),
    ] {
        assert_eq!(user_of(claims).await.as_deref(), Ok(user), "{claims}");
    }
    for claims in [r#""user_id":true"#, r#""user_id":1.5"#, r#""user_id":-1"#, r#""sub":["7"]"#, r#""a":1"#] {
        assert_eq!(user_of(claims).await, Err(TokenError::Invalid), "{claims}");
    }
    let twice = r#""user_id":7,"user_id":8"#;
    assert_eq!(user_of(twice).await, Err(TokenError::Invalid), "names are unique (RFC 7519, 4)");
    let claims_as_array = sign_raw(HS256, "[2.1e9,null,null,null,null,7,null,null,true,true]");
    assert_eq!(verifier().await.verify(&claims_as_array), Err(TokenError::Invalid), "an array has no claims");
}

#[tokio::test]
async fn token_of_another_audience_or_issuer_is_refused() {
    let [chat, api, host] = ["chat", "https://api.example", "https://host.example/"];
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let two_audiences = TokenArgs { jwt_audience: names(&[chat, api]), ..args() };
    let one_issuer = TokenArgs { jwt_issuer: names(&[host, " "]), ..args() };
    let empty = TokenArgs { jwt_audience: names(&[""]), jwt_issuer: names(&[" "]), ..args() };
    for (args, extra, is_accepted) in [
        (&two_audiences, json!({ "aud": chat }), true),
        (&two_audiences, json!({ "aud": ["other", api] }), true),
        (&two_audiences, json!({ "aud": "other" }), false),
        (&two_audiences, json!({ "aud": ["chat "] }), false),
        (&two_audiences, json!({ "aud": [] }), false),
        (&two_audiences, json!({ "aud": { "chat": chat } }), false),
        (&two_audiences, json!({ "aud": [[chat]] }), false),
        (&two_audiences, json!({ "iss": chat }), false),
        (&one_issuer, json!({ "iss": host }), true),
        (&one_issuer, json!({ "iss": "https://host.example" }), false),
        (&one_issuer, json!({ "iss": [host] }), false),
        (&one_issuer, json!({ "iss": "" }), false),
        (&one_issuer, json!({}), false),
        (&empty, json!({ "aud": "other", "iss": 5 }), true),
    ] {
        let verified = start_verifier(args).await.verify(&sign(SECRET, &claims(&extra)).expect("JSON"));
        assert_eq!(verified.is_ok(), is_accepted, "{extra}");
    }
}

#[tokio::test]
async fn start_without_keys_names_the_variables() {
    let without_keys = TokenArgs { jwt_secret: None, ..args() };
    let error =
        TokenVerifier::start(&without_keys, &Shutdown::default()).await.expect_err("no keys").to_string();
    assert!(error.contains("ROOMCAST_JWT_SECRET") && error.contains("ROOMCAST_JWT_JWKS"), "{error}");
    let short_secret = TokenArgs { jwt_secret: Some("short".to_owned()), ..args() };
    assert!(TokenVerifier::start(&short_secret, &Shutdown::default()).await.is_err());
}

#[test]
fn token_can_be_sent_in_three_ways() {
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
    fn any_claims_are_read_or_refused(name in "exp|iat|nbf|user_id|sub|token_type|is_admin|is_staff|username|business|org_id|aud|iss", claim in claim()) {
        let key = DecodingKey::from_secret(SECRET.as_bytes());
        let verifier = TokenVerifier { secret: Some(key), jwks: None, accepted: AcceptedTokens::default(), verified: VerifiedTokens::default() };
        if let Ok(identity) = verifier.verify(&sign(SECRET, &claims(&json!({ &name: claim }))).expect("JSON")) {
            prop_assert!(!identity.caller.user.as_str().starts_with(UserId::VISITOR));
            let is_admin = ["is_admin", "is_staff"].contains(&name.as_str()) && claim == json!(true);
            prop_assert_eq!(identity.caller.is_admin, is_admin);
            prop_assert!(protocol::text::person(&identity.person.clone().into()).is_ok(), "{:?}", identity.person);
        }
    }

    #[test]
    fn any_text_is_refused_as_a_token(text in prop_oneof![".*", "[A-Za-z0-9_-]{0,40}[.][A-Za-z0-9_-]{0,40}[.][A-Za-z0-9_-]{0,40}"], bytes in vec(32..255_u8, 0..60)) {
        let verifier = TokenVerifier {
            secret: Some(DecodingKey::from_secret(SECRET.as_bytes())),
            jwks: None,
            accepted: AcceptedTokens::default(),
            verified: VerifiedTokens::default(),
        };
        prop_assert_eq!(verifier.verify(&text), Err(TokenError::Invalid));
        for name in [header::AUTHORIZATION, header::SEC_WEBSOCKET_PROTOCOL] {
            if let Ok(value) = axum::http::HeaderValue::from_bytes(&bytes) {
                let _ = token_from(&HeaderMap::from_iter([(name, value)]), Some(&text));
            }
        }
    }
}
