//! Tests `deploy/cluster` as a person starts it: behind HAProxy, one process of each kind killed under load.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use reqwest::StatusCode;
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{SECRET, program, token},
    eventually,
    folder::Folder,
    process::{Process, free_port},
};

use crate::load::{load, outcome};

/// A cluster started by the script. It is stopped when the test ends, even by a panic.
struct Deployed {
    script: Process,
    data: Folder,
    address: String,
}

impl Deployed {
    /// Starts the cluster and waits until it reports that it is ready.
    async fn start() -> Self {
        // One provider of cryptography, set once a process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (data, address) = (Folder::new(), format!("127.0.0.1:{}", free_port()));
        let script = Process::start("script", data.path(), &mut command(&data, &address));
        let mut cluster = Self { script, data, address };
        eventually("the cluster is ready", || {
            assert!(cluster.script.ended().is_none(), "it ended:\n{}", cluster.script.tail());
            std::future::ready(cluster.script.tail().contains("Ctrl-C stops everything").then_some(()))
        })
        .await;
        cluster
    }

    /// Runs `deploy/cluster kill`, or another command, for one of its processes.
    fn tell(&self, what: &str, name: &str) {
        let mut command = command(&self.data, &self.address);
        let status = command.args([what, name]).stdout(Stdio::null()).status().expect("a shell");
        assert!(status.success(), "{what} {name}");
    }

    /// Number of processes with the data folder in their environment: all that the script started.
    fn processes(&self) -> usize {
        let folder = self.data.path().to_str().expect("a plain path");
        let entries = fs::read_dir("/proc").expect("Linux").flatten();
        let environments = entries.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
        environments.filter(|environment| String::from_utf8_lossy(environment).contains(folder)).count()
    }

    /// Stops the cluster and checks that no process is left.
    fn stop(mut self) {
        assert!(self.processes() > 10, "they are seen");
        assert_eq!(self.script.terminate().code(), Some(0), "{}", self.script.tail());
        assert_eq!(self.processes(), 0, "left behind");
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        // Killed at once it would leave all others behind.
        if self.script.ended().is_none() {
            self.script.terminate();
        }
    }
}

fn command(data: &Folder, address: &str) -> Command {
    let programs = program("roomcast").parent().expect("a folder").to_owned();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/cluster"));
    command.env("ROOMCAST_DATA", data.path()).env("ROOMCAST_LISTEN", address);
    command.env("ROOMCAST_PROGRAMS", &programs).env("ROOMCAST_JWT_SECRET", SECRET);
    // All load comes from one address.
    command.env("ROOMCAST_RATE_REQUESTS", "off").env("ROOMCAST_RATE_UPGRADES", "off");
    // Where the current nats-server is, or is put.
    command.env("CARGO_TARGET_DIR", programs.parent().expect("a folder"));
    command
}

/// Reads all messages of a room by pages of its history; `None` if a page is refused for now.
async fn history(rest: &Rest, room: u64) -> Option<Vec<String>> {
    let (mut texts, mut next) = (Vec::new(), Some("0".to_owned()));
    while let Some(after) = next {
        let (status, page) = rest.get(&format!("{}?after={after}&limit=200", paths::messages(room))).await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        assert_eq!(status, StatusCode::OK, "{page}");
        let results = page["results"].as_array().expect("a list").clone();
        texts.extend(results.iter().map(|message| message["message"].to_string()));
        next = page["next"].as_str().map(str::to_owned);
    }
    Some(texts)
}

#[tokio::test]
async fn deployed_cluster_survives_kills_of_each_process_under_load() {
    let cluster = Deployed::start().await;
    let rest = Rest::new(&cluster.address, &token("eve"));
    let mut eve = Socket::open(&cluster.address, &token("eve")).await.expect("HAProxy takes sockets");
    eve.subscribe("system").await;
    let result = Folder::new();
    let run = cluster.data.path().join("run");
    let flags = ["--rooms", "2", "--sockets", "10", "--rate", "40", "--seconds", "10", "--reconnect"];
    let flags = [&flags[..], &["--pids-in", run.to_str().expect("a plain path")]].concat();
    let child = load("many-rooms", &cluster.address, &cluster.address, &result, &flags);

    let mut rooms = Vec::new();
    while rooms.len() < 2 {
        rooms.push(eve.event("chatroom").await.data_u64("id"));
    }
    eve.subscribe_room(rooms[0]).await;
    eve.event("chat-message").await;
    let victims = ["fanout-1", "api-1", "persister-1", "nats-1"];
    victims.iter().for_each(|name| cluster.tell("kill", name));
    victims.iter().for_each(|name| cluster.tell("start", name));

    let (code, found) = outcome(child, &result).await;
    assert_eq!(code, Some(0), "{found:#}");
    let run = &found["run"];
    assert!(
        run["reconnects"].as_u64() > Some(0),
        "some of its sockets were on the node that died: {found:#}"
    );
    let count = |name: &str| run[name].as_u64().expect("a number");
    let acknowledged = usize::try_from(count("sent") - count("refused")).expect("a count");
    // The persister that took over may be behind still: then it is not known who may read.
    let stored = eventually("all that was acknowledged is stored", || async {
        let mut stored = history(&rest, rooms[0]).await?;
        stored.extend(history(&rest, rooms[1]).await?);
        (stored.len() >= acknowledged).then_some(stored)
    })
    .await;
    let once: BTreeSet<_> = stored.iter().collect();
    assert_eq!(once.len(), stored.len(), "stored twice");
    cluster.stop();
}
