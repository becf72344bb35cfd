//! Runs `roomcast-load` on a real deployment: it must report faults, and none if there are none.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tests::{
    cluster::{Cluster, Node, SECRET, Size, program},
    folder::Folder,
    nats::Nats,
    postgres::Database,
};
use tokio::process::{Child, Command};

/// Starts `roomcast-load` against these addresses; it writes its result to a folder.
pub(crate) fn spawn_load(scenario: &str, sockets: &str, api: &str, result: &Folder, flags: &[&str]) -> Child {
    let mut command = Command::new(program("roomcast-load"));
    command.args([scenario, "--address", sockets]);
    command.args(["--api", api, "--connections", "4", "--warmup", "0"]);
    command.args(flags);
    command.arg("--json").arg(result.path().join("result.json"));
    command.arg("--html").arg(result.path().join("result.html"));
    command.env("ROOMCAST_JWT_SECRET", SECRET).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("roomcast-load starts")
}

/// Starts `roomcast-load` against a cluster.
fn spawn_on(cluster: &Cluster, scenario: &str, result: &Folder, flags: &[&str]) -> Child {
    let sockets: Vec<_> = cluster.fanout.iter().map(Node::address).collect();
    spawn_load(scenario, &sockets.join(","), &cluster.api[0].address(), result, flags)
}

/// Waits for the end of a run; returns its exit code and its result.
pub(crate) async fn wait_for_report(child: Child, result: &Folder) -> (Option<i32>, Value) {
    let output = child.wait_with_output().await.expect("roomcast-load ends");
    let file = std::fs::read_to_string(result.path().join("result.json"));
    let file = file.unwrap_or_else(|_| panic!("no result: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), serde_json::from_str(&file).expect("valid JSON"))
}

#[tokio::test]
async fn load_scenarios_pass_on_a_healthy_deployment() {
    let cluster = Cluster::start(Size::default()).await;
    let common_flags = ["--rooms", "3", "--sockets", "5", "--seconds", "2", "--rate"];
    for (scenario, flags) in [
        ("big-room", &["60"][..]),
        ("big-room", &["60", "--publish", "socket", "--writers", "2"]),
        ("many-rooms", &["60", "--writers", "2"]),
        ("mixed", &["60", "--churn", "20"]),
        ("storm", &["60", "--missed", "20"]),
        ("idle", &["0"]),
    ] {
        let result = Folder::new();
        let child = spawn_on(&cluster, scenario, &result, &[&common_flags[..], flags].concat());
        let (code, report) = wait_for_report(child, &result).await;
        assert_eq!(code, Some(0), "{scenario} {flags:?}: {report:#}");
        let run = &report["run"];
        assert_eq!(run["deliveries"].as_u64() > Some(0), scenario != "idle", "{scenario}: {report:#}");
        if scenario == "storm" {
            assert_eq!(
                run["deliveries"],
                3 * 5 * 20,
                "each socket must get all messages that its room missed: {report:#}"
            );
        }
        let page = std::fs::read_to_string(result.path().join("result.html")).expect("the page is written");
        assert!(
            page.contains("<svg") && !page.contains("http"),
            "{scenario}: the page must have plots, and load no other files"
        );
    }
}

#[tokio::test]
async fn load_reports_the_limit_that_stops_it() {
    let limits = [("ROOMCAST_RATE_REQUESTS", "1/h:20"), ("ROOMCAST_ADDRESS_HEADER", "x-forwarded-for")];
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &limits).await;
    let result = Folder::new();
    let flags = ["--rooms", "1", "--sockets", "2", "--seconds", "2", "--rate", "60"];
    let output =
        spawn_on(&cluster, "big-room", &result, &flags).wait_with_output().await.expect("the load ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("(429)") && stderr.contains("ROOMCAST_RATE_REQUESTS"), "{stderr}");
}

#[tokio::test]
async fn joins_and_leaves_are_pushed_on_every_node() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let result = Folder::new();
    let flags = ["--rooms", "3", "--sockets", "6", "--seconds", "3", "--churn", "30"];
    let (code, report) = wait_for_report(spawn_on(&cluster, "joins", &result, &flags), &result).await;
    assert_eq!(code, Some(0), "{report:#}");
    let run = &report["run"];
    assert!(run["joins"].as_u64() > Some(0), "sockets must join again: {report:#}");
    assert!(
        run["deliveries"].as_u64() > Some(0),
        "joins and leaves must be pushed to the other sockets: {report:#}"
    );
}

#[tokio::test]
async fn load_reports_participants_that_should_not_be_there() {
    let cluster = Cluster::start(Size::default()).await;
    let mut eve = cluster.socket(0, "eve").await;
    eve.subscribe("system").await;
    let result = Folder::new();
    let flags = ["--rooms", "1", "--sockets", "4", "--seconds", "4", "--churn", "10"];
    let child = spawn_on(&cluster, "joins", &result, &flags);

    let room = eve.event("chatroom").await.data_u64("id");
    // The load has sockets load-0 to load-3: this user looks like one of them, but is not.
    let mut other = cluster.socket(0, "load-4").await;
    other.join_room(room).await;

    let (code, report) = wait_for_report(child, &result).await;
    assert_eq!(code, Some(1), "{report:#}");
    let wrong = report["run"]["faults"]["wrong_participants"].as_u64();
    assert!(wrong > Some(1), "the joined sockets and the room's list must be wrong: {report:#}");
}

#[tokio::test]
async fn load_counts_acknowledgements_beside_those_of_the_bare_broker() {
    let cluster = Cluster::start(Size::default()).await;
    let open_broker = Nats::start_open().await;
    for (publish, broker) in [
        ("http", open_broker.url("anyone")),
        ("socket", open_broker.url("anyone")),
        ("http", cluster.nats.url("fanout")),
    ] {
        let result = Folder::new();
        let flags = ["--rooms", "4", "--seconds", "3", "--publish", publish, "--nats-url", &broker];
        let (code, report) = wait_for_report(spawn_on(&cluster, "append", &result, &flags), &result).await;
        assert_eq!(code, Some(0), "{publish}: {report:#}");
        let run = &report["run"];
        assert!(
            run["acknowledged"].as_u64() > Some(4),
            "the writers must send more than one message each: {report:#}"
        );
        assert_eq!(run["deliveries"].as_u64() > Some(0), publish == "socket", "{report:#}");
        let may_create_streams = broker.contains("anyone");
        assert_eq!(
            run["broker_per_second"].as_f64() > Some(0.0),
            may_create_streams,
            "the broker's rate must be measured exactly if its user may create a stream: {report:#}"
        );
    }
}

#[tokio::test]
async fn load_reports_messages_that_come_twice() {
    let cluster = Cluster::start(Size::default()).await;
    let mut eve = cluster.socket(0, "eve").await;
    eve.subscribe("system").await;
    let result = Folder::new();
    let flags = ["--sockets", "5", "--rate", "20", "--seconds", "4"];
    let child = spawn_on(&cluster, "big-room", &result, &flags);

    let room = eve.event("chatroom").await.data_u64("id");
    eve.subscribe_room(room).await;
    let push = eve.event("chat-message").await;
    cluster.rest(0, "eve").send_message(room, push.message()).await;

    let (code, report) = wait_for_report(child, &result).await;
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(
        report["run"]["faults"]["twice"], 5,
        "each of the load's 5 sockets must report the doubled message: {report:#}"
    );
}

#[tokio::test]
async fn load_reports_closed_sockets() {
    let mut cluster = Cluster::start(Size::default()).await;
    let mut eve = cluster.socket(0, "eve").await;
    eve.subscribe("system").await;
    let result = Folder::new();
    let child =
        spawn_on(&cluster, "big-room", &result, &["--sockets", "5", "--rate", "20", "--seconds", "4"]);

    let room = eve.event("chatroom").await.data_u64("id");
    eve.subscribe_room(room).await;
    eve.event("chat-message").await;
    cluster.fanout[0].kill9();

    let (code, report) = tokio::time::timeout(Duration::from_secs(60), wait_for_report(child, &result))
        .await
        .expect("the load ends although the node is gone");
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(report["run"]["faults"]["closed"], 5, "{report:#}");
}
