//! Closes rooms while people join, leave and write there, and checks that every socket is put out, on each node.
//!
//! `ROOMCAST_CHAOS_SECONDS` sets the duration; the default is short.
//!
//! nats-server 2.9 may send the live copies of two api nodes' events in another order than it stores them. A node then
//! closes the sockets of the room with 4201. Such a socket proves nothing about the closing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size},
    eventually,
    native::SocketAnswer,
    nats::has_safe_clusters,
};
use tokio::{sync::Mutex, task::JoinSet, time::sleep};
use tokio_tungstenite::tungstenite::Error;

/// Number of rooms closed at the same time, as load for each other.
const AT_ONCE: usize = 8;
/// Most sockets in a room before it is closed, and most that join meanwhile.
const SOCKETS: usize = 4;
/// Joins that race with a closing begin within this time of it, in milliseconds.
const SPREAD_MS: u64 = 12;

fn duration() -> Duration {
    let seconds = std::env::var("ROOMCAST_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// Counts of a run.
#[derive(Default)]
struct Done {
    rounds: usize,
    /// Sockets that were put out by a closing.
    closed: usize,
    /// Joins that were refused because the room was closed.
    refused: usize,
    /// Joins that were answered 503 by a busy machine. They prove nothing.
    unavailable: usize,
    /// Sockets that were closed with 4201.
    healed: usize,
}

/// How a join ended.
enum Joined {
    /// The socket is in the room, or was until the closing put it out.
    Open(Box<Socket>),
    /// The room is closed.
    Refused,
    /// The answer was 503.
    Unavailable,
    /// The socket was closed with 4201.
    Healed,
}

impl Joined {
    /// Counts a failed join; returns the socket of a successful one.
    fn note(self, done: &mut Done) -> Option<Socket> {
        match self {
            Self::Open(socket) => return Some(*socket),
            Self::Refused => done.refused += 1,
            Self::Unavailable => done.unavailable += 1,
            Self::Healed => done.healed += 1,
        }
        None
    }
}

/// Reason why a join failed; `None` if it succeeded.
fn failure(answer: &SocketAnswer) -> Option<Joined> {
    match answer.status {
        200 => None,
        404 | 409 => Some(Joined::Refused),
        503 => Some(Joined::Unavailable),
        _ => panic!("{answer}"),
    }
}

/// Sends a request until the answer is not 503: a busy machine may lag by more than api waits.
async fn ask(rest: &Rest, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    eventually("an answer that counts", || async {
        let answer = rest.send(method.clone(), path, body).await.expect("the node answers");
        (answer.0 != StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
    })
    .await
}

/// Opens a socket and joins the room.
async fn join(cluster: &Cluster, node: usize, user: &str, room: u64) -> Joined {
    let mut socket = cluster.socket(node, user).await;
    match socket.try_act("join_room", json!({ "room_pk": room })).await {
        Ok(answer) => failure(&answer).unwrap_or_else(|| Joined::Open(Box::new(socket))),
        Err(error) if is_heal(&error) => Joined::Healed,
        Err(error) => panic!("{error}"),
    }
}

/// Joins at a random moment around the closing, writes, and may leave and join again.
async fn join_meanwhile(cluster: &Cluster, user: &str, room: u64) -> Joined {
    let mut socket = cluster.socket(rand::random_range(0..2), user).await;
    // The race itself is what is tried: there is no event to wait for.
    sleep(Duration::from_millis(rand::random_range(0..SPREAD_MS))).await;
    match come_and_go(&mut socket, room).await {
        Ok(None) => Joined::Open(Box::new(socket)),
        Ok(Some(failure)) => failure,
        Err(error) if is_heal(&error) => Joined::Healed,
        Err(error) => panic!("{error}"),
    }
}

/// Writes, leaves and joins at random; returns why the last join failed, if it did.
async fn come_and_go(socket: &mut Socket, room: u64) -> Result<Option<Joined>, Error> {
    let goes_first = rand::random_bool(0.3);
    for goes in [goes_first, false] {
        let answer = socket.try_act("join_room", json!({ "room_pk": room })).await?;
        if let Some(failure) = failure(&answer) {
            return Ok(Some(failure));
        }
        // It may be put out between the two.
        socket.try_act("create_message", json!({ "room_pk": room, "msg_text": "hello" })).await?;
        if !goes {
            break;
        }
        socket.try_act("leave_room", json!({ "room_pk": room })).await?;
    }
    Ok(None)
}

/// Whether a socket was closed with 4201.
fn is_heal(error: &Error) -> bool {
    error.to_string().ends_with("closed 4201")
}

/// Checks that the socket is put out, and that its writes are refused from then on. False if it was closed with 4201
/// before.
async fn is_out(mut socket: Socket, room: u64) -> bool {
    let channel = format!("room-{room}");
    loop {
        match socket.try_event("unsubscribed").await {
            Ok(push) if push.channel == channel => break,
            Ok(_) => {}
            Err(error) if is_heal(&error) => return false,
            Err(error) => panic!("{channel} is closed, and its socket not told: {error}"),
        }
    }
    let socket = Mutex::new(socket);
    // 503 says nothing of the room.
    let answer = eventually("an answer to a message", || async {
        let mut socket = socket.lock().await;
        let answer = socket.act("create_message", json!({ "room_pk": room, "msg_text": "hello" })).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert!(matches!(answer.status, 404 | 409), "{channel} is closed, and was written to: {answer}");
    true
}

/// Makes a room, fills it, and closes it while others join; counts the outcomes in `done`.
async fn round(cluster: &Cluster, done: &mut Done) {
    let ann = cluster.rest(rand::random_range(0..2), "ann");
    let (status, made) = ask(&ann, Method::POST, paths::ROOMS, &json!({ "name": "open" })).await;
    assert!(status.is_success(), "{status} {made}");
    let room = made["id"].as_u64().expect("an id");
    let mut sockets = Vec::new();
    // Some rooms nobody on a node has followed before the closing.
    for n in 0..rand::random_range(0..=SOCKETS) {
        let node = rand::random_range(0..2);
        sockets.extend(join(cluster, node, &format!("early{n}"), room).await.note(done));
    }
    let path = paths::room(room);
    let close = async {
        sleep(Duration::from_millis(rand::random_range(0..SPREAD_MS))).await;
        let (status, body) = ask(&ann, Method::DELETE, &path, &Value::Null).await;
        // 202 where PostgreSQL lags; a first try whose outcome was unknown may have closed the room.
        assert!(status.is_success() || status == StatusCode::CONFLICT, "{status} {body}");
    };
    let come = futures_util::future::join_all((0..SOCKETS).map(async |n| {
        let user = format!("late{n}");
        join_meanwhile(cluster, &user, room).await
    }));
    let ((), came) = tokio::join!(close, come);
    sockets.extend(came.into_iter().filter_map(|joined| joined.note(done)));
    done.rounds += 1;
    done.closed += sockets.len();
    for socket in sockets {
        done.healed += usize::from(!is_out(socket, room).await);
    }
}

#[expect(clippy::print_stdout, reason = "the run's figures are what it is for")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_closed_under_joins_and_writes_is_left_by_everyone() {
    let cluster = Arc::new(Cluster::start(Size { api: 2, fanout: 2, ..Size::default() }).await);
    let until = Instant::now() + duration();
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let cluster = cluster.clone();
        tasks.spawn(async move {
            let mut done = Done::default();
            while Instant::now() < until {
                round(&cluster, &mut done).await;
            }
            done
        });
    }
    let mut all = Done::default();
    while let Some(done) = tasks.join_next().await {
        let done = done.expect("every socket is put out");
        all.rounds += done.rounds;
        all.closed += done.closed;
        all.refused += done.refused;
        all.unavailable += done.unavailable;
        all.healed += done.healed;
    }
    let Done { rounds, closed, refused, unavailable, healed } = all;
    println!(
        "{rounds} rounds, {closed} sockets put out, {refused} joins refused, {unavailable} answered 503, {healed} closed to \
         heal"
    );
    assert!(rounds >= AT_ONCE && closed > healed);
    assert!(healed == 0 || !has_safe_clusters(), "live copies come in order");
}
