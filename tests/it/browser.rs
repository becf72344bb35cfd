//! Tests the web page in two browsers: what one person does, the other sees.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{browser::Browser, client::Rest, cluster::token, machine::Machine};

/// A script that is true once the message list equals `expected`.
fn messages(expected: &[(&str, &str)]) -> String {
    let all = "[...document.querySelectorAll('#messages li:not(.event)')]";
    let lines: Vec<_> = expected.iter().map(|(who, text)| format!("{who}{text}")).collect();
    format!("JSON.stringify({all}.map((line) => line.textContent)) === JSON.stringify({})", json!(lines))
}

#[tokio::test]
async fn two_people_chat_in_two_windows() {
    let machine = Machine::start().await;
    let mut browser = Browser::start().await;
    let mut people = Vec::new();
    for user in ["ann", "bob"] {
        let mut window = browser.open(&format!("http://{}/#token={}", machine.address(), token(user))).await;
        window.until("document.querySelector('#state')?.textContent === 'connected'").await;
        people.push(window);
    }
    let [mut ann, mut bob] = <[_; 2]>::try_from(people).ok().expect("two");
    assert_eq!(ann.value("location.hash").await, "", "the token is not in the address");

    ann.submit("#name", "<b>Tea</b>").await;
    for window in [&mut ann, &mut bob] {
        window.click("#rooms button").await;
        window.until("document.querySelector('#title').textContent === '<b>Tea</b>'").await;
    }
    ann.submit("#text", "Hello, Bob.").await;
    bob.until(&messages(&[("ann", "Hello, Bob.")])).await;
    bob.submit("#text", "<i>Hi</i>, Ann.").await;
    let both = messages(&[("ann", "Hello, Bob."), ("bob", "<i>Hi</i>, Ann.")]);
    for window in [&mut ann, &mut bob] {
        window.until(&both).await;
    }

    // A reload is the same person, and finds what was said.
    bob.go(&format!("http://{}/", machine.address())).await;
    bob.until("document.querySelector('#state')?.textContent === 'connected'").await;
    bob.click("#rooms button").await;
    bob.until(&both).await;
}

#[tokio::test]
async fn long_messages_are_compressed_to_and_from_a_browser() {
    let machine = Machine::start().await;
    let ann = Rest::new(&machine.address(), &token("ann"));
    let room = ann.create_room("Tea").await;
    let mut browser = Browser::start().await;
    let mut window = browser.open(&format!("http://{}/", machine.address())).await;
    let address = format!("ws://{}/ws/?token={}", machine.address(), token("bob"));
    window.value(&format!("heard = []; socket = new WebSocket('{address}')")).await;
    // The page is looked at again when it changes.
    let heard =
        "socket.onmessage = (frame) => { heard.push(JSON.parse(frame.data)); document.body.append('.'); }";
    window.value(&format!("{heard}; socket.onopen = () => document.body.append('.')")).await;
    window.until("socket.readyState === 1").await;
    let agreed = window.value("socket.extensions").await;
    assert!(agreed.as_str().is_some_and(|agreed| agreed.starts_with("permessage-deflate")), "{agreed}");
    let send = |frame: Value| format!("socket.send({})", json!(frame.to_string()));
    window.value(&send(json!({ "action": "join_room", "room_pk": room, "request_id": 1 }))).await;
    window.until("heard.some((frame) => frame.request_id === 1)").await;

    let (short, long) = ("Tea?", "Tea, biscuits and ☕. ".repeat(200));
    for text in [short, &long] {
        let frame = json!({ "action": "create_message", "room_pk": room, "msg_text": text, "request_id": 2 });
        window.value(&send(frame)).await;
        let heard = "heard.some((frame) => frame.event === 'chat-message' && frame.data.message === ";
        window.until(&format!("{heard} {})", json!(text))).await;
    }
    let metrics = ann.request(Method::GET, "/metrics").send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a text");
    let deflated: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("roomcast_deflated_total")).collect();
    assert_eq!(deflated, ["roomcast_deflated_total 1"], "the long one alone, and once");
}

#[tokio::test]
async fn docs_page_shows_both_documents_completely() {
    let machine = Machine::start().await;
    let mut browser = Browser::start().await;
    let mut window = browser.open(&format!("http://{}/docs", machine.address())).await;
    let shown = |part: &str| format!("document.querySelectorAll('#{part} details').length");
    window.until(&format!("{} >= 60 && {} >= 60", shown("http"), shown("sockets"))).await;
    // What is inside is made when it is opened: an error there fails the test.
    window.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })").await;
    window.until("[...document.querySelectorAll('details')].every((one) => one.childElementCount > 1)").await;
    let said = window.value("document.querySelector('#sockets').textContent").await;
    for word in ["create_message", "msg_text: string", "token_expired", "chat.{shard}.{kind}.{id}.{event}"] {
        assert!(said.as_str().is_some_and(|said| said.contains(word)), "{word} is not shown");
    }
}
