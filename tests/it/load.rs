//! Runs `roomcast-load` on a real deployment: a good run ends well, a fault is seen.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tests::{
    cluster::{Cluster, Node, SECRET, Size, program},
    folder::Folder,
    nats::Nats,
    postgres::Database,
};
use tokio::process::{Child, Command};

/// Starts `roomcast-load` against these addresses, with its result in a folder.
pub(crate) fn load(scenario: &str, sockets: &str, api: &str, result: &Folder, flags: &[&str]) -> Child {
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
fn on(cluster: &Cluster, scenario: &str, result: &Folder, flags: &[&str]) -> Child {
    let sockets: Vec<_> = cluster.fanout.iter().map(Node::address).collect();
    load(scenario, &sockets.join(","), &cluster.api[0].address(), result, flags)
}

/// Exit code and result of a run.
pub(crate) async fn outcome(child: Child, result: &Folder) -> (Option<i32>, Value) {
    let output = child.wait_with_output().await.expect("roomcast-load ends");
    let file = std::fs::read_to_string(result.path().join("result.json"));
    let file = file.unwrap_or_else(|_| panic!("no result: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), serde_json::from_str(&file).expect("JSON"))
}

#[tokio::test]
async fn load_scenarios_pass_on_a_healthy_deployment() {
    let cluster = Cluster::start(Size::default()).await;
    let small = ["--rooms", "3", "--sockets", "5", "--seconds", "2", "--rate"];
    for (scenario, flags) in [
        ("big-room", &["60"][..]),
        ("big-room", &["60", "--publish", "socket", "--writers", "2"]),
        ("many-rooms", &["60", "--writers", "2"]),
        ("mixed", &["60", "--churn", "20"]),
        ("storm", &["60", "--missed", "20"]),
        ("idle", &["0"]),
    ] {
        let result = Folder::new();
        let child = on(&cluster, scenario, &result, &[&small[..], flags].concat());
        let (code, found) = outcome(child, &result).await;
        assert_eq!(code, Some(0), "{scenario} {flags:?}: {found:#}");
        let run = &found["run"];
        assert_eq!(run["deliveries"].as_u64() > Some(0), scenario != "idle", "{scenario}: {found:#}");
        if scenario == "storm" {
            assert_eq!(run["deliveries"], 3 * 5 * 20, "each socket misses each room's messages: {found:#}");
        }
        let page = std::fs::read_to_string(result.path().join("result.html")).expect("a page");
        assert!(page.contains("<svg") && !page.contains("http"), "{scenario}: the page needs something else");
    }
}

#[tokio::test]
async fn load_reports_the_limit_that_stops_it() {
    let limits = [("ROOMCAST_RATE_REQUESTS", "1/h:20"), ("ROOMCAST_ADDRESS_HEADER", "x-forwarded-for")];
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &limits).await;
    let result = Folder::new();
    let flags = ["--rooms", "1", "--sockets", "2", "--seconds", "2", "--rate", "60"];
    let output = on(&cluster, "big-room", &result, &flags).wait_with_output().await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("(429)") && said.contains("ROOMCAST_RATE_REQUESTS"), "{said}");
}

#[tokio::test]
async fn joins_and_leaves_are_pushed_on_every_node() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let result = Folder::new();
    let flags = ["--rooms", "3", "--sockets", "6", "--seconds", "3", "--churn", "30"];
    let (code, found) = outcome(on(&cluster, "joins", &result, &flags), &result).await;
    assert_eq!(code, Some(0), "{found:#}");
    let run = &found["run"];
    assert!(run["joins"].as_u64() > Some(0), "who was outside is let in again: {found:#}");
    assert!(run["deliveries"].as_u64() > Some(0), "others hear of it: {found:#}");
}

#[tokio::test]
async fn load_reports_participants_that_should_not_be_there() {
    let cluster = Cluster::start(Size::default()).await;
    let mut eve = cluster.socket(0, "eve").await;
    eve.subscribe("system").await;
    let result = Folder::new();
    let flags = ["--rooms", "1", "--sockets", "4", "--seconds", "4", "--churn", "10"];
    let child = on(&cluster, "joins", &result, &flags);

    let room = eve.event("chatroom").await.data_u64("id");
    // Of those that it takes for its own sockets there are but four.
    let mut other = cluster.socket(0, "load-4").await;
    other.join_room(room).await;

    let (code, found) = outcome(child, &result).await;
    assert_eq!(code, Some(1), "{found:#}");
    let wrong = found["run"]["faults"]["wrong_participants"].as_u64();
    assert!(wrong > Some(1), "the sockets that are inside, and the room's list: {found:#}");
}

#[tokio::test]
async fn load_counts_acknowledgements_beside_those_of_the_bare_broker() {
    let cluster = Cluster::start(Size::default()).await;
    let open = Nats::start_open().await;
    for (publish, broker) in
        [("http", open.url("anyone")), ("socket", open.url("anyone")), ("http", cluster.nats.url("fanout"))]
    {
        let result = Folder::new();
        let flags = ["--rooms", "4", "--seconds", "3", "--publish", publish, "--nats-url", &broker];
        let (code, found) = outcome(on(&cluster, "append", &result, &flags), &result).await;
        assert_eq!(code, Some(0), "{publish}: {found:#}");
        let run = &found["run"];
        assert!(run["acknowledged"].as_u64() > Some(4), "writers go on: {found:#}");
        assert_eq!(run["deliveries"].as_u64() > Some(0), publish == "socket", "{found:#}");
        let may = broker.contains("anyone");
        assert_eq!(run["broker_per_second"].as_f64() > Some(0.0), may, "as its user may: {found:#}");
    }
}

#[tokio::test]
async fn load_reports_messages_that_come_twice() {
    let cluster = Cluster::start(Size::default()).await;
    let mut eve = cluster.socket(0, "eve").await;
    eve.subscribe("system").await;
    let result = Folder::new();
    let flags = ["--sockets", "5", "--rate", "20", "--seconds", "4"];
    let child = on(&cluster, "big-room", &result, &flags);

    let room = eve.event("chatroom").await.data_u64("id");
    eve.subscribe_room(room).await;
    let heard = eve.event("chat-message").await;
    cluster.rest(0, "eve").send_message(room, heard.message()).await;

    let (code, found) = outcome(child, &result).await;
    assert_eq!(code, Some(1), "{found:#}");
    assert_eq!(found["run"]["faults"]["twice"], 5, "each of its sockets got it twice: {found:#}");
}

#[tokio::test]
async fn load_reports_closed_sockets() {
    let mut cluster = Cluster::start(Size::default()).await;
    let mut eve = cluster.socket(0, "eve").await;
    eve.subscribe("system").await;
    let result = Folder::new();
    let child = on(&cluster, "big-room", &result, &["--sockets", "5", "--rate", "20", "--seconds", "4"]);

    let room = eve.event("chatroom").await.data_u64("id");
    eve.subscribe_room(room).await;
    eve.event("chat-message").await;
    cluster.fanout[0].kill9();

    let (code, found) = tokio::time::timeout(Duration::from_secs(60), outcome(child, &result))
        .await
        .expect("it ends without the node");
    assert_eq!(code, Some(1), "{found:#}");
    assert_eq!(found["run"]["faults"]["closed"], 5, "{found:#}");
}
