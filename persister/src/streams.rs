//! The streams of the log: made and checked here, and nowhere else.
//!
//! What must hold: the broker keeps what it was asked for. Old servers ignore what they do not
//! know, so the configuration that comes back is compared with the one that was sent.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::jetstream::{
    Context, ErrorCode,
    context::{GetStreamError, GetStreamErrorKind},
    stream::{Config, DiscardPolicy, Info, Republish, RetentionPolicy, StorageType},
};
use shared::{
    id::{Shard, ShardCount},
    log::StreamDescription,
    subject,
};

use crate::config::LogArgs;

/// How long the broker knows a message id for.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(60);

/// Refuses replicas on servers whose clusters lose or double writes.
pub(crate) fn check_server(client: &async_nats::Client, replicas: u8) -> anyhow::Result<()> {
    if replicas > 1 && !client.is_server_compatible(2, 12, 3) {
        bail!(
            "ROOMCAST_REPLICAS is {replicas}, but the broker is {}: before 2.12.3 a cluster can lose \
             acknowledged writes and let two compare-and-sets win; use 1 replica or a newer broker",
            client.server_info().version
        );
    }
    Ok(())
}

/// What the stream of a shard is to be.
fn wanted(args: &LogArgs, shard: Shard, description: StreamDescription) -> anyhow::Result<Config> {
    let (source, destination) = subject::stream_republish(shard);
    Ok(Config {
        name: subject::stream(shard),
        description: Some(description.to_string()),
        subjects: vec![subject::stream_capture(shard)],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_bytes: i64::try_from(args.stream_bytes).context("ROOMCAST_STREAM_BYTES is too large")?,
        duplicate_window: DUPLICATE_WINDOW,
        num_replicas: usize::from(args.replicas),
        republish: Some(Republish { source, destination, headers_only: false }),
        ..Config::default()
    })
}

/// Whether this is the broker's word that there is no such stream.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<GetStreamError>()).any(|error| {
        matches!(error.kind(), GetStreamErrorKind::JetStream(answer)
                 if answer.error_code() == ErrorCode::STREAM_NOT_FOUND)
    })
}

async fn info(jetstream: &Context, shard: Shard) -> anyhow::Result<Option<Info>> {
    match jetstream.get_stream(subject::stream(shard)).await.map_err(anyhow::Error::new) {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.context(format!("stream {}", subject::stream(shard)))),
    }
}

/// Makes the stream of a shard where there is none, unless Postgres has events of it: then its log
/// is gone, and only a person can say what to do. Checks what is there, and adapts its limits.
pub(crate) async fn ensure_shard(
    jetstream: &Context,
    args: &LogArgs,
    shard: Shard,
    watermark: u64,
) -> anyhow::Result<()> {
    let shards = args.shard_count()?;
    let found = match info(jetstream, shard).await? {
        Some(found) => adapt(jetstream, args, shard, shards, found).await?,
        None if watermark > 0 => return Ok(()),
        None => {
            let new = wanted(args, shard, StreamDescription { shards, epoch: 1 })?;
            let made = jetstream.create_stream(new).await;
            let made = made.with_context(|| format!("the broker did not make {}", subject::stream(shard)))?;
            tracing::info!(%shard, "stream made");
            made.cached_info().clone()
        }
    };
    verify(args, shard, &found.config)
}

async fn adapt(
    jetstream: &Context,
    args: &LogArgs,
    shard: Shard,
    shards: ShardCount,
    found: Info,
) -> anyhow::Result<Info> {
    let description: StreamDescription = found.config.description.as_deref().unwrap_or("").parse()?;
    ensure!(
        description.shards == shards,
        "ROOMCAST_SHARDS is {}, but the log has {} shards: it can't change",
        shards.get(),
        description.shards.get()
    );
    let new = wanted(args, shard, description)?;
    if found.config.max_bytes == new.max_bytes && found.config.num_replicas == new.num_replicas {
        return Ok(found);
    }
    let changed = Config { max_bytes: new.max_bytes, num_replicas: new.num_replicas, ..found.config };
    let updated = jetstream.update_stream(&changed).await;
    updated.with_context(|| format!("the broker did not change the limits of {}", changed.name))
}

fn verify(args: &LogArgs, shard: Shard, found: &Config) -> anyhow::Result<()> {
    let (source, destination) = subject::stream_republish(shard);
    let republish = Republish { source, destination, headers_only: false };
    let name = &found.name;
    ensure!(
        found.republish.as_ref() == Some(&republish),
        "{name} does not republish {} to {}: {:?}",
        republish.source,
        republish.destination,
        found.republish
    );
    ensure!(found.subjects == [subject::stream_capture(shard)], "{name} captures {:?}", found.subjects);
    ensure!(found.discard == DiscardPolicy::New, "{name} drops old events when it is full");
    ensure!(found.retention == RetentionPolicy::Limits, "{name} does not keep events until they are purged");
    ensure!(found.storage == StorageType::File, "{name} is in memory");
    ensure!(found.max_age.is_zero(), "{name} drops events by age");
    ensure!(
        found.duplicate_window == DUPLICATE_WINDOW,
        "{name} knows message ids for {:?}, not {DUPLICATE_WINDOW:?}",
        found.duplicate_window
    );
    ensure!(
        found.num_replicas == usize::from(args.replicas),
        "{name} has {} replicas, not {}",
        found.num_replicas,
        args.replicas
    );
    Ok(())
}

/// Begins a new epoch: no position of the old one counts any more.
pub(crate) async fn next_epoch(jetstream: &Context, shard: Shard) -> anyhow::Result<u64> {
    let found = info(jetstream, shard).await?.context("the stream is gone")?;
    let mut description: StreamDescription = found.config.description.as_deref().unwrap_or("").parse()?;
    description.epoch += 1;
    let changed = Config { description: Some(description.to_string()), ..found.config };
    jetstream.update_stream(&changed).await.context("the broker did not keep the new epoch")?;
    Ok(description.epoch)
}
