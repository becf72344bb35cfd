//! Measures how fast api appends without HTTP, on a throw-away deployment of `deploy/up`.
//!
//!     append <data folder>           appends per second, compared with the broker alone
//!     append <data folder> <rate>    appends at this rate, and measures when each message is in PostgreSQL
//!
//! Stop `roomcast` (`kill -STOP`) for the first, so that nothing else is measured. It alternates: api and the broker
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
use bench::deployment::{cpu_seconds, read_data_file};
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
const IN_FLIGHT: usize = 256;
/// Duration of one measurement.
const TURN_DURATION: Duration = Duration::from_secs(4);
const TURNS: usize = 3;
/// Time at the beginning that is not measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// Time between two checks whether a message is due.
const SEND_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum time until a message is in PostgreSQL.
const APPLIED_TIMEOUT: Duration = Duration::from_secs(20);
/// Number of append connections.
const CONNECTIONS: usize = 2;
const ROOMS: u64 = 500;
const SHARDS: u16 = 8;
const BODY: &[u8] = br#"{"message": "A message of 128 bytes, more or less, as people write them all day long: hello, how are you, and the like of it."}"#;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "this is a command-line program")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (data, rate) = match arguments.as_slice() {
        [data] => (Path::new(data), None),
        [data, rate] => (Path::new(data), Some(rate.parse()?)),
        _ => bail!("usage: append <data folder> [<messages per second>]"),
    };
    let api = Arc::new(ApiParts::open(data).await?);
    if let Some(rate) = rate {
        let lag = ApiParts::measure_lag(&api, rate).await?;
        let quantile_ms = |quantile| lag.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{} messages, from acknowledgement to PostgreSQL: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            lag.len(),
            quantile_ms(0.5),
            quantile_ms(0.99),
            quantile_ms(1.0)
        );
        return Ok(());
    }
    let client = nats::connect_once(&broker(data)?, BrokerUser::Api).await?.client;
    let messages = prepare_messages(&api.caller)?;
    for _ in 0..TURNS {
        let without_ids =
            measure_turn(|acknowledged| publish_pipelined(&client, &messages, false, acknowledged)).await?;
        let with_ids =
            measure_turn(|acknowledged| publish_pipelined(&client, &messages, true, acknowledged)).await?;
        let api_parts = measure_turn(|acknowledged| api.write(acknowledged)).await?;
        let [without_ids, with_ids, api_parts] = [without_ids, with_ids, api_parts]
            .map(|(rate, micros)| format!("{rate:.0}/s ({micros:.1} µs of own CPU)"));
        println!("the broker alone {without_ids}, with ids {with_ids}; api {api_parts}");
    }
    Ok(())
}

/// Runs one measurement. Returns acknowledgements per second, and this program's CPU microseconds per acknowledgement.
async fn measure_turn<F: Future<Output = anyhow::Result<()>>>(
    turn: impl FnOnce(Arc<AtomicU64>) -> F,
) -> anyhow::Result<(f64, f64)> {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (cpu, start) = (cpu_seconds("self")?, Instant::now());
    // The timeout ends a turn; a turn that returns earlier has failed.
    if let Ok(result) = timeout(TURN_DURATION, turn(acknowledged.clone())).await {
        result?;
    }
    let (cpu, acknowledged_count) = (cpu_seconds("self")? - cpu, acknowledged.load(Ordering::Relaxed) as f64);
    ensure!(acknowledged_count > 0.0, "nothing was acknowledged");
    Ok((acknowledged_count / start.elapsed().as_secs_f64(), cpu * 1e6 / acknowledged_count))
}

/// Subject and payload of a message to each room.
fn prepare_messages(caller: &Caller) -> anyhow::Result<Vec<(String, Bytes)>> {
    let shards = ShardCount::new(SHARDS).context("shards")?;
    let message = |room| api::bench::message(caller, RoomId(room), shards, BODY);
    (0..ROOMS)
        .map(|room| message(room).map(|(subject, _, payload)| (subject, payload)).map_err(Into::into))
        .collect()
}

fn broker(data: &Path) -> anyhow::Result<NatsArgs> {
    let (password, port) = (read_data_file(data, "secrets/nats-api")?, read_data_file(data, "ports/nats")?);
    Ok(NatsArgs { nats_url: format!("nats://api:{password}@127.0.0.1:{port}"), nats_ca: None })
}

/// Publishes a message for each acknowledgement, with `TOGETHER` messages in flight.
async fn publish_pipelined(
    client: &Client,
    messages: &[(String, Bytes)],
    with_ids: bool,
    acknowledged: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut acks = client.subscribe(inbox.clone()).await?;
    let mut next = messages.iter().cycle();
    let mut publish = || {
        let (subject, payload) = next.next().expect("a cycle of messages does not end");
        let mut headers = HeaderMap::new();
        if with_ids {
            headers.insert(NATS_MESSAGE_ID, format!("{:032x}", rand::random::<u128>()));
        }
        client.publish_with_reply_and_headers(subject.clone(), inbox.clone(), headers, payload.clone())
    };
    for _ in 0..IN_FLIGHT {
        publish().await?;
    }
    while let Some(ack) = acks.next().await {
        ensure!(ack.payload.starts_with(br#"{"stream""#), "{}", String::from_utf8_lossy(&ack.payload));
        acknowledged.fetch_add(1, Ordering::Relaxed);
        publish().await?;
    }
    bail!("the broker closed the subscription")
}

/// The parts of an api node that append a message to the log.
struct ApiParts {
    appender: Appender,
    applied: AppliedWatch,
    caller: Caller,
}

impl ApiParts {
    async fn open(data: &Path) -> anyhow::Result<Self> {
        let nats = broker(data)?;
        let shards = ShardCount::new(SHARDS).context("shards")?;
        let appender = Appender::start(&nats, shards, CONNECTIONS, &CancellationToken::new()).await?;
        while appender.check().is_err() {
            sleep(Duration::from_millis(100)).await;
        }
        let connection = nats::connect_once(&nats, BrokerUser::Api).await?;
        let applied = AppliedWatch::start(&connection.client, shards).await?;
        let caller = Caller { user: "7".parse()?, is_admin: false, org_id: None };
        Ok(Self { appender, applied, caller })
    }

    async fn send(&self, n: u64) -> anyhow::Result<LogPosition> {
        Ok(api::bench::send(&self.appender, &self.caller, RoomId(n % ROOMS), BODY).await?)
    }

    /// Sends `rate` messages per second. Returns the microseconds from each acknowledgement until the message is in
    /// PostgreSQL.
    async fn measure_lag(parts: &Arc<Self>, rate: u64) -> anyhow::Result<Histogram<u64>> {
        let mut ticks = interval(SEND_INTERVAL);
        let (mut sent, mut in_flight) = (0, JoinSet::new());
        let start = Instant::now();
        while start.elapsed() < WARM_UP + TURN_DURATION * 2 {
            ticks.tick().await;
            let due = start.elapsed().as_micros() as u64 * rate / 1_000_000;
            for n in sent..due {
                let parts = parts.clone();
                in_flight.spawn(async move {
                    let is_warm = start.elapsed() > WARM_UP;
                    let appended = parts.send(n).await?;
                    let acknowledged = Instant::now();
                    let is_applied = parts.applied.wait(appended.shard, appended.seq, APPLIED_TIMEOUT).await;
                    ensure!(is_applied, "not in PostgreSQL within {APPLIED_TIMEOUT:?}");
                    Ok(is_warm.then(|| acknowledged.elapsed().as_micros() as u64))
                });
            }
            sent = due;
        }
        let mut lag = Histogram::new(3)?;
        while let Some(result) = in_flight.join_next().await {
            if let Some(micros) = result?? {
                lag.record(micros)?;
            }
        }
        Ok(lag)
    }

    async fn write(&self, acknowledged: Arc<AtomicU64>) -> anyhow::Result<()> {
        let writers = (0..IN_FLIGHT as u64).map(async |writer| {
            for n in 0.. {
                self.send(writer + n * IN_FLIGHT as u64).await?;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        futures_util::future::try_join_all(writers).await.map(|_: Vec<()>| ())
    }
}
