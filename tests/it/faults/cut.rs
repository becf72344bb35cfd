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
    client::Socket,
    cluster::{Cluster, ProxiedConnection, Size, token},
    eventually,
    native::Subscription,
    proxy::Proxy,
};

use super::kill::{follow, receive_ids, rows, send_until_acknowledged};

/// Documented time within which a half-open socket is closed.
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn fanout_cut_from_the_broker_heals() {
    let cluster = Cluster::start_with_proxies(Size::default(), ProxiedConnection::Broker("fanout")).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let mut sent = ann.send_messages(room, 5).await;
    for _ in 0..3 {
        cluster.fanout[0].proxy().cut();
        sent.extend(ann.send_messages(room, 20).await);
        cluster.fanout[0].proxy().restore();
        sent.extend(ann.send_messages(room, 5).await);
    }
    assert_eq!(
        receive_ids(&mut socket, sent.len()).await,
        sent,
        "the socket that was open all the time must get each message once, in order"
    );
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
        let (status, answer) = ann.patch(&path, edit).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        cluster.fanout[0].proxy().restore();
        ann.send_messages(room, 10).await;
        expected.push("message-edit");
        expected.extend(["chat-message"; 10]);
    }
    let mut events = Vec::new();
    while events.len() < expected.len() {
        let push = socket.push().await;
        if push.has_id() && push.channel == format!("room-{room}") {
            events.push(push.event);
        }
    }
    assert_eq!(events, expected);
}

#[tokio::test]
async fn fanout_with_a_half_open_link_to_the_broker_heals() {
    let cluster = Cluster::start_with_proxies(Size::default(), ProxiedConnection::Broker("fanout")).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let mut sent = ann.send_messages(room, 5).await;
    let proxy = cluster.fanout[0].proxy();
    proxy.stall();
    // Its pings are not answered, so the node gives the connection up, and opens another one.
    let (sent_meanwhile, ()) = tokio::join!(ann.send_messages(room, 20), proxy.connected());
    sent.extend(sent_meanwhile);
    proxy.restore();
    sent.extend(ann.send_messages(room, 5).await);
    assert_eq!(
        receive_ids(&mut socket, sent.len()).await,
        sent,
        "the socket that was open all the time must get each message once, in order"
    );
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
            let (status, answer) = send(text.clone()).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
            match answer["code"].as_str() {
                Some("not_stored" | "unavailable") => refused += 1,
                // The append may have been on its way when the link was cut.
                Some("outcome_unknown") => drop(unknown.insert(text)),
                _ => panic!("{answer}"),
            }
        }
        cluster.api[0].proxy().restore();
        let text = format!("{round}");
        eventually("api stores messages again", || async {
            let (status, message) = send(text.clone()).await;
            assert!(status.is_success() || status.as_u16() == 503, "{message}");
            status.is_success().then_some(())
        })
        .await;
        stored.insert(text);
    }
    assert!(
        refused > unknown.len(),
        "most writes must be refused as `not_stored`, not as `outcome_unknown`: {unknown:?}"
    );

    // Rows are written in the order of the log: once the last one is there, no earlier row will follow.
    let pool = cluster.database.pool().await;
    let rows: Vec<String> = eventually("Postgres has the last message", || async {
        let sql = "SELECT body FROM message WHERE room = $1 ORDER BY id";
        let rows: Vec<String> =
            sqlx::query_scalar(sql).bind(i64::try_from(room).ok()?).fetch_all(&pool).await.ok()?;
        (rows.last() == stored.last()).then_some(rows)
    })
    .await;
    let set: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(set.len(), rows.len(), "each message must be stored once: {rows:?}");
    assert!(set.is_superset(&stored), "{rows:?}");
    let refused_but_stored: Vec<_> =
        set.difference(&stored).filter(|text| !unknown.contains(*text)).collect();
    assert!(refused_but_stored.is_empty(), "refused messages must not be stored: {refused_but_stored:?}");
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
    let proxy = cluster.persister[0].proxy();
    for _ in 0..3 {
        receive_ids(&mut socket, COUNT / 10).await;
        proxy.cut();
        // The link is cut while the persister works.
        receive_ids(&mut socket, COUNT / 10).await;
        proxy.restore();
    }
    let sent: Vec<u64> = sending.await.expect("the sender does not panic").into_iter().collect();
    assert_eq!(rows(&cluster, room, COUNT).await, sent);
}

/// Reads until it has all messages, and resumes whenever the socket is closed; returns the number of resumes.
async fn read_all(
    mut socket: Socket,
    node: &str,
    (channel, subscription): (&str, Subscription),
    sent: &[u64],
) -> usize {
    let (mut received, mut resumes, mut received_before) = (Vec::new(), 0, 0);
    while received.len() < sent.len() {
        let error = match socket.try_event("chat-message").await {
            Ok(push) => {
                received.push(push.id());
                continue;
            }
            // If the close frame could not be written in time, the connection ends without one.
            Err(error) => error.to_string(),
        };
        let code: Option<u16> = error.split("closed ").nth(1).and_then(|code| code.parse().ok());
        assert!(code.is_none_or(|code| code == 4200), "{error}");
        assert!(
            resumes == 0 || received.len() > received_before,
            "a resume must bring messages: {error}, {received_before} of {}",
            sent.len()
        );
        (resumes, received_before) = (resumes + 1, received.len());
        socket = Socket::open(node, &token("bob")).await.expect("the node accepts a socket");
        let since = received.last().copied().unwrap_or(subscription.id);
        let frame = json!({ "channel": channel, "since": since, "epoch": subscription.epoch });
        // If it is too slow again, it is closed again, and keeps what it has received.
        if let Ok(answer) = socket.try_act("subscribe", frame).await {
            assert_eq!(answer.data["recovered"], true, "{answer}");
        }
    }
    assert_eq!(received, sent);
    resumes
}

#[tokio::test]
async fn slow_client_is_closed_and_resumes() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let node = cluster.fanout[0].address();
    let proxy = Proxy::start(node.parse().expect("a valid address")).await;
    let mut socket = Socket::open(&proxy.address(), &token("bob")).await.expect("the node accepts a socket");
    let channel = format!("room-{room}");
    let subscription = socket.subscribe(&channel).await;
    proxy.slow(1_000);
    // Sends until the outbox and the buffers of both kernels are full.
    let text = "大".repeat(16_000);
    let mut sent = Vec::new();
    loop {
        sent.push(ann.send_message(room, &text).await);
        let metrics = cluster.fanout[0].metrics().await;
        if metrics.contains("roomcast_socket_closes_total{reason=\"slow_consumer\"} 1") {
            break;
        }
        assert!(sent.len() < 1_000, "the node must close a socket that reads too slowly");
    }
    // The missed messages are more than an outbox holds.
    for _ in 0..20 {
        sent.push(ann.send_message(room, &text).await);
    }
    proxy.restore();
    assert!(read_all(socket, &node, (&channel, subscription), &sent).await > 0);
}

#[tokio::test]
async fn half_open_socket_is_closed() {
    let cluster = Cluster::start(Size::default()).await;
    let proxy = Proxy::start(cluster.fanout[0].address().parse().expect("a valid address")).await;
    let mut socket = Socket::open(&proxy.address(), &token("bob")).await.expect("the node accepts a socket");
    socket.pushes_until_pong().await;
    let start = Instant::now();
    proxy.stall();
    eventually("the node closes the socket as dead", || async {
        let metrics = cluster.fanout[0].metrics().await;
        metrics.contains("roomcast_socket_closes_total{reason=\"dead\"} 1").then_some(())
    })
    .await;
    assert!(start.elapsed() <= HALF_OPEN_TIMEOUT, "{:?}", start.elapsed());
}

#[tokio::test]
async fn api_gives_up_a_silent_database_and_recovers_when_it_answers() {
    let mut cluster = Cluster::start_with_proxies(Size::default(), ProxiedConnection::Database("api")).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let path = paths::participants(room);
    let read_20 = || join_all((0..20).map(|_| ann.get(&path)));
    assert!(read_20().await.iter().all(|(status, _)| status.is_success()));
    cluster.api[0].proxy().stall();
    for (status, answer) in read_20().await {
        assert_eq!((status.as_u16(), &answer["code"]), (503, &json!("unavailable")), "{answer}");
    }
    // Clients that give up waiting must not leak database connections.
    assert!(
        tokio::time::timeout(Duration::from_millis(500), read_20()).await.is_err(),
        "requests must wait while Postgres does not answer"
    );
    eventually("api is not ready", || async {
        let text = cluster.api[0].readyz().await?;
        text.contains("Postgres does not answer").then_some(())
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
    for (status, answer) in read_20().await {
        assert!(status.is_success(), "{answer}");
    }
    cluster.wait_until_ready().await;
}
