//! Checks CORS: only pages of allowed origins may use the API. A foreign host name bound to this machine is refused.

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::json;
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size, program, token},
    postgres::Database,
    raw::Raw,
};

const PAGE: &str = "http://localhost:3000";
const STRANGER: &str = "https://evil.example";

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().expect("text"))
}

fn has(headers: &HeaderMap, name: &str, part: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        let value = value.to_str().expect("text");
        value.split(',').any(|found| found.trim().eq_ignore_ascii_case(part))
    })
}

async fn preflight(rest: &Rest, path: &str, method: &str, origin: &str) -> reqwest::Response {
    let request = rest
        .request(Method::OPTIONS, path)
        .header("origin", origin)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", "authorization,content-type,idempotency-key");
    request.send().await.expect("the node answers")
}

/// Path and method of each operation in the OpenAPI document.
async fn operations(rest: &Rest) -> Vec<(String, String)> {
    let (_, document) = rest.get("/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, methods)| {
        let path = path.replace(['{', '}'], "");
        let methods = methods.as_object().expect("methods").keys();
        methods.map(move |method| (path.clone(), method.to_ascii_uppercase()))
    });
    operations.collect()
}

#[tokio::test]
async fn preflight_of_an_allowed_page_is_answered_by_every_operation() {
    let cluster = Cluster::start(Size::default()).await;
    // A preflight has no token.
    let rest = Rest::without_token(&cluster.api[0].address());
    let operations = operations(&rest).await;
    assert!(operations.len() > 40, "{operations:?}");
    let count = operations.len();
    for (path, method) in operations {
        let answer = preflight(&rest, &path, &method, PAGE).await;
        let headers = answer.headers();
        assert!(answer.status().is_success(), "{method} {path}: {}", answer.status());
        assert_eq!(text(headers, "access-control-allow-origin"), PAGE, "{method} {path}");
        assert_eq!(text(headers, "access-control-allow-credentials"), "true");
        assert!(has(headers, "access-control-allow-methods", &method), "{method} {path}: {headers:?}");
        for name in ["authorization", "content-type", "idempotency-key"] {
            assert!(has(headers, "access-control-allow-headers", name), "{headers:?}");
        }
        assert!(has(headers, "vary", "origin"), "{headers:?}");

        let answer = preflight(&rest, &path, &method, STRANGER).await;
        assert!(!answer.headers().contains_key("access-control-allow-origin"), "{method} {path}");
    }
    let metrics = cluster.api[0].metrics().await;
    for outcome in ["allowed", "refused"] {
        let line = format!(r#"roomcast_http_preflights_total{{outcome="{outcome}"}} {count}"#);
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn answers_and_refusals_are_readable_by_allowed_pages_only() {
    let more = [("ROOMCAST_RATE_REQUESTS", "1:20"), ("ROOMCAST_ADDRESS_HEADER", "x-forwarded-for")];
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &more).await;
    let ann = cluster.rest(0, "ann");
    let ask = async |origin: &str, method: Method, path: &str| {
        let request =
            ann.request(method, path).header("origin", origin).header("x-forwarded-for", "10.0.0.1");
        request.send().await.expect("the node answers")
    };
    for (method, path, status) in [
        (Method::GET, paths::ROOMS, 200),
        (Method::GET, "/nowhere", 404),
        (Method::DELETE, paths::ROOMS, 405),
        (Method::POST, paths::ROOMS, 415),
        (Method::GET, "/api/v2/room-list", 400),
    ] {
        let answer = ask(PAGE, method, path).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert_eq!(text(answer.headers(), "access-control-allow-origin"), PAGE, "{path}");
        for name in ["retry-after", "x-request-id", "www-authenticate", "allow", "x-roomcast-visitor"] {
            assert!(has(answer.headers(), "access-control-expose-headers", name), "{path}: {name}");
        }
    }
    let refused = ask(STRANGER, Method::GET, paths::ROOMS).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    // A request without an origin is answered as before.
    let plain = ann.request(Method::OPTIONS, paths::ROOMS).send().await.expect("the node answers");
    assert_eq!(plain.status(), StatusCode::METHOD_NOT_ALLOWED);
    // A refusal by a rate limit can be read by the page, too.
    let refused = loop {
        let answer = ask(PAGE, Method::GET, paths::ROOMS).await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
    };
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(text(refused.headers(), "access-control-allow-origin"), PAGE);
}

#[tokio::test]
async fn configured_origin_is_allowed_in_every_spelling_and_no_other() {
    let more = [("ROOMCAST_ALLOWED_ORIGINS", "https://Chat.Example:443/,https://bücher.example")];
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &more).await;
    let ann = cluster.rest(0, "ann");
    for (origin, status) in [
        ("https://chat.example", 200),
        ("https://xn--bcher-kva.example", 200),
        ("https://chat.example:8443", 403),
        ("http://chat.example", 403),
        ("http://localhost", 403),
        ("null", 403),
        ("", 403),
    ] {
        let request = ann.request(Method::GET, paths::ROOMS).header("origin", origin);
        let answer = request.send().await.expect("the node answers");
        assert_eq!(answer.status().as_u16(), status, "{origin}");
        let allowed = if status == 200 { origin } else { "" };
        assert_eq!(text(answer.headers(), "access-control-allow-origin"), allowed);
        let socket = format!(
            "GET /ws/ HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEC==\r\norigin: {origin}\r\n\
             authorization: Bearer {}\r\n\r\n",
            token("ann")
        );
        let status = if status == 200 { 101 } else { status };
        assert_eq!(Raw::ask(&cluster.fanout[0].address(), &socket).await.status, status, "{origin}");
    }
}

/// DNS rebinding: a foreign name is bound to this machine's address, so the page's requests are same-origin.
#[tokio::test]
async fn page_of_an_unknown_host_is_refused_though_origin_equals_host() {
    let cluster = Cluster::shared().await;
    let token = token("ann");
    for (node, path, allowed) in [(&cluster.api[0], paths::ROOMS, 200), (&cluster.fanout[0], "/ws/", 101)] {
        for (host, status) in [
            ("evil.example", 403),
            ("evil.example:8080", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("192.168.1.5:8080", allowed),
            ("[fd00::1]:8080", allowed),
            ("localhost:8080", allowed),
        ] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-version: 13\r\nauthorization: Bearer {token}\r\n\
                 sec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n\r\n"
            );
            let answer = Raw::ask(&node.address(), &request).await;
            assert_eq!(answer.status, status, "{host}{path}: {}", answer.body);
        }
    }
    let problem: serde_json::Value = {
        let request =
            "GET /api/v1/rooms HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\n\r\n";
        serde_json::from_str(&Raw::ask(&cluster.api[0].address(), request).await.body).expect("JSON")
    };
    assert_eq!(problem["code"], json!("forbidden"));
}

#[tokio::test]
async fn allowed_origin_that_can_never_match_is_refused_at_start() {
    for (origin, reason) in [
        ("chat.example.com", "https://"),
        ("*", "https://"),
        ("https://*.example.com", "*"),
        ("https://chat.example.com/app", "path"),
        ("https://chat.example.com?x", "path"),
        ("https://ann@chat.example.com", "user"),
        ("wss://chat.example.com", "https://"),
        ("null", "https://"),
        ("https://", "https://"),
    ] {
        for name in ["roomcast-api", "roomcast-fanout"] {
            let mut command = std::process::Command::new(program(name));
            let output =
                command.env("ROOMCAST_ALLOWED_ORIGINS", origin).output().expect("the program starts");
            let line = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{origin}: {line}");
            assert!(line.contains("ROOMCAST_ALLOWED_ORIGINS") && line.contains(reason), "{origin}: {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
