//! Tests that events that can't be applied are kept unchanged in `rejected_event`, and that their shard continues.

use protocol::{
    event::EventName,
    id::{RoomId, ShardCount},
    subject::Channel,
};
use service::nats::BrokerUser;
use sqlx::AssertSqlSafe;
use tests::cluster::Cluster;

use super::{count, rows, send, shard, start, wait_for_metric};

/// Appends messages to a room while the persister is down, so that it reads them in one batch.
async fn append_unseen(cluster: &mut Cluster, room: u64, texts: &[&str]) {
    cluster.persister[0].kill9();
    let shards = ShardCount::new(1).expect("a valid number of shards");
    let subject = Channel::Room(RoomId(room)).log_subject(shards, EventName::ChatMessage, None);
    let api = cluster.jetstream(BrokerUser::Api).await;
    let mut acks = Vec::new();
    for text in texts {
        let payload = format!(
            r#"{{"message":"{text}","room":{room},"user":"ann","created_at":"2026-11-21T08:51:26.593514Z"}}"#
        );
        acks.push(api.publish(subject.clone(), payload.into()).await.expect("the message is published"));
    }
    for ack in acks {
        ack.await.expect("the event is stored");
    }
}

/// Makes Postgres run a piece of PL/pgSQL after each statement that inserts messages; `new` are its rows.
async fn after_insert(cluster: &Cluster, name: &str, code: &str) {
    let sql = format!(
        "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {code} RETURN NULL; END $$;
         CREATE TRIGGER {name} AFTER INSERT ON message REFERENCING NEW TABLE AS new
         FOR EACH STATEMENT EXECUTE FUNCTION {name}();"
    );
    let pool = cluster.database.pool().await;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect("the trigger is created");
}

#[tokio::test]
async fn event_that_can_not_be_applied_is_kept_and_counted() {
    let cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let first = send(&ann, room, "0").await;
    let shards = ShardCount::new(1).expect("a valid number of shards");
    let subject = Channel::Room(RoomId(room)).log_subject(shards, EventName::ChatMessage, None);
    let message = |text: &str, room: u64| {
        format!(
            r#"{{"message":"{text}","room":{room},"user":"ann","created_at":"2026-11-21T08:51:26.593514Z"}}"#
        )
    };
    let broken = [
        (subject.clone(), "{".to_owned()),
        (subject.clone(), message("a\\u0000b", room)),
        (subject.clone(), message("of another room", room + 1)),
        (subject.replace("chat-message", "from-the-future"), "{}".to_owned()),
    ];
    // Appends as api's user: no other user may append.
    let api = cluster.jetstream(BrokerUser::Api).await;
    let mut acks = Vec::new();
    for (subject, payload) in broken.clone() {
        acks.push(api.publish(subject, payload.into()).await.expect("the message is published"));
    }
    for ack in acks {
        ack.await.expect("the event is stored");
    }
    let last = send(&ann, room, "1").await;
    assert_eq!(rows(&cluster, room, 2).await, [(first, "0".to_owned()), (last, "1".to_owned())]);
    assert_eq!(count(&cluster, "rejected_event").await, 4);
    let rejected: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT subject, payload FROM rejected_event ORDER BY seq")
            .fetch_all(&cluster.database.pool().await)
            .await
            .expect("the query succeeds");
    let sent: Vec<_> = broken.into_iter().map(|(subject, payload)| (subject, payload.into_bytes())).collect();
    assert_eq!(rejected, sent, "rejected events must be kept unchanged and in order");
    wait_for_metric(&cluster.persister[0], "roomcast_rejected_events_total", shard(), 4.0).await;
}

#[tokio::test]
async fn failing_batch_is_made_smaller_until_the_shard_goes_on() {
    let mut cluster = start().await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    // A batch takes longer than the statement timeout; half of it does not.
    let slow = "IF (SELECT count(*) FROM new) > 200 THEN PERFORM pg_sleep(11); END IF;";
    after_insert(&cluster, "slow", slow).await;
    // One event makes Postgres fail with an internal error, whose class does not show what caused it.
    let broken = "IF EXISTS (SELECT FROM new WHERE body = 'poison')
                  THEN RAISE EXCEPTION 'out of cheese' USING ERRCODE = 'XX000'; END IF;";
    after_insert(&cluster, "broken", broken).await;
    let mut texts = vec!["tea"; 300];
    texts[100] = "poison";
    append_unseen(&mut cluster, room, &texts).await;
    cluster.persister[0].restart();
    cluster.wait_until_ready().await;
    let written = rows(&cluster, room, 299).await;
    assert!(written.iter().all(|(_, body)| body == "tea"));
    let reasons: Vec<String> = sqlx::query_scalar("SELECT reason FROM rejected_event")
        .fetch_all(&cluster.database.pool().await)
        .await
        .expect("the query succeeds");
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].contains("out of cheese"), "{reasons:?}");
}

#[tokio::test]
async fn event_that_times_out_alone_again_and_again_is_rejected_and_the_shard_goes_on() {
    let mut cluster = start().await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    // Every statement that writes this event fails with the error of a statement timeout.
    let stuck = "IF EXISTS (SELECT FROM new WHERE body = 'stuck')
                 THEN RAISE EXCEPTION 'out of time' USING ERRCODE = '57014'; END IF;";
    after_insert(&cluster, "stuck", stuck).await;
    append_unseen(&mut cluster, room, &["tea", "stuck", "cake"]).await;
    cluster.persister[0].restart();
    cluster.wait_until_ready().await;
    let written = rows(&cluster, room, 2).await;
    assert_eq!(written.iter().map(|(_, body)| body.as_str()).collect::<Vec<_>>(), ["tea", "cake"]);
    let reasons: Vec<String> = sqlx::query_scalar("SELECT reason FROM rejected_event")
        .fetch_all(&cluster.database.pool().await)
        .await
        .expect("the query succeeds");
    assert!(reasons.len() == 1 && reasons[0].contains("out of time"), "{reasons:?}");
}
