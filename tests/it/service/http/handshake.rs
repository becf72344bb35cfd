//! Tests the opening handshake of a socket, line by line: RFC 6455, section 4, and RFC 9110, section 7.2.

use tests::{
    cluster::{Cluster, token},
    raw::{Answer, Raw},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEC==";

/// Lines of a valid handshake.
fn lines() -> Vec<String> {
    [
        "GET /ws/ HTTP/1.1".to_owned(),
        "Host: localhost".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        format!("Sec-WebSocket-Key: {KEY}"),
        "Sec-WebSocket-Version: 13".to_owned(),
        format!("Authorization: Bearer {}", token("ann")),
    ]
    .into()
}

/// The handshake with lines replaced that begin with a name; `None` removes one.
fn with(changes: &[(&str, Option<&str>)]) -> String {
    let mut lines = lines();
    for (name, line) in changes {
        lines.retain(|old| !old.starts_with(name));
        if let Some(line) = line {
            let place = if name.starts_with("GET") { 0 } else { lines.len() };
            lines.insert(place, (*line).to_owned());
        }
    }
    lines.join("\r\n") + "\r\n\r\n"
}

async fn ask(cluster: &Cluster, changes: &[(&str, Option<&str>)]) -> Answer {
    Raw::ask(&cluster.fanout[0].address(), &with(changes)).await
}

#[tokio::test]
async fn valid_handshakes_in_every_spelling_are_accepted() {
    let cluster = Cluster::shared().await;
    for change in [
        // 4.2.2 has these two keys; the bits behind the sixteenth byte of one are not zero.
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC=="),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: \t dGhlIHNhbXBsZSBub25jZQ== \t"),
        // As Firefox sends it, and as proxies add or rewrite headers.
        ("Connection", "Connection: keep-alive, Upgrade"),
        ("Connection", "Connection: keep-alive\r\nConnection: upgrade"),
        ("Connection", "connection:,UPGRADE,"),
        ("Upgrade", "Upgrade: WebSocket"),
        ("Upgrade", "Upgrade: foo/2, websocket"),
        ("Upgrade", "UPGRADE: foo\r\nupgrade: websocket"),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version:13 "),
        // RFC 9112, 3.2.2: the target is absolute, and says the host.
        ("GET", "GET http://localhost/ws/ HTTP/1.1"),
        ("Host", "HOST: LOCALHOST:80"),
        ("Host", "Host: [::1]:8081"),
        ("Host", "Host:"),
        // Unknown headers are ignored.
        ("X", "Sec-WebSocket-Extensions: foo; bar=1, x-webkit-deflate-frame"),
        ("X", "Sec-WebSocket-Protocol: chat, superchat"),
        ("X", "Origin: http://localhost:3000"),
        ("X", "ORIGIN: HTTP://LOCALHOST"),
        ("X", "Content-Length: 0"),
    ] {
        let answer = ask(&cluster, &[(change.0, Some(change.1))]).await;
        assert_eq!(answer.status, 101, "{}: {}", change.1, answer.body);
        let key = change.1.strip_prefix("Sec-WebSocket-Key:").unwrap_or(KEY).trim();
        assert_eq!(answer.header("sec-websocket-accept"), Some(&*derive_accept_key(key.as_bytes())));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert_eq!(answer.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
        assert_eq!(answer.header("sec-websocket-protocol"), None, "{}", change.1);
    }
    // Section 1.3's own example.
    assert_eq!(derive_accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[tokio::test]
async fn subprotocol_is_answered_as_offered() {
    let cluster = Cluster::shared().await;
    let token = token("ann");
    for (offer, chosen) in [
        (format!("bearer, {token}"), "bearer"),
        (format!("Bearer, {token}"), "Bearer"),
        (format!("BEARER,{token}"), "BEARER"),
        (format!("bearer\r\nSec-WebSocket-Protocol: {token}"), "bearer"),
        (format!("chat, Bearer,\t{token} , more"), "Bearer"),
    ] {
        let offer = format!("Sec-WebSocket-Protocol: {offer}");
        let answer = ask(&cluster, &[("Authorization", None), ("X", Some(&offer))]).await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some(chosen)), "{offer}");
    }
}

#[tokio::test]
async fn invalid_handshakes_are_refused_each_by_its_rule() {
    let cluster = Cluster::shared().await;
    let long = "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEBE=";
    for (name, line, status) in [
        // 4.1: the method is GET, and HTTP is 1.1 at least (RFC 9110, 7.8: HTTP/1.0 can't upgrade).
        ("GET", "POST /ws/ HTTP/1.1", 405),
        ("GET", "PUT /ws/ HTTP/1.1", 405),
        ("GET", "OPTIONS /ws/ HTTP/1.1", 405),
        ("GET", "POST /ws/chat HTTP/1.1", 405),
        ("GET", "POST /chat/films/1/ HTTP/1.1", 405),
        ("GET", "GET /ws/ HTTP/1.0", 426),
        // RFC 9110, 7.2.
        ("Host", "", 400),
        ("Host", "Host: localhost\r\nHost: localhost", 400),
        ("Host", "Host: a, b", 400),
        ("Host", "Host: ann@localhost", 400),
        ("Host", "Host: localhost/ws", 400),
        ("Host", "Host: localhost:http", 400),
        // 4.2.1, 3 to 6.
        ("Upgrade", "", 426),
        ("Upgrade", "Upgrade: websockets", 426),
        ("Upgrade", "Upgrade: h2c", 426),
        ("Connection", "", 426),
        ("Connection", "Connection: keep-alive", 426),
        ("Sec-WebSocket-Version", "", 426),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", 426),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 14", 426),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8", 426),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", 426),
        ("Sec-WebSocket-Key", "", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key:", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4P", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4P_-==", 400),
        ("Sec-WebSocket-Key", long, 400),
        (
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            400,
        ),
        // A body could not be distinguished from frames.
        ("X", "Content-Length: 5", 400),
        ("X", "Transfer-Encoding: chunked", 400),
        // 4.2.2, 4, and RFC 6454, 7.1.
        ("X", "Origin: https://evil.example", 403),
        ("X", "Origin: null", 403),
        ("X", "Origin:", 403),
        ("X", "Origin: http://localhost https://evil.example", 403),
        ("X", "Origin: http://localhost\r\nOrigin: http://localhost", 403),
        ("X", "Origin: http://ann@localhost", 403),
        ("X", "Origin: http://localhost.evil.example", 403),
        ("Authorization", "", 401),
    ] {
        let answer = ask(&cluster, &[(name, Some(line).filter(|line| !line.is_empty()))]).await;
        assert_eq!(answer.status, status, "{name} {line}: {}", answer.body);
        let says = |header: &str| answer.header(header).map(str::to_ascii_lowercase);
        match status {
            // 4.4, and RFC 9110, 15.5.22.
            426 => {
                assert_eq!(says("sec-websocket-version").as_deref(), Some("13"), "{line}");
                assert_eq!(says("upgrade").as_deref(), Some("websocket"), "{line}");
            }
            405 => assert_eq!(answer.header("allow"), Some("GET"), "{line}"),
            401 => assert_eq!(answer.header("www-authenticate"), Some("Bearer")),
            _ => {}
        }
    }
}

#[tokio::test]
async fn request_without_exactly_one_host_is_refused_by_api() {
    let cluster = Cluster::shared().await;
    for (hosts, version, status) in [
        ("Host: localhost\r\n", "1.1", 404),
        ("", "1.0", 404),
        ("", "1.1", 400),
        ("Host: localhost\r\nHost: localhost\r\n", "1.1", 400),
        ("Host: a b\r\n", "1.1", 400),
    ] {
        let request = format!("GET /api/v2/nowhere HTTP/{version}\r\n{hosts}\r\n");
        let answer = Raw::ask(&cluster.api[0].address(), &request).await;
        assert_eq!(answer.status, status, "{hosts}{version}: {}", answer.body);
        assert!(answer.body.contains(r#""success":false"#), "in the dialect's form: {}", answer.body);
    }
}
