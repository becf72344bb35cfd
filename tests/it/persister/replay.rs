//! Tests `roomcast replay-rejected`: each rejected event is applied once, and undoes nothing newer.
//!
//! An event of this version stands in for one that only the next version understands: it is appended under
//! an unknown name, and gets its name in `rejected_event` where the "upgrade" happens.

use std::process::{Child, Command, Stdio};

use async_nats::jetstream::Context;
use serde_json::{Value, json};
use service::nats::BrokerUser;
use sqlx::PgPool;
use tests::{
    cluster::{Cluster, program},
    eventually,
};

use super::{ONE_SHARD, printed, rows, say, start};

const CREATED: &str = "2026-11-21T08:51:26.593514Z";

struct Log {
    api: Context,
    pool: PgPool,
    room: u64,
}

impl Log {
    async fn append(&self, event: &str, payload: Value) -> u64 {
        let subject = format!("chat.0.room.{}.{event}", self.room);
        let ack = self.api.publish(subject, payload.to_string().into()).await.expect("sent");
        ack.await.expect("stored").sequence
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
        sqlx::query(sql).execute(&self.pool).await.expect("it is changed");
    }

    /// The rows of `rejected_event`: sequence, cause, and whether the event is resolved.
    async fn kept(&self) -> Vec<(u64, String, bool)> {
        let sql = "SELECT seq, cause, resolved_at IS NOT NULL FROM rejected_event ORDER BY seq";
        let kept: Vec<(i64, String, bool)> = sqlx::query_as(sql).fetch_all(&self.pool).await.expect("rows");
        kept.into_iter().map(|(seq, cause, done)| (seq.unsigned_abs(), cause, done)).collect()
    }

    async fn members(&self) -> Vec<String> {
        let sql = "SELECT user_id FROM room_member ORDER BY user_id";
        sqlx::query_scalar(sql).fetch_all(&self.pool).await.expect("rows")
    }
}

fn replay(cluster: &Cluster, more: &[&str]) -> Child {
    let mut command = Command::new(program("roomcast"));
    command.arg("replay-rejected").args(more);
    command.env("NATS_URL", cluster.nats.url("persister"));
    command.env("DATABASE_URL", cluster.database.url("roomcast_persister"));
    command.env(ONE_SHARD.0, ONE_SHARD.1);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

fn finished(replay: Child) -> (Option<i32>, String) {
    let output = replay.wait_with_output().expect("it ends");
    (output.status.code(), printed(&output))
}

async fn begin(cluster: &Cluster) -> Log {
    let room = cluster.rest(0, "ann").create_room("general").await;
    Log { api: cluster.jetstream(BrokerUser::Api).await, pool: cluster.database.pool().await, room }
}

#[tokio::test]
async fn rejected_events_are_applied_once_and_undo_nothing_newer() {
    let cluster = start().await;
    let log = begin(&cluster).await;
    let ann = cluster.rest(0, "ann");
    let edited = log.message("first").await;
    let deleted = log.message("secret").await;
    let here = say(&ann, log.room, "as it was").await;
    let older = log.edit("later-message-edit", here, "older").await;
    log.edit("message-edit", here, "newer").await;
    let edit = log.edit("message-edit", edited, "second").await;
    let gone = json!({ "messages_ids": [deleted], "room": log.room, "user": "ann", "deleted_at": CREATED });
    let delete = log.append("message-delete", gone).await;
    let add = log.member("later-member-add", "bob").await;
    log.member("member-remove", "bob").await;
    let last = say(&ann, log.room, "goes on").await;
    assert_eq!(rows(&cluster, log.room, 2).await, [(here, "newer".to_owned()), (last, "goes on".to_owned())]);
    let open: Vec<u64> = log.kept().await.into_iter().map(|(seq, ..)| seq).collect();
    assert_eq!(
        open,
        [edited, deleted, older, edit, delete, add],
        "what changes a kept message waits with it"
    );

    // Before the upgrade nothing can be applied.
    let (code, said) = finished(replay(&cluster, &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("0 applied, 0 with nothing to apply, 6 left"), "{said}");

    log.upgrade().await;
    let (code, said) = finished(replay(&cluster, &["--dry-run"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("4 applied, 1 with nothing to apply, 1 left"), "{said}");
    assert_eq!(rows(&cluster, log.room, 2).await.len(), 2, "a dry run changes nothing");

    // Two at once, while the persister writes.
    let (one, two) = (replay(&cluster, &[]), replay(&cluster, &[]));
    let meanwhile = say(&ann, log.room, "meanwhile").await;
    let said = [finished(one), finished(two)].map(|(_, said)| said).concat();
    assert_eq!(said.matches(": applied").count(), 4, "each is applied by one of the two: {said}");
    assert!(said.contains("a newer edit, was applied"), "{said}");
    let expected = [
        (edited, "second".to_owned()),
        (deleted, String::new()),
        (here, "newer".to_owned()),
        (last, "goes on".to_owned()),
        (meanwhile, "meanwhile".to_owned()),
    ];
    assert_eq!(rows(&cluster, log.room, 5).await, expected);
    assert_eq!(log.members().await, [""; 0], "who was removed since is not let in");
    let still: Vec<u64> =
        log.kept().await.into_iter().filter(|(.., done)| !done).map(|(seq, ..)| seq).collect();
    assert_eq!(still, [add], "a person decides");
    let (_, said) = finished(replay(&cluster, &[]));
    assert!(said.contains("0 applied, 0 with nothing to apply, 1 left"), "{said}");

    eventually("what was replayed is found", || async {
        let (status, found) = ann.get("/api/v1/messages/search?q=second").await;
        (status == 200 && found.to_string().contains("second")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replay_that_is_killed_leaves_each_event_applied_or_as_it_was() {
    let cluster = start().await;
    let log = begin(&cluster).await;
    let (first, second) = (log.message("first").await, log.message("second").await);
    let last = say(&cluster.rest(0, "ann"), log.room, "last").await;
    rows(&cluster, log.room, 1).await;
    log.upgrade().await;

    // The second event's row is held: its message is written, and not yet committed.
    let mut held = log.pool.begin().await.expect("a transaction");
    let sql = "SELECT seq FROM rejected_event WHERE seq = $1 FOR UPDATE";
    let seq = i64::try_from(second).expect("a sequence");
    sqlx::query(sql).bind(seq).execute(&mut *held).await.expect("it is held");
    let mut killed = replay(&cluster, &[]);
    eventually("the replay waits", || async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                   AND query LIKE 'UPDATE rejected_event%' AND datname = current_database()";
        let waiting: i64 = sqlx::query_scalar(sql).fetch_one(&log.pool).await.ok()?;
        (waiting == 1).then_some(())
    })
    .await;
    killed.kill().expect("it is killed");
    killed.wait().expect("it ends");
    held.rollback().await.expect("it is let go");

    let kept = log.kept().await;
    let done = [(first, "unreadable".to_owned(), true), (second, "unreadable".to_owned(), false)];
    assert_eq!(kept, done);
    let there = [(first, "first".to_owned()), (last, "last".to_owned())];
    assert_eq!(rows(&cluster, log.room, 2).await, there);

    let (code, said) = finished(replay(&cluster, &[]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 applied, 0 with nothing to apply, 0 left"), "{said}");
    let all = [(first, "first".to_owned()), (second, "second".to_owned()), (last, "last".to_owned())];
    assert_eq!(rows(&cluster, log.room, 3).await, all);
}
