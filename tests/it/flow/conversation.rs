//! The main job on real input: many rooms, many writers, and processes that die meanwhile.

use std::{collections::HashMap, sync::Arc, time::Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, token},
    eventually,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

const ROOMS: usize = 50;
const WRITERS: usize = 20;
const MESSAGES: usize = 10_000;
const READERS: usize = 10;

/// Follows all rooms, and comes back to a living node where its own dies, until it has seen all.
async fn read(
    nodes: Arc<[String]>,
    first: usize,
    rooms: Arc<[u64]>,
    total: usize,
) -> (HashMap<u64, Vec<u64>>, u32) {
    let mut seen: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut begun: HashMap<u64, Value> = HashMap::new();
    let (mut count, mut resumes, mut node) = (0, 0, first);
    while count < total {
        let Ok(mut socket) =
            Socket::open(&nodes[node % nodes.len()], &token(&format!("reader{first}"))).await
        else {
            node += 1;
            continue;
        };
        let mut lost = follow(&mut socket, &rooms, &mut begun, &seen).await.is_err();
        while !lost && count < total {
            match socket.event("chat-message").await {
                Ok(push) => {
                    let (room, id) = (push["data"]["room"].as_u64(), push["id"].as_u64());
                    seen.entry(room.expect("a room")).or_default().push(id.expect("an id"));
                    count += 1;
                }
                Err(_) => lost = true,
            }
        }
        if lost {
            resumes += 1;
            node += 1;
        }
    }
    (seen, resumes)
}

async fn follow(
    socket: &mut Socket,
    rooms: &[u64],
    begun: &mut HashMap<u64, Value>,
    seen: &HashMap<u64, Vec<u64>>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    for room in rooms {
        let mut frame = json!({ "channel": format!("room-{room}") });
        if let Some(at) = begun.get(room) {
            let last = seen.get(room).and_then(|ids| ids.last()).copied();
            frame["since"] = last.map_or_else(|| at["id"].clone(), Value::from);
            frame["epoch"] = at["epoch"].clone();
        }
        let answer = socket.act("subscribe", frame).await?;
        assert_eq!(answer["data"]["recovered"], true, "{answer}");
        begun.entry(*room).or_insert_with(|| answer["data"].clone());
    }
    Ok(())
}

/// Sends its share, each message under its own key until it is acknowledged.
async fn write(rest: Rest, writer: usize, rooms: Arc<[u64]>, acked: mpsc::Sender<(u64, u64)>) {
    for n in 0..MESSAGES / WRITERS {
        let room = rooms[(writer + n) % rooms.len()];
        let body = json!({ "message": format!("{writer}:{n}"), "client_id": format!("{writer}:{n}") });
        let path = format!("/api/v1/rooms/{room}/messages");
        let id = eventually("a message is acknowledged", || async {
            let (status, message) = rest.send(Method::POST, &path, &body).await.ok()?;
            assert!(status.is_success() || status.as_u16() == 503, "{status} {message}");
            message["id"].as_u64().filter(|_| status.is_success())
        });
        acked.send((room, id.await)).await.expect("the test lives");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the run's figures are what it is for")]
async fn ten_thousand_messages_while_processes_die() {
    let mut cluster = Cluster::start(Size { api: 2, fanout: 2, persister: 1 }).await;
    let ann = cluster.rest(0, "ann");
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        rooms.push(ann.make_room(&format!("room {n}")).await);
    }
    let rooms: Arc<[u64]> = rooms.into();
    let nodes: Arc<[String]> = cluster.fanout.iter().map(|node| node.address()).collect();
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        readers.spawn(read(nodes.clone(), reader, rooms.clone(), MESSAGES));
    }
    // All readers follow before the first message: each has to see every one.
    eventually("all readers follow", || async {
        let mut followed = 0;
        for node in &cluster.fanout {
            let metrics = node.metrics().await;
            let line =
                metrics.lines().find(|line| line.starts_with("roomcast_resumes_total{outcome=\"new\"}"))?;
            followed += line.rsplit(' ').next()?.parse::<usize>().ok()?;
        }
        (followed >= READERS * ROOMS).then_some(())
    })
    .await;

    let began = Instant::now();
    let (acked, mut acks) = mpsc::channel(1024);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let rest = cluster.rest(writer % 2, &format!("writer{writer}"));
        writers.spawn(write(rest, writer, rooms.clone(), acked.clone()));
    }
    drop(acked);
    let (progress, mut at) = watch::channel(0_usize);
    let collecting = tokio::spawn(async move {
        let mut sent: HashMap<u64, Vec<u64>> = HashMap::new();
        while let Some((room, id)) = acks.recv().await {
            sent.entry(room).or_default().push(id);
            progress.send_modify(|count| *count += 1);
        }
        sent
    });
    for (after, kill) in [(MESSAGES / 5, 'p'), (MESSAGES * 2 / 5, 'f'), (MESSAGES * 3 / 5, 'p')] {
        at.wait_for(|count| *count >= after).await.expect("the writers go on");
        let node = if kill == 'p' { &mut cluster.persister[0] } else { &mut cluster.fanout[0] };
        node.kill9();
        node.restart();
    }
    writers.join_all().await;
    let wrote = began.elapsed();
    let mut sent = collecting.await.expect("it ends");
    sent.values_mut().for_each(|ids| ids.sort_unstable());

    let mut resumes = 0;
    for (seen, resumed) in readers.join_all().await {
        assert_eq!(seen, sent, "every reader saw every message once, in order");
        resumes += resumed;
    }
    let delivered = began.elapsed();
    assert!(resumes > 0, "the node that died had readers");

    let pool = cluster.database.pool().await;
    let rows: Vec<(i64, i64)> = eventually("all rows are there", || async {
        let rows: Vec<(i64, i64)> =
            sqlx::query_as("SELECT room, id FROM message ORDER BY room, id").fetch_all(&pool).await.ok()?;
        (rows.len() >= MESSAGES).then_some(rows)
    })
    .await;
    let mut stored: HashMap<u64, Vec<u64>> = HashMap::new();
    for (room, id) in rows {
        stored
            .entry(u64::try_from(room).expect("an id"))
            .or_default()
            .push(u64::try_from(id).expect("an id"));
    }
    assert_eq!(stored, sent, "every message is stored once");
    println!(
        "{MESSAGES} messages, {ROOMS} rooms, {WRITERS} writers: acknowledged in {wrote:.1?}, \
         {} deliveries by {delivered:.1?}, {resumes} resumes, all in Postgres by {:.1?}",
        MESSAGES * READERS,
        began.elapsed()
    );
}
