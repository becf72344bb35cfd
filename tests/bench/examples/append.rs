//! Measures how fast api appends without HTTP, on a throw-away deployment of `deploy/up`.
//!
//!     append <data folder>           appends per second, compared with the broker alone
//!     append <data folder> <rate>    appends at this rate, and measures when each message is in PostgreSQL
//!
//! Stop `roomcast` (`kill -STOP`) for the first, so that nothing else is measured. It takes turns: api and the broker
//! alone get the same number of messages in flight, into the same streams, through the same library. The broker alone
//! gets prepared messages, in one turn with message ids and in one without.

use std::{
    env,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use api::append::{Appender, LogPosition};
use async_nats::{Client, HeaderMap, header::NATS_MESSAGE_ID};
use bench::deployment::{kept, used};
use bytes::Bytes;
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use log::AppliedWatch;
use protocol::{
    caller::Caller,
    id::{RoomId, ShardCount},
};
use service::nats::{self, BrokerUser, NatsArgs};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Number of messages in flight.
const TOGETHER: usize = 256;
/// Length of a turn.
const TURN: Duration = Duration::from_secs(4);
const TURNS: usize = 3;
/// Time at the beginning that is not measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// Time between two checks of what is due.
const TICK: Duration = Duration::from_millis(1);
/// Maximum time until a message is in PostgreSQL.
const PATIENCE: Duration = Duration::from_secs(20);
/// Number of append connections.
const CONNECTIONS: usize = 2;
const ROOMS: u64 = 500;
const SHARDS: u16 = 8;
const BODY: &[u8] = br#"{"message": "A message of 128 bytes, more or less, as people write them all day long: hello, how are you, and the like of it."}"#;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "a program's own words")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let (data, rate) = match words.as_slice() {
        [data] => (Path::new(data), None),
        [data, rate] => (Path::new(data), Some(rate.parse()?)),
        _ => bail!("append <data folder> [<messages a second>]"),
    };
    let api = Arc::new(Inside::open(data).await?);
    if let Some(rate) = rate {
        let lag = Inside::lag(&api, rate).await?;
        let at = |quantile| lag.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{} messages, in PostgreSQL after their acknowledgement: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            lag.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
        return Ok(());
    }
    let client = nats::connect_once(&broker(data)?, BrokerUser::Api).await?.client;
    let messages = ready(&api.caller)?;
    for _ in 0..TURNS {
        let alone = measured(|acknowledged| pipelined(&client, &messages, false, acknowledged)).await?;
        let with_ids = measured(|acknowledged| pipelined(&client, &messages, true, acknowledged)).await?;
        let inside = measured(|acknowledged| api.write(acknowledged)).await?;
        let [alone, with_ids, inside] =
            [alone, with_ids, inside].map(|(rate, micros)| format!("{rate:.0}/s ({micros:.1} µs here)"));
        println!("the broker alone {alone}, with ids {with_ids}; api {inside}");
    }
    Ok(())
}

/// Runs a turn. Returns acknowledgements per second, and this program's CPU microseconds for each.
async fn measured<F: Future<Output = anyhow::Result<()>>>(
    turn: impl FnOnce(Arc<AtomicU64>) -> F,
) -> anyhow::Result<(f64, f64)> {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (cpu, begun) = (used("self")?, Instant::now());
    // A turn ends by the timeout; if it returns before, it has failed.
    if let Ok(failed) = timeout(TURN, turn(acknowledged.clone())).await {
        failed?;
    }
    let (cpu, count) = (used("self")? - cpu, acknowledged.load(Ordering::Relaxed) as f64);
    ensure!(count > 0.0, "nothing was acknowledged");
    Ok((count / begun.elapsed().as_secs_f64(), cpu * 1e6 / count))
}

/// Subject and payload of a message to each room.
fn ready(caller: &Caller) -> anyhow::Result<Vec<(String, Bytes)>> {
    let shards = ShardCount::new(SHARDS).context("shards")?;
    let message = |room| api::bench::message(caller, RoomId(room), shards, BODY);
    (0..ROOMS)
        .map(|room| message(room).map(|(subject, _, payload)| (subject, payload)).map_err(Into::into))
        .collect()
}

fn broker(data: &Path) -> anyhow::Result<NatsArgs> {
    let (password, port) = (kept(data, "secrets/nats-api")?, kept(data, "ports/nats")?);
    Ok(NatsArgs { nats_url: format!("nats://api:{password}@127.0.0.1:{port}"), nats_ca: None })
}

/// Publishes a message for each acknowledgement, with `TOGETHER` messages in flight.
async fn pipelined(
    client: &Client,
    messages: &[(String, Bytes)],
    with_ids: bool,
    acknowledged: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut acks = client.subscribe(inbox.clone()).await?;
    let mut next = messages.iter().cycle();
    let mut publish = || {
        let (subject, payload) = next.next().expect("there are some");
        let mut headers = HeaderMap::new();
        if with_ids {
            headers.insert(NATS_MESSAGE_ID, format!("{:032x}", rand::random::<u128>()));
        }
        client.publish_with_reply_and_headers(subject.clone(), inbox.clone(), headers, payload.clone())
    };
    for _ in 0..TOGETHER {
        publish().await?;
    }
    while let Some(ack) = acks.next().await {
        ensure!(ack.payload.starts_with(br#"{"stream""#), "{}", String::from_utf8_lossy(&ack.payload));
        acknowledged.fetch_add(1, Ordering::Relaxed);
        publish().await?;
    }
    bail!("the broker is gone")
}

/// The parts of an api node that a message passes on its way to the log.
struct Inside {
    appender: Appender,
    applied: AppliedWatch,
    caller: Caller,
}

impl Inside {
    async fn open(data: &Path) -> anyhow::Result<Self> {
        let nats = broker(data)?;
        let shards = ShardCount::new(SHARDS).context("shards")?;
        let appender = Appender::start(&nats, shards, CONNECTIONS, &CancellationToken::new()).await?;
        while appender.check().is_err() {
            sleep(Duration::from_millis(100)).await;
        }
        let heard = nats::connect_once(&nats, BrokerUser::Api).await?;
        let applied = AppliedWatch::start(&heard.client, shards).await?;
        let caller = Caller { user: "7".parse()?, is_admin: false, org_id: None };
        Ok(Self { appender, applied, caller })
    }

    async fn send(&self, n: u64) -> anyhow::Result<LogPosition> {
        Ok(api::bench::send(&self.appender, &self.caller, RoomId(n % ROOMS), BODY).await?)
    }

    /// Sends `rate` messages per second. Returns the microseconds from each acknowledgement until the message is in
    /// PostgreSQL.
    async fn lag(this: &Arc<Self>, rate: u64) -> anyhow::Result<Histogram<u64>> {
        let mut ticks = interval(TICK);
        let (mut sent, mut under_way) = (0, JoinSet::new());
        let begun = Instant::now();
        while begun.elapsed() < WARM_UP + TURN * 2 {
            ticks.tick().await;
            let due = begun.elapsed().as_micros() as u64 * rate / 1_000_000;
            for n in sent..due {
                let this = this.clone();
                under_way.spawn(async move {
                    let is_warm = begun.elapsed() > WARM_UP;
                    let appended = this.send(n).await?;
                    let acknowledged = Instant::now();
                    let is_applied = this.applied.wait(appended.shard, appended.seq, PATIENCE).await;
                    ensure!(is_applied, "not in PostgreSQL in {PATIENCE:?}");
                    Ok(is_warm.then(|| acknowledged.elapsed().as_micros() as u64))
                });
            }
            sent = due;
        }
        let mut lag = Histogram::new(3)?;
        while let Some(one) = under_way.join_next().await {
            if let Some(micros) = one?? {
                lag.record(micros)?;
            }
        }
        Ok(lag)
    }

    async fn write(&self, acknowledged: Arc<AtomicU64>) -> anyhow::Result<()> {
        let writers = (0..TOGETHER as u64).map(async |writer| {
            for n in 0.. {
                self.send(writer + n * TOGETHER as u64).await?;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        futures_util::future::try_join_all(writers).await.map(|_: Vec<()>| ())
    }
}
