//! Checks how visitors without a token are counted by limits, and how they are recognised again.

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use tests::{client::Rest, cluster::Cluster};

use super::{CONTROL, SERVICE, get, key, message, messages, refusal, send, start, visit, visit_of, visitor};

/// Header in which a proxy gives the address of its client.
const ADDRESS: (&str, &str) = ("ROOMCAST_ADDRESS_HEADER", "x-forwarded-for");
const PASS: &str = "x-roomcast-visitor";

/// Posts as a visitor at an address; returns the answer.
async fn post_from(rest: &Rest, address: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let request = rest.request(Method::POST, path).header("x-forwarded-for", address).json(&body);
    let answer = request.send().await.expect("the node answers");
    (answer.status(), answer.json().await.expect("JSON"))
}

fn too_often(answer: &(StatusCode, Value)) -> bool {
    *answer == refusal(429, "That is too often. Try again in 1 s.")
}

#[tokio::test]
async fn tokenless_writes_count_by_address_and_guesses_do_not_use_up_a_visitors_limit() {
    let cluster = start(&[("ROOMCAST_RATE_WRITES", "1:3"), ADDRESS]).await;
    let rest = visitor(&cluster, 0);
    let (victim, stranger) = ("10.0.0.1", "10.0.0.2");
    let room = post_from(&rest, victim, CONTROL, visit_of("ann")).await.1["response"].clone();
    // The limit is for the address, not for the names of the visit.
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(post_from(&rest, stranger, CONTROL, visit_of("ann")).await);
    }
    assert!(answers.iter().any(too_often), "{answers:?}");
    for wrong in ["64e96a73f59c079a226e1ae9", "x"] {
        let answers = async || post_from(&rest, stranger, SERVICE, message(wrong, "hi")).await;
        tests::eventually("further guesses are refused", || async {
            too_often(&answers().await).then_some(())
        })
        .await;
    }
    assert_eq!(post_from(&rest, victim, SERVICE, message(key(&room), "hello")).await.0, StatusCode::OK);
    assert_eq!(messages(&rest, key(&room)).await.len(), 1, "no refused request stored anything");
}

#[tokio::test]
async fn tokenless_writes_with_a_key_count_by_room() {
    let cluster = start(&[("ROOMCAST_RATE_WRITES", "1:2"), ADDRESS]).await;
    let rest = visitor(&cluster, 0);
    let room = post_from(&rest, "10.0.0.1", CONTROL, visit_of("ann")).await.1["response"].clone();
    let mut stored = 0;
    for n in 0.. {
        // Each request comes from its own address.
        let address = format!("10.1.{}.{}", n / 250, n % 250);
        let answer = post_from(&rest, &address, SERVICE, message(key(&room), "hi")).await;
        if answer.0 != StatusCode::OK {
            assert!(too_often(&answer), "{answer:?}");
            break;
        }
        stored += 1;
    }
    assert_eq!(messages(&rest, key(&room)).await.len(), stored);
    let other = post_from(&rest, "10.0.0.1", CONTROL, visit_of("bob")).await.1["response"].clone();
    let sent = post_from(&rest, "10.0.0.9", SERVICE, message(key(&other), "hi")).await;
    assert_eq!(sent.0, StatusCode::OK, "another room has its own limit");
}

#[tokio::test]
async fn tokenless_rooms_of_an_address_are_limited() {
    let cluster = start(&[("ROOMCAST_RATE_VISITOR_ROOMS", "1/h:3"), ADDRESS]).await;
    let rest = visitor(&cluster, 0);
    let before = cluster.event_count().await;
    let mut made = Vec::new();
    for n in 0..3 {
        let answer = post_from(&rest, "10.0.0.1", CONTROL, visit_of(&format!("v{n}"))).await;
        assert_eq!(answer.0, StatusCode::OK, "{answer:?}");
        made.push(answer);
    }
    let stored = cluster.event_count().await;
    let refused = rest.request(Method::POST, CONTROL).header("x-forwarded-for", "10.0.0.1");
    let refused = refused.json(&visit_of("v3")).send().await.expect("the node answers");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u32 = refused.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    assert_eq!((before + 3, cluster.event_count().await), (stored, stored), "nothing was stored");
    let again = post_from(&rest, "10.0.0.1", CONTROL, visit_of("v0")).await;
    assert_eq!(again, made[0], "an existing room is answered");
    assert_eq!(post_from(&rest, "10.0.0.2", CONTROL, visit_of("v3")).await.0, StatusCode::OK);
    // A request with a token counts towards the person's limit.
    let ann = cluster.rest(0, "ann");
    assert_eq!(post_from(&ann, "10.0.0.1", CONTROL, visit_of("ann")).await.0, StatusCode::OK);
}

/// Sends a visit with one more header; returns the room and the headers of the answer.
async fn visit_with(cluster: &Cluster, name: &str, value: &str) -> (Value, HeaderMap) {
    let request = visitor(cluster, 0).request(Method::POST, CONTROL).header(name, value);
    let answer = request.json(&visit_of("ann")).send().await.expect("the node answers");
    assert_eq!(answer.status(), StatusCode::OK);
    let headers = answer.headers().clone();
    (answer.json::<Value>().await.expect("JSON")["response"].clone(), headers)
}

#[tokio::test]
async fn bound_visit_needs_its_secret() {
    let cluster = start(&[("ROOMCAST_SUPPORT_VISITORS", "bound")]).await;
    let (room, headers) = visit_with(&cluster, "x-none", "").await;
    let pass = headers[PASS].to_str().expect("text");
    assert!(pass.len() == 32 && pass.bytes().all(|byte| byte.is_ascii_hexdigit()), "{pass}");
    let cookie = headers["set-cookie"].to_str().expect("text");
    let expected = "; Max-Age=31536000; Path=/; HttpOnly; Secure; SameSite=Strict";
    assert_eq!(cookie, format!("__Host-roomcast-visitor={pass}{expected}"));
    send(&visitor(&cluster, 0), key(&room), "my account number is 42").await;

    // A stranger who knows the four names gets a new room.
    for (name, value) in [
        ("x-none", String::new()),
        (PASS, "0".repeat(32)),
        (PASS, "x".to_owned()),
        ("cookie", format!("roomcast-visitor={pass}")),
        ("cookie", format!("__Host-roomcast-visitor={}", "f".repeat(32))),
    ] {
        let (other, _) = visit_with(&cluster, name, &value).await;
        assert_ne!(key(&other), key(&room), "{name}: {value}");
        assert_eq!(messages(&visitor(&cluster, 0), key(&other)).await, [0_u8; 0].map(Value::from));
    }
    for (name, value) in [
        (PASS, pass.to_owned()),
        ("cookie", format!("__Host-roomcast-visitor={pass}")),
        ("cookie", format!("a=b; __Host-roomcast-visitor={pass}; c=d")),
    ] {
        let (again, headers) = visit_with(&cluster, name, &value).await;
        assert_eq!(key(&again), key(&room), "{name}: {value}");
        assert_eq!(headers[PASS], pass);
    }
    // The key still opens the room; a token identifies its own person.
    assert_eq!(get(&visitor(&cluster, 0), "get_messages", key(&room)).await.0, StatusCode::OK);
    let ann = cluster.rest(0, "ann");
    let own = visit(&ann, visit_of("ann")).await;
    assert_eq!(visit(&ann, visit_of("ann")).await, own);
}

#[tokio::test]
async fn visitors_with_a_token_get_no_secret() {
    let cluster = start(&[]).await;
    let (room, headers) = visit_with(&cluster, PASS, &"0".repeat(32)).await;
    assert!(headers.get(PASS).is_none() && headers.get("set-cookie").is_none(), "{headers:?}");
    assert_eq!(key(&visit_with(&cluster, "x-none", "").await.0), key(&room));
}
