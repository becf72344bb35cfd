//! Tests `roomcast replay-rejected`: each rejected event is applied once, and overwrites nothing newer.
//!
//! Instead of an event that only the next version understands, the tests use one of this version: it is appended under
//! an unknown name, and the simulated upgrade gives it its real name in `rejected_event`.

use std::process::{Child, Command, Stdio};

use async_nats::jetstream::Context;
use serde_json::{Value, json};
use service::nats::BrokerUser;
use sqlx::PgPool;
use tests::paths;
use tests::{
    cluster::{Cluster, program},
    eventually,
};

use super::{ONE_SHARD, output_text, rows, send, start};

const CREATED: &str = "2026-11-21T08:51:26.593514Z";

struct Log {
    api: Context,
    pool: PgPool,
    room: u64,
}

impl Log {
    async fn append(&self, event: &str, payload: Value) -> u64 {
        let subject = format!("chat.0.room.{}.{event}", self.room);
        let ack =
            self.api.publish(subject, payload.to_string().into()).await.expect("the message is published");
        ack.await.expect("the event is stored").sequence
    }

    /// Appends a message under an event name that this version does not know.
    async fn message(&self, text: &str) -> u64 {
        let payload = json!({ "message": text, "room": self.room, "user": "ann", "created_at": CREATED });
        self.append("later-chat-message", payload).await
    }

    async fn edit(&self, name: &str, message: u64, text: &str) -> u64 {
        let payload = json!({
            "message_id": message, "message": text, "room": self.room, "user": "ann", "edited_at": CREATED,
        });
        self.append(name, payload).await
    }

    async fn member(&self, name: &str, user: &str) -> u64 {
        self.append(name, json!({ "user": user, "room": self.room, "by": "ann" })).await
    }

    /// Renames the rejected events to names that this version knows, as an upgrade would.
    async fn upgrade(&self) {
        let sql = "UPDATE rejected_event SET subject = replace(subject, '.later-', '.')";
        sqlx::query(sql).execute(&self.pool).await.expect("the events are renamed");
    }

    /// The rows of `rejected_event`: sequence, cause, and whether the event is resolved.
    async fn rejected(&self) -> Vec<(u64, String, bool)> {
        let sql = "SELECT seq, cause, resolved_at IS NOT NULL FROM rejected_event ORDER BY seq";
        let rejected: Vec<(i64, String, bool)> =
            sqlx::query_as(sql).fetch_all(&self.pool).await.expect("the query succeeds");
        rejected
            .into_iter()
            .map(|(seq, cause, is_resolved)| (seq.unsigned_abs(), cause, is_resolved))
            .collect()
    }

    async fn members(&self) -> Vec<String> {
        let sql = "SELECT user_id FROM room_member ORDER BY user_id";
        sqlx::query_scalar(sql).fetch_all(&self.pool).await.expect("the query succeeds")
    }
}

fn spawn_replay(cluster: &Cluster, more: &[&str]) -> Child {
    let mut command = Command::new(program("roomcast"));
    command.arg("replay-rejected").args(more);
    command.env("NATS_URL", cluster.nats.url("persister"));
    command.env("DATABASE_URL", cluster.database.url("roomcast_persister"));
    command.env(ONE_SHARD.0, ONE_SHARD.1);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("roomcast starts")
}

fn wait_for_end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("the replay ends");
    (output.status.code(), output_text(&output))
}

async fn start_log(cluster: &Cluster) -> Log {
    let room = cluster.rest(0, "ann").create_room("general").await;
    Log { api: cluster.jetstream(BrokerUser::Api).await, pool: cluster.database.pool().await, room }
}

#[tokio::test]
async fn rejected_events_are_applied_once_and_undo_nothing_newer() {
    let cluster = start().await;
    let log = start_log(&cluster).await;
    let ann = cluster.rest(0, "ann");
    let edited = log.message("first").await;
    let deleted = log.message("secret").await;
    let message = send(&ann, log.room, "as it was").await;
    let older = log.edit("later-message-edit", message, "older").await;
    log.edit("message-edit", message, "newer").await;
    let edit = log.edit("message-edit", edited, "second").await;
    let deletion =
        json!({ "messages_ids": [deleted], "room": log.room, "user": "ann", "deleted_at": CREATED });
    let delete = log.append("message-delete", deletion).await;
    let add = log.member("later-member-add", "bob").await;
    log.member("member-remove", "bob").await;
    let last = send(&ann, log.room, "goes on").await;
    assert_eq!(
        rows(&cluster, log.room, 2).await,
        [(message, "newer".to_owned()), (last, "goes on".to_owned())]
    );
    let open: Vec<u64> = log.rejected().await.into_iter().map(|(seq, ..)| seq).collect();
    assert_eq!(
        open,
        [edited, deleted, older, edit, delete, add],
        "edits and deletions of a rejected message must wait for it"
    );

    // Before the upgrade no event can be applied.
    let (code, output) = wait_for_end(spawn_replay(&cluster, &[]));
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("0 applied, 0 with nothing to apply, 6 left"), "{output}");

    log.upgrade().await;
    let (code, output) = wait_for_end(spawn_replay(&cluster, &["--dry-run"]));
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("4 applied, 1 with nothing to apply, 1 left"), "{output}");
    assert_eq!(rows(&cluster, log.room, 2).await.len(), 2, "a dry run must change nothing");

    // Runs two replays at once, while the persister writes.
    let (one, two) = (spawn_replay(&cluster, &[]), spawn_replay(&cluster, &[]));
    let meanwhile = send(&ann, log.room, "meanwhile").await;
    let output = [wait_for_end(one), wait_for_end(two)].map(|(_, output)| output).concat();
    assert_eq!(
        output.matches(": applied").count(),
        4,
        "each event must be applied by exactly one replay: {output}"
    );
    assert!(output.contains("a newer edit, was applied"), "{output}");
    let expected = [
        (edited, "second".to_owned()),
        (deleted, String::new()),
        (message, "newer".to_owned()),
        (last, "goes on".to_owned()),
        (meanwhile, "meanwhile".to_owned()),
    ];
    assert_eq!(rows(&cluster, log.room, 5).await, expected);
    assert_eq!(log.members().await, [""; 0], "a user who was removed later must not be added again");
    let unresolved: Vec<u64> = log
        .rejected()
        .await
        .into_iter()
        .filter(|(.., is_resolved)| !is_resolved)
        .map(|(seq, ..)| seq)
        .collect();
    assert_eq!(unresolved, [add], "the event that contradicts a later one must be left for an operator");
    let (_, output) = wait_for_end(spawn_replay(&cluster, &[]));
    assert!(output.contains("0 applied, 0 with nothing to apply, 1 left"), "{output}");

    eventually("search finds the replayed message", || async {
        let (status, found) = ann.get(&format!("{}?q=second", paths::SEARCH)).await;
        (status == 200 && found.to_string().contains("second")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replay_that_is_killed_leaves_each_event_applied_or_as_it_was() {
    let cluster = start().await;
    let log = start_log(&cluster).await;
    let (first, second) = (log.message("first").await, log.message("second").await);
    let last = send(&cluster.rest(0, "ann"), log.room, "last").await;
    rows(&cluster, log.room, 1).await;
    log.upgrade().await;

    // Locks the row of the second event, so that the replay waits after it has inserted the message.
    let mut locking = log.pool.begin().await.expect("the transaction begins");
    let sql = "SELECT seq FROM rejected_event WHERE seq = $1 FOR UPDATE";
    let seq = i64::try_from(second).expect("a valid sequence");
    sqlx::query(sql).bind(seq).execute(&mut *locking).await.expect("the row is locked");
    let mut replay_process = spawn_replay(&cluster, &[]);
    eventually("the replay waits for the lock", || async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                   AND query LIKE 'UPDATE rejected_event%' AND datname = current_database()";
        let waiting: i64 = sqlx::query_scalar(sql).fetch_one(&log.pool).await.ok()?;
        (waiting == 1).then_some(())
    })
    .await;
    replay_process.kill().expect("the replay is killed");
    replay_process.wait().expect("the replay ends");
    locking.rollback().await.expect("the lock is released");

    let rejected = log.rejected().await;
    let expected_rejected =
        [(first, "unreadable".to_owned(), true), (second, "unreadable".to_owned(), false)];
    assert_eq!(rejected, expected_rejected);
    let expected = [(first, "first".to_owned()), (last, "last".to_owned())];
    assert_eq!(rows(&cluster, log.room, 2).await, expected);

    let (code, output) = wait_for_end(spawn_replay(&cluster, &[]));
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 applied, 0 with nothing to apply, 0 left"), "{output}");
    let all = [(first, "first".to_owned()), (second, "second".to_owned()), (last, "last".to_owned())];
    assert_eq!(rows(&cluster, log.room, 3).await, all);
}
