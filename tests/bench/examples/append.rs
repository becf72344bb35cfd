//! What api acknowledges without HTTP, beside what the broker alone acknowledges: `append <data folder>`, with
//! the broker of `deploy/up` running and its `roomcast` stopped (`kill -STOP`), so that nothing else is measured.
//!
//! Both have as many messages on their way, in the same streams' broker, by turns. The broker alone is written to
//! without keys and events, by the same library, into a stream of its own.

use std::{
    env, fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use async_nats::{
    Client, ConnectOptions,
    jetstream::{self, stream},
};
use futures_util::StreamExt as _;
use shared::{
    id::{RoomId, ShardCount},
    log::Appender,
    nats::NatsArgs,
    rules::Caller,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Messages on their way at once.
const TOGETHER: usize = 256;
/// How long each is measured, by turns.
const TURN: Duration = Duration::from_secs(4);
const TURNS: usize = 3;
/// Connections of an api node.
const CONNECTIONS: usize = 2;
const ROOMS: u64 = 500;
const STREAM: &str = "ROOMCAST_LOAD";
const SUBJECT: &str = "roomcast-load";
const BODY: &[u8] = br#"{"message": "A message of 128 bytes, more or less, as people write them all day long: hello, how are you, and the like of it."}"#;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "a program's own words")]
async fn main() -> anyhow::Result<()> {
    let data = env::args().nth(1).context("append <data folder>")?;
    let data = Path::new(&data);
    let (broker, api) = (alone(data).await?, Inside::open(data).await?);
    for _ in 0..TURNS {
        let alone = measured(|acknowledged| pipelined(&broker, acknowledged)).await?;
        let inside = measured(|acknowledged| api.write(acknowledged)).await?;
        println!(
            "the broker alone {:.0}/s ({:.1} µs here)   api {:.0}/s ({:.1} µs here): {:.0} %",
            alone.0,
            alone.1,
            inside.0,
            inside.1,
            100.0 * inside.0 / alone.0
        );
    }
    jetstream::new(broker).delete_stream(STREAM).await?;
    Ok(())
}

/// What a turn acknowledges a second, and what this program's CPU spends on each, in microseconds.
async fn measured<F: Future<Output = anyhow::Result<()>>>(
    turn: impl FnOnce(Arc<AtomicU64>) -> F,
) -> anyhow::Result<(f64, f64)> {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (cpu, begun) = (used()?, Instant::now());
    // Its end is the end of the turn; else it has failed.
    if let Ok(failed) = timeout(TURN, turn(acknowledged.clone())).await {
        failed?;
    }
    let (cpu, count) = (used()? - cpu, acknowledged.load(Ordering::Relaxed) as f64);
    ensure!(count > 0.0, "nothing was acknowledged");
    Ok((count / begun.elapsed().as_secs_f64(), cpu * 1e6 / count))
}

/// CPU seconds of this program.
fn used() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/self/schedstat")?;
    Ok(stat.split(' ').next().context("a figure")?.parse::<f64>()? / 1e9)
}

fn url(data: &Path, user: &str) -> anyhow::Result<String> {
    let read = |path: String| Ok::<_, anyhow::Error>(fs::read_to_string(data.join(path))?.trim().to_owned());
    let (password, port) = (read(format!("secrets/nats-{user}"))?, read("ports/nats".to_owned())?);
    Ok(format!("nats://{user}:{password}@127.0.0.1:{port}"))
}

async fn alone(data: &Path) -> anyhow::Result<Client> {
    let url = url(data, "persister")?;
    let (user, password) =
        url["nats://".len()..].split_once('@').and_then(|(who, _)| who.split_once(':')).context("a user")?;
    let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
    let client = options.custom_inbox_prefix("_INBOX_persister").connect(&url).await?;
    let stream = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        max_bytes: 256 << 20,
        ..stream::Config::default()
    };
    jetstream::new(client.clone()).get_or_create_stream(stream).await?;
    Ok(client)
}

/// The next goes with each acknowledgement.
async fn pipelined(client: &Client, acknowledged: Arc<AtomicU64>) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut acks = client.subscribe(inbox.clone()).await?;
    let publish = || client.publish_with_reply(SUBJECT, inbox.clone(), BODY.into());
    for _ in 0..TOGETHER {
        publish().await?;
    }
    while let Some(ack) = acks.next().await {
        ensure!(ack.payload.starts_with(br#"{"stream""#), "{}", String::from_utf8_lossy(&ack.payload));
        acknowledged.fetch_add(1, Ordering::Relaxed);
        publish().await?;
    }
    anyhow::bail!("the broker is gone")
}

/// An api node, without all that is around the way of a message.
struct Inside {
    appender: Appender,
    _stop: CancellationToken,
}

impl Inside {
    async fn open(data: &Path) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let nats = NatsArgs { nats_url: url(data, "api")? };
        let shards = ShardCount::new(8).context("8 shards")?;
        let appender = Appender::start(&nats, shards, CONNECTIONS, &stop).await?;
        while appender.check().is_err() {
            sleep(Duration::from_millis(100)).await;
        }
        Ok(Self { appender, _stop: stop })
    }

    async fn write(&self, acknowledged: Arc<AtomicU64>) -> anyhow::Result<()> {
        let caller = Caller { user: "7".parse()?, is_admin: false, org_id: None };
        let writers = (0..TOGETHER as u64).map(async |writer| {
            for n in 0.. {
                let room = RoomId((writer + n * TOGETHER as u64) % ROOMS);
                api::bench::send(&self.appender, &caller, room, BODY).await?;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        futures_util::future::try_join_all(writers).await.map(|_: Vec<()>| ())
    }
}
