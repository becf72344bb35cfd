//! Plays real conversations by clients that nobody here wrote: many rooms, many writers, and
//! processes that die meanwhile.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::json;
use tests::{
    cluster::{Cluster, Size, token},
    eventually,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const ROOMS: usize = 50;
const WRITERS: usize = 20;
const READERS: usize = 10;
const MESSAGES: usize = 10_000;
/// Longest time between two output lines of the clients.
const LINE_TIMEOUT: Duration = Duration::from_secs(120);

/// Ids by room.
type Messages = BTreeMap<u64, Vec<u64>>;

/// One output line of the clients.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClientLine {
    Acknowledged(usize),
    End { written: Messages, seen: Vec<Messages>, resumes: u32 },
}

/// curl and Python's websockets, as `foreign/conversation.py` plays them.
struct Clients {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Clients {
    async fn start(cluster: &Cluster, rooms: &[u64]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/conversation.py");
        // Debian's Python, which has the package python3-websockets.
        let mut python = Command::new("/usr/bin/python3");
        python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = python.spawn().expect("python3, with the package python3-websockets");
        let people =
            (0..WRITERS).map(|n| format!("writer{n}")).chain((0..READERS).map(|n| format!("reader{n}")));
        let tokens: BTreeMap<String, String> = people.map(|name| (name.clone(), token(&name))).collect();
        let addresses =
            |nodes: &[tests::cluster::Node]| nodes.iter().map(|node| node.address()).collect::<Vec<_>>();
        let task = json!({
            "rooms": rooms, "writers": WRITERS, "readers": READERS, "messages": MESSAGES, "tokens": tokens,
            "api": addresses(&cluster.api), "fanout": addresses(&cluster.fanout),
        });
        let mut input = process.stdin.take().expect("a pipe");
        input.write_all(format!("{task}\n").as_bytes()).await.expect("the clients read their task");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { _process: process, lines }
    }

    async fn next(&mut self) -> ClientLine {
        let line = timeout(LINE_TIMEOUT, self.lines.next_line())
            .await
            .expect("the clients print a line before the timeout");
        let line = line.expect("text").expect("the clients go on; their errors are above");
        serde_json::from_str(&line).expect("a line of the clients' output")
    }

    async fn until_acknowledged(&mut self, count: usize) {
        loop {
            match self.next().await {
                ClientLine::Acknowledged(acknowledged) if acknowledged >= count => return,
                ClientLine::Acknowledged(_) => {}
                ClientLine::End { .. } => {
                    panic!("the clients ended before {count} messages were acknowledged")
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the run's figures are what it is for")]
async fn ten_thousand_messages_arrive_once_while_processes_die() {
    let mut cluster = Cluster::start(Size { api: 2, fanout: 2, persister: 1 }).await;
    let ann = cluster.rest(0, "ann");
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        rooms.push(ann.create_room(&format!("room {n}")).await);
    }
    let mut clients = Clients::start(&cluster, &rooms).await;
    // All readers follow the rooms before the first message, so that each gets every message.
    clients.until_acknowledged(0).await;
    let began = Instant::now();
    for (after, kill) in [(MESSAGES / 5, 'p'), (MESSAGES * 2 / 5, 'f'), (MESSAGES * 3 / 5, 'p')] {
        clients.until_acknowledged(after).await;
        let node = if kill == 'p' { &mut cluster.persister[0] } else { &mut cluster.fanout[0] };
        node.kill9();
        node.restart();
    }
    clients.until_acknowledged(MESSAGES).await;
    let wrote = began.elapsed();
    let ClientLine::End { written, seen, resumes } = clients.next().await else {
        panic!("more messages are acknowledged than were sent")
    };
    let delivered = began.elapsed();
    assert_eq!(written.values().map(Vec::len).sum::<usize>(), MESSAGES);
    assert_eq!(seen.len(), READERS);
    assert!(seen.iter().all(|seen| *seen == written), "every reader got every message once, in order");
    assert!(resumes > 0, "readers of the killed node resumed");

    let pool = cluster.database.pool().await;
    let rows: Vec<(i64, i64)> = eventually("Postgres has all messages", || async {
        let rows: Vec<(i64, i64)> =
            sqlx::query_as("SELECT room, id FROM message ORDER BY room, id").fetch_all(&pool).await.ok()?;
        (rows.len() >= MESSAGES).then_some(rows)
    })
    .await;
    let mut stored = Messages::new();
    for (room, id) in rows {
        let number = |n: i64| u64::try_from(n).expect("an id");
        stored.entry(number(room)).or_default().push(number(id));
    }
    assert_eq!(stored, written, "every message is stored once");
    println!(
        "{MESSAGES} messages, {ROOMS} rooms, {WRITERS} writers: acknowledged in {wrote:.1?}, \
         {} deliveries by {delivered:.1?}, {resumes} resumes, all in Postgres by {:.1?}",
        MESSAGES * READERS,
        began.elapsed()
    );
}
