//! Tests the log reader: over a slow link, and while events are appended.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_nats::jetstream::Context;
use log::LogReader;
use protocol::subject;
use service::nats::{BrokerUser, NatsArgs, connect_once};
use tests::{eventually, proxy::Proxy};
use tokio::task::JoinSet;

use super::{shard, start};

/// Bytes per second of the link: one event takes a second.
const RATE: u32 = 16_000;

async fn consumers(jetstream: &Context) -> usize {
    let stream = jetstream.get_stream(subject::stream(shard())).await.expect("the stream exists");
    stream.cached_info().state.consumer_count
}

#[tokio::test]
async fn reader_over_a_slow_link_reads_by_one_consumer_and_deletes_it() {
    let cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    for _ in 0..3 {
        ann.send_message(room, &"x".repeat(16_000)).await;
    }
    let direct = cluster.jetstream(BrokerUser::Persister).await;
    let before = consumers(&direct).await;
    let proxy = Proxy::start(cluster.nats.address()).await;
    let args =
        NatsArgs { nats_url: proxy.url(&cluster.nats.url(BrokerUser::Fanout.as_str())), nats_ca: None };
    let connection =
        connect_once(&args, BrokerUser::Fanout).await.expect("the broker accepts the connection");
    proxy.slow(RATE);
    let mut reader = LogReader::open(connection.jetstream(), shard(), None, 1);
    let mut read = 0;
    while let Some(event) = reader.next_stored().await.expect("the log can be read") {
        read += usize::from(event.stored.payload.len() > 16_000);
        assert_eq!(consumers(&direct).await, before + 1);
    }
    assert_eq!(read, 3);
    proxy.restore();
    drop(reader);
    eventually("the consumer of the reader is deleted", || async {
        (consumers(&direct).await == before).then_some(())
    })
    .await;
}

/// Number of rooms that are written to and read at the same time.
const ROOMS: u64 = 10;
/// Number of readers opened.
const OPENED: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn reader_that_is_opened_while_events_are_stored_reads_all_that_was_acknowledged_before() {
    let cluster = start().await;
    let jetstream = cluster.jetstream(BrokerUser::Persister).await;
    let acknowledged: Arc<[AtomicU64]> = (0..ROOMS).map(|_| AtomicU64::new(0)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for _ in 0..16 {
        let (acknowledged, stop, log) =
            (acknowledged.clone(), stop.clone(), cluster.jetstream(BrokerUser::Api).await);
        writers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let room = rand::random_range(0..ROOMS);
                let subject = format!("chat.{}.room.{}.chat-message", shard(), room + 1);
                let payload = r#"{"message":"hi"}"#.into();
                let ack = log
                    .publish(subject, payload)
                    .await
                    .expect("the message is published")
                    .await
                    .expect("the event is stored");
                acknowledged[usize::try_from(room).expect("a small number")]
                    .fetch_max(ack.sequence, Ordering::SeqCst);
            }
        });
    }
    let mut incomplete = Vec::new();
    for n in 0..OPENED {
        let room = n % acknowledged.len();
        let last = acknowledged[room].load(Ordering::SeqCst);
        let filter = format!("chat.{}.room.{}.>", shard(), room + 1);
        let mut reader = LogReader::open(jetstream.clone(), shard(), Some(filter), last.saturating_sub(20));
        let mut read = 0;
        while let Some(event) = reader.next_stored().await.expect("the log can be read") {
            read = event.stored.seq;
        }
        if read < last {
            incomplete.push((n, last, read));
        }
    }
    stop.store(true, Ordering::SeqCst);
    writers.join_all().await;
    assert!(incomplete.is_empty(), "{incomplete:?}");
}
