//! Cuts, stalls and slows connections, and checks that sockets continue, that no message is lost or doubled, and that
//! no message is stored after its sender was answered `not_stored`.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, ProxiedConnection, Size, token},
    eventually,
    native::Subscription,
    proxy::Proxy,
};

use super::kill::{follow, pushed, rows, send_until_acknowledged};

/// Documented time within which a half-open socket is closed.
const HALF_OPEN: Duration = Duration::from_secs(60);

async fn say(rest: &Rest, room: u64, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(rest.send_message(room, &n.to_string()).await);
    }
    ids
}

#[tokio::test]
async fn fanout_cut_from_the_broker_heals() {
    let cluster = Cluster::start_with_proxies(Size::default(), ProxiedConnection::Broker("fanout")).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let mut sent = say(&ann, room, 5).await;
    for _ in 0..3 {
        cluster.fanout[0].proxy().cut();
        sent.extend(say(&ann, room, 20).await);
        cluster.fanout[0].proxy().restore();
        sent.extend(say(&ann, room, 5).await);
    }
    assert_eq!(pushed(&mut socket, sent.len()).await, sent, "the same socket all along");
}

#[tokio::test]
async fn edits_while_fanout_is_cut_off_are_pushed_before_later_messages() {
    let cluster = Cluster::start_with_proxies(Size::default(), ProxiedConnection::Broker("fanout")).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let message = ann.send_message(room, "hello").await;
    let path = paths::message(room, message);
    let mut expected = vec!["chat-message"];
    for round in 0..5 {
        cluster.fanout[0].proxy().cut();
        let edit = json!({ "message": round.to_string() });
        let (status, problem) = ann.patch(&path, edit).await;
        assert_eq!(status, StatusCode::OK, "{problem}");
        cluster.fanout[0].proxy().restore();
        say(&ann, room, 10).await;
        expected.push("message-edit");
        expected.extend(["chat-message"; 10]);
    }
    let mut pushed = Vec::new();
    while pushed.len() < expected.len() {
        let push = socket.push().await;
        if push.has_id() && push.channel == format!("room-{room}") {
            pushed.push(push.event);
        }
    }
    assert_eq!(pushed, expected);
}

#[tokio::test]
async fn fanout_with_a_half_open_link_to_the_broker_heals() {
    let cluster = Cluster::start_with_proxies(Size::default(), ProxiedConnection::Broker("fanout")).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let mut sent = say(&ann, room, 5).await;
    let link = cluster.fanout[0].proxy();
    link.stall();
    // Its pings go unanswered: it gives the link up, and tries another one.
    let (said, ()) = tokio::join!(say(&ann, room, 20), link.connected());
    sent.extend(said);
    link.restore();
    sent.extend(say(&ann, room, 5).await);
    assert_eq!(pushed(&mut socket, sent.len()).await, sent, "the same socket all along");
}

#[tokio::test]
async fn message_that_api_refuses_is_never_stored() {
    let cluster = Cluster::start_with_proxies(Size::default(), ProxiedConnection::Broker("api")).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let path = paths::messages(room);
    let send = |text: String| {
        let (ann, path) = (ann.clone(), path.clone());
        async move { ann.post(&path, json!({ "message": text, "client_id": text })).await }
    };
    let (mut stored, mut unknown, mut refused) = (BTreeSet::new(), BTreeSet::new(), 0);
    for round in 0..3 {
        cluster.api[0].proxy().cut();
        for n in 0..20 {
            let text = format!("{round}.{n}");
            let (status, problem) = send(text.clone()).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
            match problem["code"].as_str() {
                Some("not_stored" | "unavailable") => refused += 1,
                // It may have been on its way when the link was cut.
                Some("outcome_unknown") => drop(unknown.insert(text)),
                _ => panic!("{problem}"),
            }
        }
        cluster.api[0].proxy().restore();
        let text = format!("{round}");
        eventually("api stores again", || async {
            let (status, message) = send(text.clone()).await;
            assert!(status.is_success() || status.as_u16() == 503, "{message}");
            status.is_success().then_some(())
        })
        .await;
        stored.insert(text);
    }
    assert!(refused > unknown.len(), "where the link is known to be cut, the answer is known: {unknown:?}");

    // Rows are written in the log's order: with the last one all are there that ever will be.
    let pool = cluster.database.pool().await;
    let rows: Vec<String> = eventually("the last row is there", || async {
        let sql = "SELECT body FROM message WHERE room = $1 ORDER BY id";
        let rows: Vec<String> =
            sqlx::query_scalar(sql).bind(i64::try_from(room).ok()?).fetch_all(&pool).await.ok()?;
        (rows.last() == stored.last()).then_some(rows)
    })
    .await;
    let set: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(set.len(), rows.len(), "each once: {rows:?}");
    assert!(set.is_superset(&stored), "{rows:?}");
    let more: Vec<_> = set.difference(&stored).filter(|text| !unknown.contains(*text)).collect();
    assert!(more.is_empty(), "refused, and stored all the same: {more:?}");
}

#[tokio::test]
async fn persister_cut_from_postgres_writes_every_event_once() {
    const COUNT: usize = 300;
    let cluster =
        Cluster::start_with_proxies(Size::default(), ProxiedConnection::Database("persister")).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let sending = tokio::spawn(send_until_acknowledged(ann, room, COUNT));
    let link = cluster.persister[0].proxy();
    for _ in 0..3 {
        pushed(&mut socket, COUNT / 10).await;
        link.cut();
        // It is in the middle of its work, and goes on where it was.
        pushed(&mut socket, COUNT / 10).await;
        link.restore();
    }
    let sent: Vec<u64> = sending.await.expect("the sender ends").into_iter().collect();
    assert_eq!(rows(&cluster, room, COUNT).await, sent);
}

/// Reads until it has all messages, and resumes whenever it is closed; returns how often it resumed.
async fn read_all(
    mut socket: Socket,
    node: &str,
    (channel, at): (&str, Subscription),
    sent: &[u64],
) -> usize {
    let (mut seen, mut resumes, mut had) = (Vec::new(), 0, 0);
    while seen.len() < sent.len() {
        let error = match socket.try_event("chat-message").await {
            Ok(push) => {
                seen.push(push.id());
                continue;
            }
            // Where the goodbye could not be written in time, the connection just ends.
            Err(error) => error.to_string(),
        };
        let code: Option<u16> = error.split("closed ").nth(1).and_then(|code| code.parse().ok());
        assert!(code.is_none_or(|code| code == 4200), "{error}");
        assert!(
            resumes == 0 || seen.len() > had,
            "a resume brings nothing: {error}, {had} of {}",
            sent.len()
        );
        (resumes, had) = (resumes + 1, seen.len());
        socket = Socket::open(node, &token("bob")).await.expect("the node takes sockets");
        let since = seen.last().copied().unwrap_or(at.id);
        let frame = json!({ "channel": channel, "since": since, "epoch": at.epoch });
        // Too slow again, it is closed again: what it has got by then counts.
        if let Ok(answer) = socket.try_act("subscribe", frame).await {
            assert_eq!(answer.data["recovered"], true, "{answer}");
        }
    }
    assert_eq!(seen, sent);
    resumes
}

#[tokio::test]
async fn slow_client_is_closed_and_resumes() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let node = cluster.fanout[0].address();
    let link = Proxy::start(node.parse().expect("an address")).await;
    let mut socket = Socket::open(&link.address(), &token("bob")).await.expect("the node takes sockets");
    let channel = format!("room-{room}");
    let at = socket.subscribe(&channel).await;
    link.slow(1_000);
    // Until it is more than the node holds for it, and both kernels.
    let text = "大".repeat(16_000);
    let mut sent = Vec::new();
    loop {
        sent.push(ann.send_message(room, &text).await);
        let metrics = cluster.fanout[0].metrics().await;
        if metrics.contains("roomcast_socket_closes_total{reason=\"slow_consumer\"} 1") {
            break;
        }
        assert!(sent.len() < 1_000, "the node holds whatever there is");
    }
    // What it missed is more than waits for a socket at a time.
    for _ in 0..20 {
        sent.push(ann.send_message(room, &text).await);
    }
    link.restore();
    assert!(read_all(socket, &node, (&channel, at), &sent).await > 0);
}

#[tokio::test]
async fn half_open_socket_is_closed() {
    let cluster = Cluster::start(Size::default()).await;
    let link = Proxy::start(cluster.fanout[0].address().parse().expect("an address")).await;
    let mut socket = Socket::open(&link.address(), &token("bob")).await.expect("the node takes sockets");
    socket.pushes_until_pong().await;
    let began = Instant::now();
    link.stall();
    eventually("the node gives it up", || async {
        let metrics = cluster.fanout[0].metrics().await;
        metrics.contains("roomcast_socket_closes_total{reason=\"dead\"} 1").then_some(())
    })
    .await;
    assert!(began.elapsed() <= HALF_OPEN, "{:?}", began.elapsed());
}

#[tokio::test]
async fn api_gives_up_a_silent_database_and_recovers_when_it_answers() {
    let mut cluster = Cluster::start_with_proxies(Size::default(), ProxiedConnection::Database("api")).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let path = paths::participants(room);
    let many = || join_all((0..20).map(|_| ann.get(&path)));
    assert!(many().await.iter().all(|(status, _)| status.is_success()));
    cluster.api[0].proxy().stall();
    for (status, problem) in many().await {
        assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("unavailable")), "{problem}");
    }
    // Askers that go away take no connection with them.
    assert!(tokio::time::timeout(Duration::from_millis(500), many()).await.is_err(), "nothing answers");
    eventually("it says that it is not ready", || async {
        let said = cluster.api[0].readyz().await?;
        said.contains("Postgres does not answer").then_some(())
    })
    .await;
    let metrics = cluster.api[0].metrics().await;
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("roomcast_database_given_up_total ") && !line.ends_with(" 0")),
        "{metrics}"
    );
    cluster.api[0].proxy().restore();
    for (status, answer) in many().await {
        assert!(status.is_success(), "{answer}");
    }
    cluster.wait_until_ready().await;
}
