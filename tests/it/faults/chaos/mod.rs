//! Kills nodes at random under load, then compares the log with what all clients received.
//!
//! `ROOMCAST_CHAOS_SECONDS` sets the duration; the default is short.
//! `ROOMCAST_CHAOS_SEED` repeats the random choices of an earlier run, but not its timing.
//!
//! What must hold, once no node is killed any more: each acknowledged message, edit, deletion and mark is in the log
//! once, and no refused one; history, `changed_after` and Postgres agree with the log; every reader has received
//! each event once, in order, over all its connections; and exactly the connected users are participants.

mod check;
mod reader;
mod truth;
mod visitor;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::rpc::DEADLINE_MS;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tests::paths;
use tests::{
    cluster::{Cluster, Size},
    eventually,
    postgres::Database,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout_at},
};

use reader::Expected;
use visitor::Visitor;
use writer::{Outcome, Request, RequestKind, Writer};

const ROOMS: usize = 10;
const WRITERS: usize = 8;
const READERS: usize = 12;
const VISITORS: usize = 4;

/// Maximum time until Postgres has the end of the log.
const APPLIED: Duration = Duration::from_secs(10);
/// The log is not trimmed during a run, so that all of it can be read at the end, and frames are not limited.
const VARIABLES: [(&str, &str); 2] = [("ROOMCAST_REPLAY", "86400"), ("ROOMCAST_RATE_FRAMES", "off")];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a valid number"))
}

/// Random generator of the `n`th actor of a kind.
fn rng(seed: u64, kind: &str, n: usize) -> StdRng {
    let name = kind.bytes().chain([b'0' + u8::try_from(n).expect("a small number")]);
    StdRng::seed_from_u64(name.fold(seed, |seed, byte| seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)))
}

/// Kills and restarts nodes; returns how often it killed each kind.
async fn kill_nodes(cluster: &mut Cluster, mut rng: StdRng, time: Duration) -> BTreeMap<&'static str, u32> {
    let (start, mut kills) = (Instant::now(), BTreeMap::new());
    while start.elapsed() < time {
        sleep(Duration::from_millis(rng.random_range(500..3_000))).await;
        let (kind, node) = match rng.random_range(0..6) {
            n @ 0..2 => ("api", &mut cluster.api[n]),
            n @ 2..4 => ("fanout", &mut cluster.fanout[n - 2]),
            n => ("persister", &mut cluster.persister[n - 4]),
        };
        node.kill9();
        node.restart();
        *kills.entry(kind).or_default() += 1;
    }
    kills
}

/// Counts requests by kind and outcome, as text.
fn summary(requests: &[Request]) -> String {
    let mut counts: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    for request in requests {
        let kind = match request.kind {
            RequestKind::Message { .. } => "messages",
            RequestKind::Edit { .. } => "edits",
            RequestKind::Delete { .. } => "deletions",
            RequestKind::Mark { .. } => "marks",
        };
        let outcome = match request.outcome {
            Outcome::Done(_) => 0,
            Outcome::Refused => 1,
            Outcome::Unknown => 2,
        };
        counts.entry(kind).or_default()[outcome] += 1;
    }
    let line = |(kind, [done, refused, unknown]): (&&str, &[u32; 3])| {
        format!("{kind} {done} done, {refused} refused, {unknown} unknown")
    };
    counts.iter().map(line).collect::<Vec<_>>().join("; ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the seed and the counts of the run are printed")]
async fn nodes_die_at_random_under_load() {
    let started = Instant::now();
    let time = Duration::from_secs(number("ROOMCAST_CHAOS_SECONDS").unwrap_or(12));
    let seed = number("ROOMCAST_CHAOS_SEED").unwrap_or_else(rand::random);
    println!("ROOMCAST_CHAOS_SEED={seed}");
    let size = Size { api: 2, fanout: 2, persister: 2 };
    let mut cluster = Cluster::start_with(size, Database::shared(), &VARIABLES).await;
    let ann = cluster.rest(0, "ann");
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        rooms.push(ann.create_room(&format!("room {n}")).await);
    }
    let rooms: Arc<[u64]> = rooms.into();
    let nodes: Arc<[String]> = cluster.fanout.iter().map(|node| node.address()).collect();
    let (expected_sender, expected_receiver) = watch::channel(None);
    let mut readers = JoinSet::new();
    for n in 0..READERS {
        let user = format!("reader{n}");
        let read = reader::read(
            nodes.clone(),
            user.clone(),
            rooms.clone(),
            rng(seed, "reader", n),
            expected_receiver.clone(),
        );
        readers.spawn(async move { (user, read.await) });
    }
    eventually("all readers have joined", || async {
        let (_, room) = ann.get(&paths::room(rooms[ROOMS - 1])).await;
        (room["participants"].as_array().map(Vec::len) == Some(READERS)).then_some(())
    })
    .await;
    let (stop, stopped) = watch::channel(false);
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        let user = format!("writer{n}");
        let rests = [cluster.rest(0, &user), cluster.rest(1, &user)];
        writers.spawn(Writer::new(rests, user, rooms.clone(), rng(seed, "writer", n)).run(stopped.clone()));
    }
    let mut visitors = JoinSet::new();
    for n in 0..VISITORS {
        let (nodes, rooms, rng) = (nodes.clone(), rooms.clone(), rng(seed, "visitor", n));
        visitors.spawn(Visitor { user: format!("visitor{n}"), nodes, rooms, rng }.run(stopped.clone()));
    }

    let kills = kill_nodes(&mut cluster, rng(seed, "kill", 0), time).await;
    stop.send_replace(true);
    let requests: Vec<Request> = writers.join_all().await.into_iter().flatten().collect();
    // Requests without an answer may still be stored until then.
    let deadline = tokio::time::Instant::now() + Duration::from_millis(DEADLINE_MS.unsigned_abs());
    let readers_of_each_room: BTreeSet<String> = (0..READERS).map(|n| format!("reader{n}")).collect();
    let mut participants: BTreeMap<u64, BTreeSet<String>> =
        rooms.iter().map(|room| (*room, readers_of_each_room.clone())).collect();
    let mut open_sockets = JoinSet::new();
    for (user, joined, mut socket) in visitors.join_all().await {
        for room in joined {
            participants.entry(room).or_default().insert(user.clone());
        }
        open_sockets.spawn(async move { while socket.next().await.is_ok() {} });
    }
    let _ended = timeout_at(deadline, std::future::pending::<()>()).await;
    let log = eventually("exactly the connected users are participants", || async {
        let log = truth::read(&cluster).await;
        log.iter().all(|(room, log)| log.participants() == participants[room]).then_some(log)
    })
    .await;

    let settled_after = started.elapsed();
    let expected = log.iter().map(|(room, log)| {
        (*room, Expected { events: log.events.clone(), participants: participants[room].clone() })
    });
    let expected: Arc<BTreeMap<u64, Expected>> = Arc::new(expected.collect());
    expected_sender.send_replace(Some(expected.clone()));
    let (mut faults, mut connections, mut heals, mut deliveries, mut joins, mut leaves) =
        (check::requests(&log, &requests), 0, 0, 0, 0, 0);
    let readers = readers.join_all().await;
    let read_after = started.elapsed();
    for (user, (state, _socket)) in &readers {
        faults.extend(check::reader(&expected, user, state));
        connections += state.connections;
        deliveries += state.events.values().map(Vec::len).sum::<usize>();
        heals += state.heals;
        joins += state.joins;
        leaves += state.leaves;
    }
    let pool = cluster.database.pool().await;
    let end = Instant::now() + APPLIED;
    let rows = eventually("Postgres agrees with the log, or has had enough time", || async {
        let faults = check::postgres(&pool, &log).await;
        (faults.is_empty() || Instant::now() > end).then_some(faults)
    });
    faults.extend(rows.await);
    faults.extend(check::api(&cluster.rest(1, "ann"), &log).await);
    println!(
        "{:.0} s (settled after {:.0}, read after {:.0}), kills {kills:?}: {}; {deliveries} deliveries over {connections} connections of {READERS} readers, \
         {heals} closes to heal, {joins} joins and {leaves} leaves seen; {} faults",
        started.elapsed().as_secs_f64(),
        settled_after.as_secs_f64(),
        read_after.as_secs_f64(),
        summary(&requests),
        faults.len()
    );
    for node in cluster.fanout.iter().filter(|_| heals > 0) {
        let log = node.log();
        let late = log.lines().filter(|line| {
            ["something may have been lost", "found after later ones"].iter().any(|text| line.contains(text))
        });
        late.for_each(|line| println!("{line}"));
    }
    assert!(faults.is_empty(), "seed {seed}:\n{}", faults[..faults.len().min(40)].join("\n"));
}
