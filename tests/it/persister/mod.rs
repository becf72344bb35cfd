//! Tests the integrity of log and Postgres: whichever of them loses data, no acknowledged event is doubled,
//! and none is dropped without a report.

mod counts;
mod cut;
mod decodable;
mod full;
mod gone;
mod group;
mod hole;
mod migrations;
mod older;
mod reader;
mod reject;
mod replay;
mod restarts;
mod restore;
mod upgrade;
mod window;
mod writers;

use std::{
    path::Path,
    process::{Command, Output},
};

use log::StreamState;
use protocol::{id::Shard, subject};
use reqwest::Method;
use serde_json::json;
use service::nats::BrokerUser;
use tests::native;
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Node, Size, program},
    eventually,
    postgres::Database,
};

/// One shard besides the system stream, so that every room is in it.
const ONE_SHARD: (&str, &str) = ("ROOMCAST_SHARDS", "1");

fn shard() -> Shard {
    Shard::from_number(0).expect("a valid shard")
}

async fn start() -> Cluster {
    Cluster::start_with(Size::default(), Database::shared(), &[ONE_SHARD]).await
}

/// Sends a message, retrying until api accepts it; returns its id.
async fn send(rest: &Rest, room: u64, text: &str) -> u64 {
    let path = paths::messages(room);
    let body = json!({ "message": text, "client_id": text.get(..100).unwrap_or(text) });
    eventually("a message is acknowledged", || async {
        let (status, message) = rest.send(Method::POST, &path, &body).await.ok()?;
        assert!(status.is_success() || status.as_u16() == 503, "{status} {message}");
        status.is_success().then(|| native::id(&message))
    })
    .await
}

async fn send_all(rest: &Rest, room: u64, texts: std::ops::Range<usize>) -> Vec<u64> {
    let mut ids = Vec::new();
    for n in texts {
        ids.push(send(rest, room, &n.to_string()).await);
    }
    ids
}

/// Waits until a room has `count` rows; returns their ids and texts.
async fn rows(cluster: &Cluster, room: u64, count: usize) -> Vec<(u64, String)> {
    let pool = cluster.database.pool().await;
    let room = i64::try_from(room).expect("a small id");
    eventually("Postgres has all messages", || async {
        let sql = "SELECT id, body FROM message WHERE room = $1 ORDER BY id";
        let rows: Vec<(i64, String)> = sqlx::query_as(sql).bind(room).fetch_all(&pool).await.ok()?;
        (rows.len() >= count).then(|| {
            let rows = rows.into_iter();
            rows.map(|(id, body)| (u64::try_from(id).expect("a valid id"), body)).collect()
        })
    })
    .await
}

/// The rows that messages with these ids must have.
fn expected(ids: &[u64]) -> Vec<(u64, String)> {
    ids.iter().enumerate().map(|(n, id)| (*id, n.to_string())).collect()
}

/// The watermark of a shard: sequence and epoch.
async fn watermark(cluster: &Cluster, shard: Shard) -> (u64, u64) {
    let sql = "SELECT seq, epoch FROM watermark WHERE shard = $1";
    let pool = cluster.database.pool().await;
    let (seq, epoch): (i64, i64) =
        sqlx::query_as(sql).bind(shard.number()).fetch_one(&pool).await.expect("the query succeeds");
    (u64::try_from(seq).expect("a valid sequence"), u64::try_from(epoch).expect("a valid epoch"))
}

async fn count(cluster: &Cluster, table: &'static str) -> i64 {
    let sql = match table {
        "rejected_event" => "SELECT count(*) FROM rejected_event",
        _ => "SELECT count(*) FROM lost_range",
    };
    sqlx::query_scalar(sql).fetch_one(&cluster.database.pool().await).await.expect("the query succeeds")
}

async fn state(cluster: &Cluster, shard: Shard) -> StreamState {
    let jetstream = cluster.jetstream(BrokerUser::Persister).await;
    eventually("the log answers", || async { log::state(&jetstream, shard).await.ok() }).await
}

/// Waits until the persister has checked each stream since the start of the broker.
async fn wait_until_checked(cluster: &Cluster) {
    let jetstream = cluster.jetstream(BrokerUser::Persister).await;
    let mark = format!("broker={}", jetstream.client().server_info().server_id);
    for shard in [Shard::SYSTEM, shard()] {
        eventually("the persister has checked the stream", || async {
            let stream = jetstream.get_stream(subject::stream(shard)).await.ok()?;
            stream.cached_info().config.description.as_ref()?.ends_with(&mark).then_some(())
        })
        .await;
    }
}

/// Value of a node's metric for one shard.
async fn shard_metric(node: &Node, name: &str, shard: Shard) -> f64 {
    let start = format!("{name}{{shard=\"{shard}\"}} ");
    let metrics = node.metrics().await;
    metrics.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0.0)
}

async fn wait_for_metric(node: &Node, name: &str, shard: Shard, enough: f64) {
    eventually(&format!("{name} of shard {shard} is at least {enough}"), || async {
        (shard_metric(node, name, shard).await >= enough).then_some(())
    })
    .await;
}

/// Waits until a persister refuses a shard; returns its readiness text.
async fn wait_until_refused(node: &Node) -> String {
    let text = eventually("the shard is refused", || async {
        node.readyz().await.filter(|text| text.contains("roomcast recover"))
    });
    text.await
}

fn recover(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("roomcast"));
    command.arg("recover").args(arguments);
    command.env("NATS_URL", cluster.nats.url("persister"));
    command.env("DATABASE_URL", cluster.database.url("roomcast_persister"));
    command.env(ONE_SHARD.0, ONE_SHARD.1);
    command.output().expect("roomcast starts")
}

fn output_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Copies the log's folder. Its server must not run.
fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success(), "the folder of the log must be copied");
}

/// Kills the broker and restarts it with the log copied to `older`.
fn restore_log(cluster: &mut Cluster, older: &Path) {
    cluster.nats.kill9();
    let store = cluster.nats.store();
    std::fs::remove_dir_all(&store).expect("the folder of the log is removed");
    copy_folder(older, &store);
    cluster.nats.restart();
}

/// Copies the current log to `copy_to`.
fn copy_log(cluster: &mut Cluster, copy_to: &Path) {
    cluster.nats.kill9();
    copy_folder(&cluster.nats.store(), copy_to);
    cluster.nats.restart();
}
