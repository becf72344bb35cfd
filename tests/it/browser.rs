//! The web page in two browsers: what one person does, the other sees.

use serde_json::json;
use tests::{browser::Browser, cluster::token, machine::Machine};

/// True once the message list is exactly that.
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
async fn the_documents_are_shown_whole() {
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
