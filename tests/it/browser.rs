//! Tests the web page in two browser windows, one per person.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{browser::Browser, client::Rest, cluster::token, machine::Machine};

/// JavaScript that is true if the page lists exactly the messages `expected`, as pairs of user and text.
fn messages(expected: &[(&str, &str)]) -> String {
    let all = "[...document.querySelectorAll('#messages li:not(.event)')]";
    let lines: Vec<_> = expected.iter().map(|(user, text)| format!("{user}{text}")).collect();
    format!("JSON.stringify({all}.map((line) => line.textContent)) === JSON.stringify({})", json!(lines))
}

#[tokio::test]
async fn two_people_chat_in_two_windows() {
    let machine = Machine::start().await;
    let mut browser = Browser::start().await;
    let mut windows = Vec::new();
    for user in ["ann", "bob"] {
        let mut window = browser.open(&format!("http://{}/#token={}", machine.address(), token(user))).await;
        window.until("document.querySelector('#state')?.textContent === 'connected'").await;
        windows.push(window);
    }
    let [mut ann, mut bob] = <[_; 2]>::try_from(windows).ok().expect("two windows");
    assert_eq!(ann.value("location.hash").await, "", "the page must remove the token from its address");

    ann.submit("#name", "<b>Tea</b>").await;
    for window in [&mut ann, &mut bob] {
        window.click("#rooms button").await;
        window.until("document.querySelector('#title').textContent === '<b>Tea</b>'").await;
    }
    ann.submit("#text", "Hello, Bob.").await;
    bob.until(&messages(&[("ann", "Hello, Bob.")])).await;
    bob.submit("#text", "<i>Hi</i>, Ann.").await;
    let both_messages = messages(&[("ann", "Hello, Bob."), ("bob", "<i>Hi</i>, Ann.")]);
    for window in [&mut ann, &mut bob] {
        window.until(&both_messages).await;
    }

    // After a reload the page has the same user, and shows the earlier messages.
    bob.go(&format!("http://{}/", machine.address())).await;
    bob.until("document.querySelector('#state')?.textContent === 'connected'").await;
    bob.click("#rooms button").await;
    bob.until(&both_messages).await;
}

#[tokio::test]
async fn long_messages_are_compressed_to_and_from_a_browser() {
    let machine = Machine::start().await;
    let ann = Rest::new(&machine.address(), &token("ann"));
    let room = ann.create_room("Tea").await;
    let mut browser = Browser::start().await;
    let mut window = browser.open(&format!("http://{}/", machine.address())).await;
    let address = format!("ws://{}/ws/?token={}", machine.address(), token("bob"));
    window.value(&format!("frames = []; socket = new WebSocket('{address}')")).await;
    // `until` checks its condition when the page changes, so each frame changes the page.
    let on_frame =
        "socket.onmessage = (frame) => { frames.push(JSON.parse(frame.data)); document.body.append('.'); }";
    window.value(&format!("{on_frame}; socket.onopen = () => document.body.append('.')")).await;
    window.until("socket.readyState === 1").await;
    let extensions = window.value("socket.extensions").await;
    assert!(extensions.as_str().is_some_and(|text| text.starts_with("permessage-deflate")), "{extensions}");
    let send = |frame: Value| format!("socket.send({})", json!(frame.to_string()));
    window.value(&send(json!({ "action": "join_room", "room_pk": room, "request_id": 1 }))).await;
    window.until("frames.some((frame) => frame.request_id === 1)").await;

    let (short, long) = ("Tea?", "Tea, biscuits and ☕. ".repeat(200));
    for text in [short, &long] {
        let frame = json!({ "action": "create_message", "room_pk": room, "msg_text": text, "request_id": 2 });
        window.value(&send(frame)).await;
        let has_message = "frames.some((frame) => frame.event === 'chat-message' && frame.data.message === ";
        window.until(&format!("{has_message} {})", json!(text))).await;
    }
    let metrics = ann.request(Method::GET, "/metrics").send().await.expect("the node answers");
    let metrics = metrics.text().await.expect("the message has a text");
    let deflated: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("roomcast_deflated_total")).collect();
    assert_eq!(
        deflated,
        ["roomcast_deflated_total 1"],
        "only the long message must be compressed, and only once"
    );
}

#[tokio::test]
async fn docs_page_shows_both_documents_completely() {
    let machine = Machine::start().await;
    let mut browser = Browser::start().await;
    let mut window = browser.open(&format!("http://{}/docs", machine.address())).await;
    let entry_count = |part: &str| format!("document.querySelectorAll('#{part} details').length");
    window.until(&format!("{} >= 60 && {} >= 60", entry_count("http"), entry_count("sockets"))).await;
    // The page renders an entry when it is opened: an error there fails the test.
    window.value("document.querySelectorAll('details').forEach((entry) => { entry.open = true; })").await;
    window
        .until("[...document.querySelectorAll('details')].every((entry) => entry.childElementCount > 1)")
        .await;
    let text = window.value("document.querySelector('#sockets').textContent").await;
    for word in ["create_message", "msg_text: string", "token_expired", "chat.{shard}.{kind}.{id}.{event}"] {
        assert!(text.as_str().is_some_and(|text| text.contains(word)), "the page must show {word}");
    }
}
