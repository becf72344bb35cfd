//! Tests single cases of an outbox.

use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};

use super::*;

/// An outbox with a socket, and the client's end of its connection.
async fn connected(limit: usize) -> (Outbox, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let outbox = Outbox::new(limit, PushFormat::Native);
    outbox.attach_socket(RawSocket::new(accepted.expect("a client").0));
    (outbox, client.expect("a server"))
}

async fn read(client: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    client.read_exact(&mut bytes).await.expect("bytes");
    assert_eq!(bytes, expected);
}

#[tokio::test]
async fn outbox_above_its_bound_closes_and_keeps_nothing() {
    let (outbox, mut client) = connected(10).await;
    assert!(outbox.push(Bytes::from_static(b"123456")) && outbox.flush().expect("open"));
    assert!(outbox.push(Bytes::from_static(b"1234567890")));
    assert!(!outbox.push(Bytes::from_static(b"1")));
    assert_eq!(outbox.close_reason(), Some(CloseReason::SlowConsumer));
    outbox.push_goodbye(Bytes::from_static(b"bye"));
    outbox.flush().expect("open");
    read(&mut client, b"123456bye").await;
}

#[tokio::test]
async fn delivered_frames_are_written_at_once_in_order() {
    let (outbox, mut client) = connected(100).await;
    let frames = [&b"two "[..], b"three ", b"four"].map(Bytes::from_static);
    assert!(outbox.push(Bytes::from_static(b"one ")));
    assert!(outbox.deliver(&frames.each_ref()));
    assert!(outbox.deliver(&[&frames[0]]));
    read(&mut client, b"one two three fourtwo ").await;
    assert!(!outbox.is_blocked());
}

#[tokio::test]
async fn delivery_before_the_upgrade_writes_nothing() {
    let outbox = Outbox::new(8, PushFormat::Native);
    assert!(outbox.deliver(&[&Bytes::from_static(b"12345678")]));
    assert!(!outbox.deliver(&[&Bytes::from_static(b"9")]));
    assert_eq!(outbox.close_reason(), Some(CloseReason::SlowConsumer));
}

#[tokio::test]
async fn frames_the_socket_does_not_take_are_left_to_the_session() {
    let (outbox, mut client) = connected(64 << 20).await;
    let frame = Bytes::from(vec![b'x'; 1 << 20]);
    let mut sent = 0;
    while !outbox.is_blocked() {
        assert!(outbox.deliver(&[&frame]));
        sent += frame.len();
    }
    outbox.changed().await;
    assert!(outbox.deliver(&[&Bytes::from_static(b"last")]));
    let reading = async {
        let mut bytes = vec![0; sent + 4];
        client.read_exact(&mut bytes).await.expect("bytes");
        bytes
    };
    let writing = async {
        while outbox.is_blocked() {
            outbox.socket().expect("open").ready(false, true).await.expect("open");
            outbox.flush().expect("open");
        }
    };
    let (bytes, ()) = tokio::join!(reading, writing);
    assert!(bytes.ends_with(b"xlast"));
}

#[tokio::test]
async fn unstored_frames_are_dropped_first() {
    let (outbox, mut client) = connected(10).await;
    outbox.push_unstored(&Bytes::from_static(b"0"));
    assert!(outbox.push(Bytes::from_static(b"12345")));
    outbox.push_unstored(&Bytes::from_static(b"6"));
    assert!(outbox.push(Bytes::from_static(b"67890")), "there is room for what is stored");
    outbox.flush().expect("open");
    read(&mut client, b"01234567890").await;
}

#[tokio::test]
async fn resumed_frames_may_exceed_the_bound_until_written() {
    let (outbox, _client) = connected(4).await;
    for frame in [&b"12345"[..], b"67890"] {
        assert!(outbox.push_resumed(Bytes::copy_from_slice(frame)));
    }
    assert!(outbox.push(Bytes::from_static(b"1234")) && outbox.defers_actions());
    assert!(!outbox.push(Bytes::from_static(b"5")), "four wait");
    let (outbox, _client) = connected(4).await;
    assert!(outbox.push_resumed(Bytes::from_static(b"12345")) && outbox.defers_actions());
    assert!(outbox.deliver(&[&Bytes::from_static(b"6")]));
    assert!(!outbox.defers_actions());
}

#[tokio::test]
async fn partly_written_frame_is_completed_before_the_goodbye() {
    let (outbox, mut client) = connected(8).await;
    let long = Bytes::from(vec![b'x'; 16 << 20]);
    assert!(!outbox.deliver(&[&long]), "no socket takes so much at once, and its rest is above the bound");
    assert_eq!(outbox.close_reason(), Some(CloseReason::SlowConsumer));
    outbox.push_goodbye(Bytes::from_static(b"bye"));
    let writing = async {
        outbox.flush().expect("open");
        while outbox.is_blocked() {
            outbox.socket().expect("open").ready(false, true).await.expect("open");
            outbox.flush().expect("open");
        }
    };
    let mut bytes = vec![0; long.len() + 3];
    let (read, ()) = tokio::join!(client.read_exact(&mut bytes), writing);
    read.expect("bytes");
    assert!(bytes.ends_with(b"xbye"));
}

#[test]
fn first_close_reason_counts() {
    let outbox = Outbox::new(10, PushFormat::Native);
    outbox.close(CloseReason::Heal);
    outbox.close(CloseReason::Goodbye);
    assert_eq!(outbox.close_reason(), Some(CloseReason::Heal));
    assert!(!outbox.push(Bytes::new()));
}
