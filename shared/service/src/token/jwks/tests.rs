//! Tests which keys of a set are used, and where sets are read from.

use std::io::Write as _;

use axum::{
    Router,
    http::{StatusCode, header},
    routing::get,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

/// The public key of RFC 8037, appendix A.2.
const ED25519: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// A key with this id that may verify `EdDSA`, changed as given.
fn jwk(id: &str, extra: &Value) -> Value {
    let mut jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": ED25519 });
    for (name, value) in extra.as_object().expect("an object") {
        jwk[name] = value.clone();
    }
    jwk
}

fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn jwks_of(keys: &[Value]) -> Jwks {
    Jwks {
        keys: ArcSwap::from_pointee(parse_jwks(&set(keys)).expect("a usable key")),
        generation: AtomicU64::new(0),
        unknown_key_seen: Notify::new(),
    }
}

#[test]
fn only_public_keys_are_found_by_their_id() {
    let jwks = jwks_of(&[jwk("a", &json!({})), json!({ "kty": "oct", "kid": "b", "k": "c2VjcmV0" })]);
    assert!(jwks.find_key(Some("a"), Algorithm::EdDSA).is_some());
    assert!(jwks.find_key(None, Algorithm::EdDSA).is_some());
    assert!(jwks.find_key(Some("b"), Algorithm::EdDSA).is_none());
    assert!(jwks.find_key(Some("a"), Algorithm::RS256).is_none());
}

#[test]
fn key_for_another_use_or_algorithm_is_not_used() {
    let is_usable = |extra: Value| parse_jwks(&set(&[jwk("a", &extra)])).is_ok();
    for extra in [
        json!({}),
        json!({ "use": "sig" }),
        json!({ "key_ops": ["verify"] }),
        json!({ "alg": "EdDSA", "use": "sig", "key_ops": ["verify"] }),
    ] {
        assert!(is_usable(extra.clone()), "{extra}");
    }
    for extra in [
        json!({ "use": "enc" }),
        json!({ "use": "SIG" }),
        json!({ "use": 5 }),
        json!({ "key_ops": ["encrypt"] }),
        json!({ "key_ops": [] }),
        json!({ "alg": "ES256" }),
        json!({ "alg": "ECDH-ES" }),
        json!({ "crv": "X25519" }),
        json!({ "crv": "P-256" }),
        json!({ "kty": "later" }),
        json!({ "x": "?" }),
    ] {
        assert!(!is_usable(extra.clone()), "{extra}");
    }
}

#[test]
fn token_without_key_id_is_verified_by_the_only_signing_key() {
    let (signing, encrypting) = (jwk("a", &json!({ "use": "sig" })), jwk("b", &json!({ "use": "enc" })));
    let jwks = jwks_of(&[encrypting.clone(), signing.clone()]);
    assert!(jwks.find_key(None, Algorithm::EdDSA).is_some());
    assert!(jwks.find_key(Some("b"), Algorithm::EdDSA).is_none(), "an encryption key verifies no signature");
    let two_signing = jwks_of(&[signing, jwk("c", &json!({})), encrypting]);
    assert!(
        two_signing.find_key(None, Algorithm::EdDSA).is_none(),
        "without an id neither of two keys is chosen"
    );
}

#[test]
fn unknown_keys_are_skipped() {
    let keys =
        [json!(5), json!({}), json!({ "kty": "RSA" }), json!(["OKP", "Ed25519"]), jwk("a", &json!({}))];
    assert_eq!(parse_jwks(&set(&keys)).expect("one usable key").len(), 1);
    for unusable in [&b"{\"keys\":[]}"[..], b"{}", b"[[]]", b"", b"keys", b"{\"keys\":5}"] {
        assert!(parse_jwks(unusable).is_err());
    }
}

/// Serves these keys at `/keys`, and answers that must be refused elsewhere.
async fn serve_keys() -> String {
    let keys = String::from_utf8(set(&[jwk("a", &json!({}))])).expect("UTF-8");
    let long = format!("{}{keys}", " ".repeat(JWKS_BYTES_MAX));
    let redirect_to = |location: &'static str| {
        get(move || async move { (StatusCode::FOUND, [(header::LOCATION, location)]) })
    };
    let router = Router::new()
        .route("/keys", get(move || async move { keys }))
        .route("/long", get(move || async move { long }))
        .route("/redirect", redirect_to("/keys"))
        .route("/gone", get(|| async { StatusCode::GONE }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn key_set_is_fetched_without_redirects_and_within_its_bound() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let host = serve_keys().await;
    let start = async |path: &str| Jwks::start(&format!("{host}{path}"), &Shutdown::default()).await;
    assert!(start("/keys").await.expect("keys").find_key(Some("a"), Algorithm::EdDSA).is_some());
    for (path, reason) in [
        ("/redirect", "the address answers 302 Found; redirects are not followed"),
        ("/gone", "the address answers 410 Gone; redirects are not followed"),
        ("/long", "more than 1048576 bytes"),
    ] {
        assert_eq!(start(path).await.expect_err("refused").to_string(), reason, "{path}");
    }
}

#[tokio::test]
async fn key_set_address_without_tls_is_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for address in ["http://host.example/keys", "HTTP://10.0.0.1/keys", "http://localhost.example/keys"] {
        let error = KeySource::parse(address).expect_err("plain HTTP").to_string();
        assert_eq!(error, "must be an https address, or a file", "{address}");
    }
    for address in ["https://host.example/keys", "HTTPS://host.example", "http://[::1]:8080/keys"] {
        assert!(matches!(KeySource::parse(address), Ok(KeySource::Address(..))), "{address}");
    }
}

#[tokio::test(start_paused = true)]
async fn key_set_file_is_read_again_when_it_changes() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    // Of this thread: the test's runtime has no other.
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.json");
    let write = |text: &[u8]| {
        // Replaces the file as tools do that never leave half a file.
        let mut file = tempfile::NamedTempFile::new_in(folder.path()).expect("a file");
        file.write_all(text).expect("disk space");
        file.persist(&path).expect("renamed");
    };
    write(&set(&[jwk("a", &json!({}))]));
    let jwks = Jwks::start(path.to_str().expect("UTF-8"), &Shutdown::default()).await.expect("keys");
    let has_key = |id| jwks.find_key(Some(id), Algorithm::EdDSA).is_some();
    assert!(has_key("a") && !has_key("b"));
    // Long enough for the unchanged file to be read.
    tokio::time::sleep(3 * UNKNOWN_KEY_REFRESH_INTERVAL).await;
    write(&set(&[jwk("b", &json!({}))]));
    while !has_key("b") {
        tokio::time::sleep(FILE_REFRESH_INTERVAL).await;
    }
    assert!(!has_key("a"), "a removed key is not used any more");
    // An unusable set changes nothing, and the next usable one is used.
    write(b"{\"keys\":");
    tokio::time::sleep(3 * UNKNOWN_KEY_REFRESH_INTERVAL).await;
    assert!(has_key("b"));
    write(&set(&[jwk("c", &json!({}))]));
    while !has_key("c") {
        tokio::time::sleep(FILE_REFRESH_INTERVAL).await;
    }
    std::fs::remove_file(&path).expect("removed");
    tokio::time::sleep(3 * UNKNOWN_KEY_REFRESH_INTERVAL).await;
    assert!(has_key("c"));
    let metrics_text = recorder.handle().render();
    for outcome in ["unchanged", "changed", "unusable", "failed"] {
        let name = format!("roomcast_jwks_reads_total{{outcome=\"{outcome}\"}} ");
        let count = metrics_text.lines().find_map(|line| line.strip_prefix(&name));
        let count: u64 =
            count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{metrics_text}"));
        // `changed` is exact; the other counts depend on how often the file is read.
        assert!(if outcome == "changed" { count == 2 } else { count > 0 }, "{metrics_text}");
    }
}

#[tokio::test(start_paused = true)]
async fn key_set_file_that_does_not_answer_blocks_one_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.json");
    // Opening a pipe blocks until somebody writes to it.
    let status = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(status.success());
    let source = KeySource::parse(path.to_str().expect("UTF-8")).expect("a file");
    let KeySource::File(_, read_lock) = &source else { panic!("a file") };
    for _ in 0..3 {
        // The clock stands still while a thread waits for the pipe.
        let (result, ()) = tokio::join!(source.read(), tokio::time::advance(2 * READ_TIMEOUT));
        let error = result.expect_err("not read").to_string();
        assert_eq!(error, format!("{} was not read in 5 s", path.display()));
        assert!(read_lock.try_lock().is_err(), "the first read still holds the lock");
    }
    let pipe = path.clone();
    let opened = tokio::task::spawn_blocking(move || File::options().write(true).open(pipe));
    drop(opened.await.expect("no panic").expect("a pipe"));
    drop(read_lock.lock().await);
    std::fs::remove_file(&path).expect("removed");
    let keys = set(&[jwk("a", &json!({}))]);
    std::fs::write(&path, &keys).expect("written");
    assert_eq!(source.read().await.expect("the file can be read again"), keys);
}
