//! Tests resuming: missed events come first, once, and `recovered` is true only where nothing is missing.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use service::nats::BrokerUser;
use tests::paths;
use tests::{
    cluster::{Cluster, Size},
    postgres::Database,
};

#[tokio::test]
async fn missed_events_come_first_on_any_node_under_load() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = cluster.socket(0, "bob").await;
    let channel = format!("room-{room}");
    let mut at = socket.subscribe(&channel).await;
    let writer = tokio::spawn({
        let ann = ann.clone();
        async move {
            let mut ids = Vec::new();
            for n in 0..300 {
                ids.push(ann.send_message(room, &n.to_string()).await);
            }
            ids
        }
    });
    let mut received = Vec::new();
    // Changes between the two nodes five times while messages arrive.
    for n in 0..5 {
        for _ in 0..20 {
            let push = socket.event("chat-message").await;
            received.push(push.id());
        }
        drop(socket);
        socket = cluster.socket((n + 1) % 2, "bob").await;
        at = socket.resume(&channel, *received.last().expect("pushes before"), at.epoch).await;
        assert!(at.recovered);
    }
    let sent = writer.await.expect("the writer ends");
    while received.len() < sent.len() {
        received.push(socket.event("chat-message").await.id());
    }
    assert_eq!(received, sent);
}

#[tokio::test]
async fn channel_beyond_any_ring_is_read_from_the_log_once() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let channel = format!("room-{room}");
    let first = cluster.socket(0, "bob").await.subscribe(&channel).await;
    // 9 MiB of messages; a ring holds 4 MiB.
    let text = "𝄞".repeat(16_384);
    let mut ids = Vec::new();
    for _ in 0..144 {
        ids.push(ann.send_message(room, &text).await);
    }
    // The second node has received none of these messages.
    let replays = async || {
        let metrics = cluster.fanout[1].metrics().await;
        let lines = metrics.lines().filter(|line| line.starts_with("roomcast_replays_total"));
        lines
            .map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("a number"))
            .sum::<u64>()
    };
    let resume = async |since: u64| {
        let mut socket = cluster.socket(1, "bob").await;
        socket.resume(&channel, since, first.epoch).await.recovered
    };
    let old = first.id;
    assert!(!resume(old).await);
    assert_eq!(replays().await, 1);
    for since in [old, old, ids[0], ids[1]] {
        assert!(!resume(since).await);
    }
    assert_eq!(replays().await, 1, "the node remembers that the resume is too old");
    assert!(resume(ids[ids.len() - 20]).await, "events of the ring are served");
    let read = replays().await;
    assert!(resume(ids[ids.len() - 10]).await);
    assert_eq!(replays().await, read, "the ring serves the second resume");
}

#[tokio::test]
async fn channels_that_resume_at_once_are_each_read_once() {
    const ROOMS: usize = 40;
    const EVENTS: usize = 25;
    let one_shard = [("ROOMCAST_SHARDS", "1")];
    let size = Size { fanout: 2, ..Size::default() };
    let cluster = Cluster::start_with(size, Database::shared(), &one_shard).await;
    let ann = cluster.rest(0, "ann");
    let rooms = ann.create_rooms(ROOMS).await;
    let mut socket = cluster.socket(0, "bob").await;
    let mut resumes = Vec::new();
    for room in &rooms {
        let channel = format!("room-{room}");
        let followed = socket.subscribe(&channel).await;
        resumes.push(json!({ "channel": channel, "since": followed.id, "epoch": followed.epoch }));
    }
    let sent_ids = stream::iter((0..ROOMS * EVENTS).map(|n| ann.send_message(rooms[n % ROOMS], "m")));
    sent_ids.buffer_unordered(32).collect::<Vec<_>>().await;
    // Two people on a node that has received none of these messages.
    let sockets = stream::iter(["bob", "eve"]).then(|user| cluster.socket(1, user)).collect::<Vec<_>>().await;
    let resumed = sockets.into_iter().map(async |mut socket| {
        for (n, resume) in resumes.iter().enumerate() {
            let mut frame = resume.clone();
            (frame["action"], frame["request_id"]) = ("subscribe".into(), n.into());
            socket.send_text(&frame.to_string()).await.expect("the socket is open");
        }
        let (mut answers, mut events) = (0, 0);
        while answers < ROOMS || events < ROOMS * EVENTS {
            let frame = socket.next().await.expect("the socket is open");
            if frame["request_id"].is_u64() {
                assert_eq!(frame["data"]["recovered"], true, "{frame}");
                answers += 1;
            }
            events += usize::from(frame["event"] == "chat-message");
        }
    });
    futures_util::future::join_all(resumed).await;
    let metrics = cluster.fanout[1].metrics().await;
    let replays: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("roomcast_replays_total")).collect();
    assert_eq!(replays, [format!("roomcast_replays_total{{outcome=\"read\"}} {ROOMS}")]);
}

#[tokio::test]
async fn resume_from_another_epoch_or_the_future_is_not_recovered() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let id = ann.send_message(room, "hello").await;
    let mut socket = cluster.socket(0, "bob").await;
    let channel = format!("room-{room}");
    let future = json!({ "channel": channel, "since": id + 1_000_000 });
    assert_eq!(socket.act_ok("subscribe", future).await["recovered"], false);
    let mut socket = cluster.socket(0, "bob").await;
    let other = json!({ "channel": channel, "since": id, "epoch": 999 });
    assert_eq!(socket.act_ok("subscribe", other).await["recovered"], false);
}

#[tokio::test]
async fn resume_is_not_recovered_where_events_are_trimmed_during_the_replay() {
    const COUNT: usize = 1_000;
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let ann = cluster.rest(0, "ann");
    for round in 0_u64..6 {
        let room = ann.create_room("general").await;
        let ann = &ann;
        let sent_ids: Vec<u64> = stream::iter(0..COUNT)
            .map(|n| async move { ann.send_message(room, &n.to_string()).await })
            .buffer_unordered(32)
            .collect()
            .await;
        let (first, last) = (
            *sent_ids.iter().min().expect("at least one message"),
            *sent_ids.iter().max().expect("at least one message"),
        );
        // A read of the history waits until Postgres has all messages.
        ann.get(&paths::messages(room)).await;
        let (jetstream, shard) =
            (cluster.jetstream(BrokerUser::Persister).await, cluster.shard_of(room).await);
        let mut socket = cluster.socket(1, "bob").await;
        // In each round the log is trimmed earlier during the replay.
        let trimming = async {
            tokio::time::sleep(Duration::from_millis(20 - 4 * round)).await;
            log::purge_below(&jetstream, shard, last).await.expect("the stream is purged");
        };
        let channel = json!({ "channel": format!("room-{room}"), "since": first });
        let (answer, ()) = tokio::join!(socket.act_ok("subscribe", channel), trimming);
        let missed = socket.pushes_until_pong().await;
        if answer["recovered"] == true {
            assert_eq!(missed.len(), COUNT - 1, "a recovered resume pushes every missed event");
        } else {
            assert!(missed.is_empty(), "a resume that is not recovered pushes no missed event");
        }
    }
}
