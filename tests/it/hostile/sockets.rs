//! Sockets: any frame in each kind of socket, and any bytes after the handshake.

use std::cell::RefCell;

use proptest::{collection::vec, prelude::*, sample::select};
use protocol::socket::CloseCode;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    PATIENCE,
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{object, run, scalar};

/// The actions of all kinds of socket, and none.
const ACTIONS: &str = "subscribe unsubscribe join_room leave_room create_message edit_message delete_messages
    history list current_room_info mark_read typing invite signal authenticate ping topic_info nonsense";

fn frame() -> impl Strategy<Value = String> {
    let actions = select(ACTIONS.split_whitespace().collect::<Vec<_>>());
    let action = (object(), actions, scalar()).prop_map(|(mut frame, action, id)| {
        (frame["action"], frame["request_id"]) = (action.into(), id);
        frame.to_string()
    });
    prop_oneof![6 => action, 1 => ".{0,60}", 1 => object().prop_map(|frame| frame.to_string())]
}

/// Sends frames; each but the pushes is answered in the envelope, and the socket stays open.
async fn tell(socket: &mut Socket, frames: &[String]) -> Result<(), TestCaseError> {
    let broken = |error| TestCaseError::fail(format!("{error}"));
    for frame in frames {
        socket.send_text(frame).await.map_err(broken)?;
    }
    // In every kind of socket there is this one, and answers keep their order.
    let mark = json!({ "action": "list", "request_id": "the last" }).to_string();
    socket.send_text(&mark).await.map_err(broken)?;
    let mut answers = 0;
    loop {
        let answer = socket.next().await.map_err(broken)?;
        if answer.get("event").is_some() {
            continue;
        }
        let keys: Vec<&String> = answer.as_object().into_iter().flat_map(|answer| answer.keys()).collect();
        prop_assert_eq!(&keys, &["action", "data", "errors", "request_id", "response_status"], "{}", answer);
        // On a busy machine the database may be behind for a moment.
        let is_known = |status| status < 500 || status == 503;
        prop_assert!(answer["response_status"].as_u64().is_some_and(is_known), "{answer}");
        if answer["request_id"] == "the last" {
            break;
        }
        answers += 1;
    }
    // In a match, what others do there comes in the same envelope.
    prop_assert!(answers >= frames.len(), "{answers} answers");
    Ok(())
}

/// A socket of each kind.
async fn open(cluster: &Cluster) -> Vec<Socket> {
    let token = sign(&json!({ "user_id": 1, "is_admin": true, "business": true }));
    let one = Rest::new(&cluster.api[0].address(), &token);
    one.make_room("a").await;
    one.post(paths::ROOMS, json!({ "kind": "match", "users": ["1", "2"] })).await;
    let (_, topic) = one.post("/api/chat/", json!({ "title": "Dune", "room": "films" })).await;
    let url = topic["chat"]["url"].as_str().expect("an address");
    let mut sockets = Vec::new();
    for path in ["/ws/", "/ws/chat/", "/ws/admin-chat/", url] {
        let socket = Socket::open_at(&cluster.fanout[0].address(), path, &token).await;
        sockets.push(socket.expect("it opens"));
    }
    assert_eq!(sockets[3].next().await.expect("a frame")["action"], "join_room");
    sockets
}

#[test]
fn generated_frames_are_answered_in_the_envelope() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cluster = runtime.block_on(Cluster::start(Size::default()));
    let sockets = RefCell::new(runtime.block_on(open(&cluster)));
    run(128, &(0..4_usize, vec(frame(), 1..8)), |(which, frames)| {
        runtime.block_on(tell(&mut sockets.borrow_mut()[which], &frames))
    });
}

/// A frame, rightly made or not: its first byte, whether it is masked, another length than it has, its payload.
fn bytes_of_a_frame() -> impl Strategy<Value = Vec<u8>> {
    let first =
        prop_oneof![4 => select(vec![0x81, 0x82, 0x88, 0x89, 0x8A, 0x01, 0x00, 0x80]), 1 => any::<u8>()];
    let payload = prop_oneof![vec(any::<u8>(), 0..126), frame().prop_map(String::into_bytes)];
    let lie = prop::option::weighted(0.1, any::<u64>());
    (first, prop::bool::weighted(0.9), lie, payload).prop_map(|(first, is_masked, lie, payload)| {
        let mask = if is_masked { 0x80 } else { 0 };
        let mut frame = vec![first];
        match (lie, u16::try_from(payload.len()).expect("it is short")) {
            (Some(length), _) => {
                frame.push(mask | 127);
                frame.extend(length.to_be_bytes());
            }
            (None, short @ ..126) => frame.push(mask | u8::try_from(short).expect("it is short")),
            (None, length) => {
                frame.push(mask | 126);
                frame.extend(length.to_be_bytes());
            }
        }
        if is_masked {
            frame.extend([0; 4]);
        }
        frame.extend(payload);
        frame
    })
}

/// Takes the server's next frame from what it sent: its opcode and its payload.
fn take<'a>(sent: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (first, rest) = sent.split_first()?;
    let (second, rest) = rest.split_first()?;
    let (length, rest) = match second {
        126 => rest.split_first_chunk().map(|(length, rest)| (u16::from_be_bytes(*length).into(), rest))?,
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
        short => (u64::from(*short), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *sent = rest;
    Some((*first, payload))
}

/// Sends bytes and no more: what comes are whole frames, the last of which says by what rule it is closed.
async fn throw(address: &str, token: &str, bytes: &[u8]) -> Result<(), TestCaseError> {
    let url = format!("ws://{address}/ws/?token={token}");
    let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("it opens");
    let mut stream = socket.into_inner();
    // The server may be the first to end it.
    let _ = (stream.write_all(bytes).await, stream.shutdown().await);
    let mut sent = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut sent)).await;
    prop_assert!(read.is_ok(), "it is never closed");
    let mut sent = sent.as_slice();
    while let Some((first, payload)) = take(&mut sent) {
        match first {
            0x81 => prop_assert!(serde_json::from_slice::<Value>(payload).is_ok(), "{payload:?}"),
            0x88 => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                let rules = [CloseCode::Goodbye, CloseCode::Protocol, CloseCode::NotUtf8, CloseCode::TooBig];
                prop_assert!(rules.iter().any(|rule| Some(rule.code()) == code), "{code:?} {payload:?}");
                prop_assert!(sent.is_empty(), "after the close: {sent:?}");
            }
            0x8A => {}
            other => prop_assert!(false, "{other:#x} {payload:?}"),
        }
    }
    prop_assert!(sent.is_empty(), "half a frame: {sent:?}");
    Ok(())
}

#[test]
fn generated_bytes_close_their_own_socket_at_most() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cluster = runtime.block_on(Cluster::start(Size::default()));
    let (address, token) = (cluster.fanout[0].address(), sign(&json!({ "user_id": 1 })));
    let mut other = runtime.block_on(Socket::open(&address, &token)).expect("it opens");
    run(128, &vec(bytes_of_a_frame(), 1..5), |frames| {
        runtime.block_on(throw(&address, &token, &frames.concat()))
    });
    runtime.block_on(other.must("ping", json!({})));
    assert!(!cluster.fanout[0].tail().contains("panicked"), "{}", cluster.fanout[0].tail());
}
