//! Reading the log over a link on which each event takes long: it comes all the same, by one consumer.

use async_nats::jetstream::Context;
use shared::{
    log::Reader,
    nats::{NatsArgs, Role, connect_once},
    subject,
};
use tests::{eventually, proxy::Proxy};

use super::{shard, start};

/// Bytes a second: an event takes a second.
const RATE: u32 = 16_000;

async fn consumers(jetstream: &Context) -> usize {
    let stream = jetstream.get_stream(subject::stream(shard())).await.expect("a stream");
    stream.cached_info().state.consumer_count
}

#[tokio::test]
async fn reader_over_a_slow_link_reads_by_one_consumer_and_deletes_it() {
    let cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.make_room("general").await;
    for _ in 0..3 {
        ann.say(room, &"x".repeat(16_000)).await;
    }
    let direct = cluster.log(Role::Persister).await;
    let before = consumers(&direct).await;
    let proxy = Proxy::start(cluster.nats.address()).await;
    let args = NatsArgs { nats_url: proxy.url(&cluster.nats.url(Role::Fanout.as_str())) };
    let connection = connect_once(&args, Role::Fanout).await.expect("a broker");
    proxy.slow(RATE);
    let mut reader = Reader::open(connection.jetstream(), shard(), None, 1);
    let mut read = 0;
    while let Some(event) = reader.next_stored().await.expect("a log that can be read") {
        read += usize::from(event.stored.payload.len() > 16_000);
        assert_eq!(consumers(&direct).await, before + 1);
    }
    assert_eq!(read, 3);
    proxy.restore();
    drop(reader);
    eventually("its consumer is deleted", || async { (consumers(&direct).await == before).then_some(()) })
        .await;
}
