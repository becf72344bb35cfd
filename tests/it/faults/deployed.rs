//! Tests `deploy/cluster` behind HAProxy: one process of each kind is killed under load.

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

use crate::load::{spawn_load, wait_for_report};

/// A cluster started by the script. It is stopped when the test ends, even by a panic.
struct Deployed {
    script: Process,
    data: Folder,
    address: String,
}

impl Deployed {
    /// Starts the cluster and waits until it reports that it is ready.
    async fn start() -> Self {
        // The provider can be installed once per process; another test may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (data, address) = (Folder::new(), format!("127.0.0.1:{}", free_port()));
        let script = Process::start("script", data.path(), &mut command(&data, &address));
        let mut cluster = Self { script, data, address };
        eventually("the cluster is ready", || {
            assert!(cluster.script.ended().is_none(), "the script ended:\n{}", cluster.script.tail());
            std::future::ready(cluster.script.tail().contains("Ctrl-C stops everything").then_some(()))
        })
        .await;
        cluster
    }

    /// Runs a command of `deploy/cluster`, such as `kill`, for one of its processes.
    fn run_command(&self, operation: &str, name: &str) {
        let mut command = command(&self.data, &self.address);
        let status = command.args([operation, name]).stdout(Stdio::null()).status().expect("the script runs");
        assert!(status.success(), "{operation} {name}");
    }

    /// Number of processes that the script started: they have the data folder in their environment.
    fn processes(&self) -> usize {
        let folder = self.data.path().to_str().expect("the path is UTF-8");
        let entries = fs::read_dir("/proc").expect("/proc can be read").flatten();
        let environments = entries.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
        environments.filter(|environment| String::from_utf8_lossy(environment).contains(folder)).count()
    }

    /// Stops the cluster and checks that no process is left.
    fn stop(mut self) {
        assert!(self.processes() > 10, "the processes of the cluster must be found");
        assert_eq!(self.script.terminate().code(), Some(0), "{}", self.script.tail());
        assert_eq!(self.processes(), 0, "the script must stop every process that it started");
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        // SIGKILL would leave the other processes running.
        if self.script.ended().is_none() {
            self.script.terminate();
        }
    }
}

fn command(data: &Folder, address: &str) -> Command {
    let programs = program("roomcast").parent().expect("the path has a parent").to_owned();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/cluster"));
    command.env("ROOMCAST_DATA", data.path()).env("ROOMCAST_LISTEN", address);
    command.env("ROOMCAST_PROGRAMS", &programs).env("ROOMCAST_JWT_SECRET", SECRET);
    // All load comes from one address.
    command.env("ROOMCAST_RATE_REQUESTS", "off").env("ROOMCAST_RATE_UPGRADES", "off");
    // The folder in which the script finds or installs the current nats-server.
    command.env("CARGO_TARGET_DIR", programs.parent().expect("the path has a parent"));
    command
}

/// Reads all messages of a room by pages of its history; `None` if a page is answered 503.
async fn history(rest: &Rest, room: u64) -> Option<Vec<String>> {
    let (mut texts, mut next) = (Vec::new(), Some("0".to_owned()));
    while let Some(after) = next {
        let (status, page) = rest.get(&format!("{}?after={after}&limit=200", paths::messages(room))).await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        assert_eq!(status, StatusCode::OK, "{page}");
        let results = page["results"].as_array().expect("the answer is a list").clone();
        texts.extend(results.iter().map(|message| message["message"].to_string()));
        next = page["next"].as_str().map(str::to_owned);
    }
    Some(texts)
}

#[tokio::test]
async fn deployed_cluster_survives_kills_of_each_process_under_load() {
    let cluster = Deployed::start().await;
    let rest = Rest::new(&cluster.address, &token("eve"));
    let mut eve = Socket::open(&cluster.address, &token("eve")).await.expect("HAProxy forwards a socket");
    eve.subscribe("system").await;
    let result = Folder::new();
    let run = cluster.data.path().join("run");
    let flags = ["--rooms", "2", "--sockets", "10", "--rate", "40", "--seconds", "10", "--reconnect"];
    let flags = [&flags[..], &["--pids-in", run.to_str().expect("the path is UTF-8")]].concat();
    let child = spawn_load("many-rooms", &cluster.address, &cluster.address, &result, &flags);

    let mut rooms = Vec::new();
    while rooms.len() < 2 {
        rooms.push(eve.event("chatroom").await.data_u64("id"));
    }
    eve.subscribe_room(rooms[0]).await;
    eve.event("chat-message").await;
    let victims = ["fanout-1", "api-1", "persister-1", "nats-1"];
    victims.iter().for_each(|name| cluster.run_command("kill", name));
    victims.iter().for_each(|name| cluster.run_command("start", name));

    let (code, report) = wait_for_report(child, &result).await;
    assert_eq!(code, Some(0), "{report:#}");
    let run = &report["run"];
    assert!(run["reconnects"].as_u64() > Some(0), "sockets of the killed node must reconnect: {report:#}");
    let count = |name: &str| run[name].as_u64().expect("a valid number");
    let acknowledged = usize::try_from(count("sent") - count("refused")).expect("a valid number");
    // While the persister that took over lags, api cannot verify access, and answers 503.
    let stored = eventually("all acknowledged messages are stored", || async {
        let mut stored = history(&rest, rooms[0]).await?;
        stored.extend(history(&rest, rooms[1]).await?);
        (stored.len() >= acknowledged).then_some(stored)
    })
    .await;
    let unique: BTreeSet<_> = stored.iter().collect();
    assert_eq!(unique.len(), stored.len(), "no message may be stored twice");
    cluster.stop();
}
