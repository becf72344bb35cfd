//! Nodes die at random under load, again and again; then what everyone saw is compared.
//!
//! `ROOMCAST_CHAOS_SECONDS` says for how long; the short run of every day is the same run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, token},
    eventually,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

const ROOMS: usize = 10;
const WRITERS: usize = 8;
const READERS: usize = 12;
/// Between a writer's messages.
const PACE: Duration = Duration::from_millis(40);

fn duration() -> Duration {
    let seconds = std::env::var("ROOMCAST_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(15))
}

/// The ids of each room's messages.
type Acknowledged = BTreeMap<u64, BTreeSet<u64>>;

/// What one reader has seen, over all its connections.
#[derive(Debug, Default)]
struct Seen {
    messages: BTreeMap<u64, Vec<u64>>,
    begun: BTreeMap<u64, Value>,
    /// Who is in each room, as it was told.
    people: BTreeMap<u64, BTreeSet<String>>,
    connections: u32,
    unrecovered: u32,
    joins: u32,
    leaves: u32,
    /// A join of someone present, a leave of someone absent.
    contradictions: u32,
}

impl Seen {
    async fn follow(&mut self, socket: &mut Socket, rooms: &[u64]) -> Option<()> {
        for room in rooms {
            let mut frame = json!({ "room_pk": room });
            if let Some(at) = self.begun.get(room) {
                let last = self.messages.get(room).and_then(|ids| ids.last()).copied();
                frame["since"] = last.map_or_else(|| at["id"].clone(), Value::from);
                frame["epoch"] = at["epoch"].clone();
            }
            let answer = socket.act("join_room", frame).await.ok()?;
            let data = &answer["data"];
            if answer["response_status"] != 200 {
                return None;
            }
            self.unrecovered += u32::from(data["position"]["recovered"] != true);
            self.begun.entry(*room).or_insert_with(|| data["position"].clone());
            let people = data["participants"].as_array().into_iter().flatten();
            self.people.insert(*room, people.filter_map(|name| Some(name.as_str()?.to_owned())).collect());
        }
        Some(())
    }

    fn take(&mut self, push: &Value) {
        let data = &push["data"];
        let Some(room) = data["room"].as_u64() else { return };
        let user = || data["user"].as_str().unwrap_or_default().to_owned();
        let people = self.people.entry(room).or_default();
        match push["event"].as_str() {
            Some("chat-message") => {
                self.messages.entry(room).or_default().push(push["id"].as_u64().expect("an id"));
            }
            Some("participant-join") => {
                self.joins += 1;
                self.contradictions += u32::from(!people.insert(user()));
            }
            Some("participant-leave") => {
                self.leaves += 1;
                self.contradictions += u32::from(!people.remove(&user()));
            }
            _ => {}
        }
    }

    /// Has all of these, each once, in order.
    fn has(&self, room: u64, ids: &BTreeSet<u64>) -> bool {
        self.messages.get(&room).is_some_and(|seen| seen.len() >= ids.len())
    }
}

/// Reads until it has all that the writers were acknowledged, wherever nodes are alive.
async fn read(
    nodes: Arc<[String]>,
    reader: usize,
    rooms: Arc<[u64]>,
    mut all: watch::Receiver<Option<Arc<Acknowledged>>>,
) -> (Seen, Socket) {
    let mut seen = Seen::default();
    let name = format!("reader{reader}");
    loop {
        let node = &nodes[rand::random_range(0..nodes.len())];
        let Ok(mut socket) = Socket::open(node, &token(&name)).await else { continue };
        seen.connections += 1;
        if seen.follow(&mut socket, &rooms).await.is_none() {
            continue;
        }
        loop {
            let is_over = all.borrow().as_ref().is_some_and(|all| {
                let everyone = seen.people.values().all(|people| people.len() == READERS);
                everyone && all.iter().all(|(room, ids)| seen.has(*room, ids))
            });
            if is_over {
                // The socket stays open: nobody leaves before everyone has seen everyone.
                return (seen, socket);
            }
            tokio::select! {
                push = socket.push() => match push {
                    Ok(push) => seen.take(&push),
                    Err(_) => break,
                },
                changed = all.changed() => changed.expect("the test lives"),
            }
        }
    }
}

/// Writes at its pace until it is told to stop, each message until it is acknowledged.
async fn write(
    rests: [Rest; 2],
    writer: usize,
    rooms: Arc<[u64]>,
    stop: watch::Receiver<bool>,
) -> Vec<(u64, u64)> {
    let mut acknowledged = Vec::new();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut n = 0;
    while !*stop.borrow() {
        pace.tick().await;
        n += 1;
        let room = rooms[(writer + n) % rooms.len()];
        let key = format!("{writer}:{n}");
        let body = json!({ "message": key, "client_id": key });
        let path = format!("/api/v1/rooms/{room}/messages");
        let tries = std::sync::atomic::AtomicUsize::new(writer);
        let id = eventually("a message is acknowledged", || async {
            let node = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2;
            let (status, message) = rests[node].send(Method::POST, &path, &body).await.ok()?;
            assert!(status.is_success() || status.as_u16() == 503, "{status} {message}");
            message["id"].as_u64().filter(|_| status.is_success())
        });
        acknowledged.push((room, id.await));
    }
    acknowledged
}

/// What the run has come to.
struct Figures {
    seconds: f64,
    kills: u32,
    messages: usize,
    deliveries: usize,
    connections: u32,
    unrecovered: u32,
    joins: u32,
    leaves: u32,
    contradictions: u32,
    lost: usize,
    doubled: usize,
    reordered: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} s, {} kills: {} messages, {} deliveries, {} connections of {READERS} readers, {} not recovered; \
             {} joins and {} leaves seen, {} contradictions; {} lost, {} doubled, {} reordered",
            self.seconds,
            self.kills,
            self.messages,
            self.deliveries,
            self.connections,
            self.unrecovered,
            self.joins,
            self.leaves,
            self.contradictions,
            self.lost,
            self.doubled,
            self.reordered
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the run's figures are what it is for")]
async fn nodes_die_at_random_under_load() {
    let started = Instant::now();
    let mut cluster = Cluster::start(Size { api: 2, fanout: 2, persister: 2 }).await;
    let ann = cluster.rest(0, "ann");
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        rooms.push(ann.make_room(&format!("room {n}")).await);
    }
    let rooms: Arc<[u64]> = rooms.into();
    let nodes: Arc<[String]> = cluster.fanout.iter().map(|node| node.address()).collect();
    let (tell, all) = watch::channel(None);
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        readers.spawn(read(nodes.clone(), reader, rooms.clone(), all.clone()));
    }
    eventually("all readers are in", || async {
        let (_, room) = ann.get(&format!("/api/v1/rooms/{}", rooms[ROOMS - 1])).await;
        (room["participants"].as_array().map(Vec::len) == Some(READERS)).then_some(())
    })
    .await;
    let (stop, stopped) = watch::channel(false);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let user = format!("writer{writer}");
        let rests = [cluster.rest(0, &user), cluster.rest(1, &user)];
        writers.spawn(write(rests, writer, rooms.clone(), stopped.clone()));
    }

    let began = Instant::now();
    let mut kills = 0;
    while began.elapsed() < duration() {
        let pause = rand::random_range(500..3_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let node = match rand::random_range(0..6) {
            n @ 0..2 => &mut cluster.api[n],
            n @ 2..4 => &mut cluster.fanout[n - 2],
            n => &mut cluster.persister[n - 4],
        };
        node.kill9();
        node.restart();
        kills += 1;
    }
    stop.send_replace(true);
    let mut expected: Acknowledged = BTreeMap::new();
    let mut messages = 0;
    while let Some(acknowledged) = writers.join_next().await {
        for (room, id) in acknowledged.expect("a writer ends") {
            messages += 1;
            assert!(expected.entry(room).or_default().insert(id), "two messages share an id");
        }
    }
    let expected = Arc::new(expected);
    tell.send_replace(Some(expected.clone()));
    let mut figures = Figures {
        seconds: 0.0,
        kills,
        messages,
        deliveries: 0,
        connections: 0,
        unrecovered: 0,
        joins: 0,
        leaves: 0,
        contradictions: 0,
        lost: 0,
        doubled: 0,
        reordered: 0,
    };
    for (seen, _) in readers.join_all().await {
        figures.connections += seen.connections;
        figures.unrecovered += seen.unrecovered;
        figures.joins += seen.joins;
        figures.leaves += seen.leaves;
        figures.contradictions += seen.contradictions;
        for (room, ids) in expected.iter() {
            let got = &seen.messages[room];
            let unique: BTreeSet<u64> = got.iter().copied().collect();
            figures.deliveries += got.len();
            figures.doubled += got.len() - unique.len();
            figures.reordered += got.windows(2).filter(|pair| pair[0] > pair[1]).count();
            figures.lost += ids.difference(&unique).count();
        }
    }
    let pool = cluster.database.pool().await;
    let rows = eventually("all rows are there", || async {
        let rows: Vec<(i64, i64)> =
            sqlx::query_as("SELECT room, id FROM message ORDER BY 1, 2").fetch_all(&pool).await.ok()?;
        (rows.len() >= messages).then_some(rows)
    });
    let stored: Vec<(u64, u64)> =
        rows.await.into_iter().map(|(r, id)| (r.unsigned_abs(), id.unsigned_abs())).collect();
    let sent: Vec<(u64, u64)> =
        expected.iter().flat_map(|(room, ids)| ids.iter().map(move |id| (*room, *id))).collect();
    assert_eq!(stored, sent, "Postgres has what was acknowledged, and nothing else");
    figures.seconds = started.elapsed().as_secs_f64();
    println!("{figures}");
    assert_eq!(
        (figures.lost, figures.doubled, figures.reordered, figures.unrecovered, figures.contradictions),
        (0, 0, 0, 0, 0)
    );
}
