//! Closes rooms while users join, leave and write, and checks that every socket is unsubscribed, on each node.
//!
//! `ROOMCAST_CHAOS_SECONDS` sets the duration; the default is short.
//!
//! nats-server 2.9 may send the live copies of events of two api nodes in another order than it stores them. A node
//! then closes the sockets of the room with 4201. Such a socket is not checked.

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
    native::{self, SocketAnswer},
    nats::has_safe_clusters,
};
use tokio::{sync::Mutex, task::JoinSet, time::sleep};
use tokio_tungstenite::tungstenite::Error;

/// Number of rooms that are closed at the same time.
const CONCURRENT_ROOMS: usize = 8;
/// Maximum number of sockets in a room before it is closed, and number of sockets that join meanwhile.
const SOCKETS: usize = 4;
/// Maximum delay of a closing, and of the joins that race with it, in milliseconds.
const DELAY_MS_MAX: u64 = 12;

fn duration() -> Duration {
    let seconds = std::env::var("ROOMCAST_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// Counts of a run.
#[derive(Default)]
struct Counts {
    rounds: usize,
    /// Sockets that were in a room when it was closed.
    closed: usize,
    /// Joins that were refused because the room was closed.
    refused: usize,
    /// Joins that were answered 503 because the machine is busy. They are not checked.
    unavailable: usize,
    /// Sockets that were closed with 4201.
    healed: usize,
}

/// The outcome of a join.
enum JoinOutcome {
    /// The socket joined; the closing of the room may have unsubscribed it since.
    Open(Box<Socket>),
    /// The room is closed.
    Refused,
    /// The answer was 503.
    Unavailable,
    /// The socket was closed with 4201.
    Healed,
}

impl JoinOutcome {
    /// Counts a failed join; returns the socket of a successful one.
    fn record(self, counts: &mut Counts) -> Option<Socket> {
        match self {
            Self::Open(socket) => return Some(*socket),
            Self::Refused => counts.refused += 1,
            Self::Unavailable => counts.unavailable += 1,
            Self::Healed => counts.healed += 1,
        }
        None
    }
}

/// The outcome of a join that failed; `None` if it succeeded.
fn failure(answer: &SocketAnswer) -> Option<JoinOutcome> {
    match answer.status {
        200 => None,
        404 | 409 => Some(JoinOutcome::Refused),
        503 => Some(JoinOutcome::Unavailable),
        _ => panic!("{answer}"),
    }
}

/// Sends a request until the answer is not 503: on a busy machine Postgres may lag longer than api waits for it.
async fn send_until_not_503(rest: &Rest, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    eventually("an answer other than 503", || async {
        let answer = rest.send(method.clone(), path, body).await.expect("the node answers");
        (answer.0 != StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
    })
    .await
}

/// Opens a socket and joins the room.
async fn join(cluster: &Cluster, node: usize, user: &str, room: u64) -> JoinOutcome {
    let mut socket = cluster.socket(node, user).await;
    match socket.try_act("join_room", json!({ "room_pk": room })).await {
        Ok(answer) => failure(&answer).unwrap_or_else(|| JoinOutcome::Open(Box::new(socket))),
        Err(error) if is_closed_4201(&error) => JoinOutcome::Healed,
        Err(error) => panic!("{error}"),
    }
}

/// Joins at a random time around the closing, writes, and may leave and join again.
async fn join_meanwhile(cluster: &Cluster, user: &str, room: u64) -> JoinOutcome {
    let mut socket = cluster.socket(rand::random_range(0..2), user).await;
    // The delay makes the join race with the closing: there is no event to wait for.
    sleep(Duration::from_millis(rand::random_range(0..DELAY_MS_MAX))).await;
    match join_and_write(&mut socket, room).await {
        Ok(None) => JoinOutcome::Open(Box::new(socket)),
        Ok(Some(failure)) => failure,
        Err(error) if is_closed_4201(&error) => JoinOutcome::Healed,
        Err(error) => panic!("{error}"),
    }
}

/// Joins, writes, and may leave and join again; returns the outcome of a join that failed.
async fn join_and_write(socket: &mut Socket, room: u64) -> Result<Option<JoinOutcome>, Error> {
    let leaves_first = rand::random_bool(0.3);
    for leaves in [leaves_first, false] {
        let answer = socket.try_act("join_room", json!({ "room_pk": room })).await?;
        if let Some(failure) = failure(&answer) {
            return Ok(Some(failure));
        }
        // The closing may unsubscribe the socket between the two requests, so any status is allowed.
        socket.try_act("create_message", json!({ "room_pk": room, "msg_text": "hello" })).await?;
        if !leaves {
            break;
        }
        socket.try_act("leave_room", json!({ "room_pk": room })).await?;
    }
    Ok(None)
}

/// Whether a socket was closed with 4201.
fn is_closed_4201(error: &Error) -> bool {
    error.to_string().ends_with("closed 4201")
}

/// Checks that the socket is unsubscribed, and that its writes are refused afterwards. False if it was closed with 4201
/// before.
async fn check_unsubscribed(mut socket: Socket, room: u64) -> bool {
    let channel = format!("room-{room}");
    loop {
        match socket.try_event("unsubscribed").await {
            Ok(push) if push.channel == channel => break,
            Ok(_) => {}
            Err(error) if is_closed_4201(&error) => return false,
            Err(error) => panic!("a socket of the closed {channel} must get `unsubscribed`: {error}"),
        }
    }
    let socket = Mutex::new(socket);
    // 503 says nothing about the room.
    let answer = eventually("an answer other than 503 to a message", || async {
        let mut socket = socket.lock().await;
        let answer = socket.act("create_message", json!({ "room_pk": room, "msg_text": "hello" })).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert!(
        matches!(answer.status, 404 | 409),
        "a message to the closed {channel} must be refused: {answer}"
    );
    true
}

/// Creates a room, lets sockets join, and closes it while others join; adds the outcomes to `counts`.
async fn round(cluster: &Cluster, counts: &mut Counts) {
    let ann = cluster.rest(rand::random_range(0..2), "ann");
    let (status, created) =
        send_until_not_503(&ann, Method::POST, paths::ROOMS, &json!({ "name": "open" })).await;
    assert!(status.is_success(), "{status} {created}");
    let room = native::id(&created);
    let mut sockets = Vec::new();
    // Some rooms have no subscriber on a node before the closing.
    for n in 0..rand::random_range(0..=SOCKETS) {
        let node = rand::random_range(0..2);
        sockets.extend(join(cluster, node, &format!("early{n}"), room).await.record(counts));
    }
    let path = paths::room(room);
    let close = async {
        sleep(Duration::from_millis(rand::random_range(0..DELAY_MS_MAX))).await;
        let (status, body) = send_until_not_503(&ann, Method::DELETE, &path, &Value::Null).await;
        // 202 if Postgres lags; 409 if an earlier try with an unknown outcome has closed the room.
        assert!(status.is_success() || status == StatusCode::CONFLICT, "{status} {body}");
    };
    let joins = futures_util::future::join_all((0..SOCKETS).map(async |n| {
        let user = format!("late{n}");
        join_meanwhile(cluster, &user, room).await
    }));
    let ((), outcomes) = tokio::join!(close, joins);
    sockets.extend(outcomes.into_iter().filter_map(|outcome| outcome.record(counts)));
    counts.rounds += 1;
    counts.closed += sockets.len();
    for socket in sockets {
        counts.healed += usize::from(!check_unsubscribed(socket, room).await);
    }
}

#[expect(clippy::print_stdout, reason = "the counts of the run are printed")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_closed_under_joins_and_writes_is_left_by_everyone() {
    let cluster = Arc::new(Cluster::start(Size { api: 2, fanout: 2, ..Size::default() }).await);
    let deadline = Instant::now() + duration();
    let mut tasks = JoinSet::new();
    for _ in 0..CONCURRENT_ROOMS {
        let cluster = cluster.clone();
        tasks.spawn(async move {
            let mut counts = Counts::default();
            while Instant::now() < deadline {
                round(&cluster, &mut counts).await;
            }
            counts
        });
    }
    let mut total = Counts::default();
    while let Some(counts) = tasks.join_next().await {
        let counts = counts.expect("no task panics");
        total.rounds += counts.rounds;
        total.closed += counts.closed;
        total.refused += counts.refused;
        total.unavailable += counts.unavailable;
        total.healed += counts.healed;
    }
    let Counts { rounds, closed, refused, unavailable, healed } = total;
    println!(
        "{rounds} rounds, {closed} sockets unsubscribed, {refused} joins refused, {unavailable} answered 503, \
         {healed} closed with 4201"
    );
    assert!(rounds >= CONCURRENT_ROOMS && closed > healed);
    assert!(
        healed == 0 || !has_safe_clusters(),
        "this nats-server sends live copies in order, so no socket may be closed with 4201"
    );
}
