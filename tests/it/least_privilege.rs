//! Tests that Postgres and the broker refuse a service everything that it does not need.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerError};
use protocol::id::{RoomId, Shard, ShardCount};
use protocol::{event::EventName, subject};
use serde_json::json;
use tests::cluster::{Cluster, Size};
use tokio::sync::mpsc;

#[tokio::test]
async fn database_user_of_api_may_only_read() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    ann.send_message(room, "hello").await;
    let pool =
        sqlx::PgPool::connect(&cluster.database.url("roomcast_api")).await.expect("the login succeeds");
    let mut session = pool.acquire().await.expect("the session opens");
    sqlx::query("SET default_transaction_read_only = off")
        .execute(&mut *session)
        .await
        .expect("the setting may be changed");
    for statement in [
        "INSERT INTO watermark (shard, seq) VALUES (99, 1)",
        "UPDATE message SET body = 'x'",
        "DELETE FROM message",
        "TRUNCATE message",
        "DELETE FROM message_search",
        "DELETE FROM search_due",
        "CREATE TABLE mine (id int)",
        "SET ROLE roomcast_owner",
    ] {
        let error = sqlx::query(statement).execute(&mut *session).await.expect_err(statement);
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}");
    }
    let pool =
        sqlx::PgPool::connect(&cluster.database.url("roomcast_persister")).await.expect("the login succeeds");
    for statement in ["CREATE TABLE mine (id int)", "DROP TABLE message"] {
        assert!(sqlx::query(statement).execute(&pool).await.is_err(), "{statement}");
    }
}

async fn connect(cluster: &Cluster, user: &str) -> (Client, mpsc::Receiver<String>) {
    let (refused, refusals) = mpsc::channel(16);
    let client = ConnectOptions::new()
        .custom_inbox_prefix(format!("_INBOX_{user}"))
        .event_callback(move |event| {
            let refused = refused.clone();
            async move {
                if let Event::ServerError(ServerError::Other(text)) = event {
                    let _ = refused.send(text).await;
                }
            }
        })
        .user_and_password(user.to_owned(), tests::nats::PASSWORD.to_owned())
        .connect(cluster.nats.address().to_string())
        .await
        .expect("the login succeeds");
    (client, refusals)
}

async fn expect_refusal(refusals: &mut mpsc::Receiver<String>, action: &str) {
    let refusal = tokio::time::timeout(Duration::from_secs(10), refusals.recv()).await;
    let text = refusal
        .unwrap_or_else(|_| panic!("the broker must refuse this: {action}"))
        .expect("the client is connected");
    assert!(text.to_lowercase().contains("permissions violation"), "{action}: {text}");
}

#[tokio::test]
async fn broker_users_are_refused_subjects_of_other_services() {
    let cluster = Cluster::shared().await;
    let shards = ShardCount::new(8).expect("a valid number of shards");
    let room = subject::Channel::Room(RoomId(1));
    let chat = room.log_subject(shards, EventName::ChatMessage, None);
    let live = chat.replacen("chat", "live", 1);
    let create = format!("$JS.API.STREAM.CREATE.{}", subject::stream(Shard::SYSTEM));
    let purge = format!("$JS.API.STREAM.PURGE.{}", subject::stream(Shard::SYSTEM));
    let applied = subject::applied(Shard::SYSTEM);
    let (alive, dead, echo) = (subject::alive(7), subject::dead(7), subject::echo(7));
    let table = [
        ("api", vec![&create, &purge, &applied, &live, &alive], ["_INBOX_fanout.>", "_INBOX.>"]),
        ("fanout", vec![&create, &purge, &applied, &chat, &live, &dead, &echo], ["_INBOX_api.>", "rpc.>"]),
        ("persister", vec![&chat, &live, &alive, &dead], ["_INBOX_api.>", "live.>"]),
    ];
    for (user, publish, subscribe) in table {
        let (client, mut refusals) = connect(&cluster, user).await;
        for subject in publish {
            client
                .publish(subject.clone(), json!({}).to_string().into())
                .await
                .expect("the message is published");
            expect_refusal(&mut refusals, &format!("{user} publishes {subject}")).await;
        }
        for subject in subscribe {
            let _subscription = client.subscribe(subject).await.expect("the subscription is sent");
            expect_refusal(&mut refusals, &format!("{user} subscribes {subject}")).await;
        }
    }
}
