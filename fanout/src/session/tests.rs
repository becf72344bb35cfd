//! Tests the size of a session in memory, and when it begins its next action.

use std::net::TcpStream;

use bytes::Bytes;
use protocol::{event::Person, id::ShardCount};

use super::*;
use crate::bench;

/// Limit of the outboxes in these tests, in bytes.
const LIMIT: usize = 64 << 10;
/// Maximum bytes of an answer of api, more than [`LIMIT`].
const ANSWER: usize = 768 << 10;

/// A session whose socket is not upgraded yet, with an outbox of [`LIMIT`].
async fn session() -> Box<Session> {
    let node = bench::node(ShardCount::new(1).expect("1")).await;
    let mut node = Arc::into_inner(node).expect("nobody else has it");
    node.outbox_bytes = LIMIT;
    let identity = Identity {
        caller: bench::caller(0),
        issued_at: None,
        expires_at_ms: i64::MAX,
        person: Person::default(),
    };
    let node = Arc::new(node);
    PendingSession::new(&node, identity, Surface::Native, false).expect("there is room").begin(node.clone())
}

/// Upgrades the session's socket, and writes all queued frames. Returns the client's end of the connection.
async fn write_all(session: &Session) -> TcpStream {
    let (socket, client) = bench::socket_pair().await;
    session.outbox.attach_socket(socket);
    assert!(session.outbox.flush().expect("open") && !session.outbox.is_blocked());
    client
}

/// A masked text frame of an action that api decides.
fn action() -> Vec<u8> {
    let text = r#"{"action":"history","room_pk":1,"request_id":1}"#;
    let length = u8::try_from(text.len()).expect("short");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// Counts task, session and outbox, without the memory that they allocate while something happens.
#[test]
fn idle_socket_takes_few_bytes() {
    fn of<F: Future>(_: fn(Box<Session>) -> F) -> usize {
        size_of::<F>()
    }
    let (task, session, outbox) = (of(run), size_of::<Session>(), size_of::<Outbox>());
    assert!(task + session + outbox <= 1_240, "{task} + {session} + {outbox} bytes");
}

#[tokio::test]
async fn next_action_begins_once_half_of_the_bound_is_written() {
    let mut session = session().await;
    session.outbox.push(vec![0; LIMIT / 2 + 1].into());
    session.decoder.push(&action());
    assert!(session.handle_frames().is_none() && session.running_action.is_none());
    let _client = write_all(&session).await;
    assert!(session.handle_frames().is_none() && session.running_action.is_some());
}

#[tokio::test]
async fn next_action_begins_once_the_answer_before_it_is_written() {
    let mut session = session().await;
    session.decoder.push(&[action(), action()].concat());
    assert!(session.handle_frames().is_none() && session.running_action.take().is_some());
    session.outbox.push_answer(Bytes::from_static(b"answer"));
    assert!(session.handle_frames().is_none() && session.running_action.is_none());
    let _client = write_all(&session).await;
    assert!(session.handle_frames().is_none() && session.running_action.is_some());
}

#[tokio::test]
async fn longest_answer_beside_pushes_does_not_close_a_socket_of_a_small_bound() {
    let session = session().await;
    assert!(session.outbox.push(vec![0; LIMIT / 2].into()));
    assert!(!session.outbox.defers_actions(), "an action may begin");
    assert!(session.outbox.push(vec![0; LIMIT / 4].into()));
    assert!(session.outbox.push_answer(vec![0; ANSWER].into()));
    assert!(session.outbox.push(vec![0; LIMIT / 4].into()));
    assert_eq!(session.outbox.close_reason(), None);
    assert!(!session.outbox.push(Bytes::from_static(b"1")), "the pushes alone are above the bound");
}
