//! The streams of the log: made and checked here, and nowhere else.
//!
//! What must hold: the broker keeps what it was asked for. Old servers ignore what they do not
//! know, so the configuration that comes back is compared with the one that was sent.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::jetstream::{
    Context, ErrorCode,
    context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind},
    stream::{Config, DiscardPolicy, Info, Republish, RetentionPolicy, StorageType},
};
use log::StreamDescription;
use protocol::{
    id::{Shard, ShardCount},
    subject,
};

use crate::{config::StreamArgs, watermark::Watermark};

/// How long the broker knows a message id for.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(60);

/// Refuses replicas on servers whose clusters lose or double writes.
pub(crate) fn require_safe_server(client: &async_nats::Client, replicas: u8) -> anyhow::Result<()> {
    if replicas > 1 && !client.is_server_compatible(2, 12, 3) {
        bail!(
            "ROOMCAST_REPLICAS is {replicas}, but the broker is {}: before 2.12.3 a cluster can lose \
             acknowledged writes and let two compare-and-sets win; use 1 replica or a newer broker",
            client.server_info().version
        );
    }
    Ok(())
}

/// The most bytes of an event where nothing may be appended: every event is larger.
const MESSAGE_SIZE_REFUSING_APPENDS: i32 = 1;
/// Whatever the broker takes.
const MESSAGE_SIZE_UNLIMITED: i32 = -1;

/// What the stream of a shard is to be.
fn wanted_config(args: &StreamArgs, shard: Shard, description: &StreamDescription) -> anyhow::Result<Config> {
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
        max_message_size: MESSAGE_SIZE_UNLIMITED,
        num_replicas: usize::from(args.replicas),
        republish: Some(Republish { source, destination, headers_only: false }),
        ..Config::default()
    })
}

/// Whether this is the broker's word that there is no such stream.
pub(crate) fn is_stream_not_found(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<GetStreamError>()).any(|error| {
        matches!(error.kind(), GetStreamErrorKind::JetStream(answer)
                 if answer.error_code() == ErrorCode::STREAM_NOT_FOUND)
    })
}

/// Whether the broker may answer otherwise in a moment: a cluster that has just begun has no leader yet,
/// nor has a stream that another persister has just made.
pub(crate) fn is_transient(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let made = cause.downcast_ref::<CreateStreamError>();
        cause.is::<GetStreamError>()
            || made.is_some_and(|made| made.kind() == CreateStreamErrorKind::TimedOut)
    })
}

/// The stream of a shard, as its leader says; `None` where there is none.
pub(crate) async fn find_stream(jetstream: &Context, shard: Shard) -> anyhow::Result<Option<Info>> {
    match jetstream.get_stream(subject::stream(shard)).await.map_err(anyhow::Error::new) {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) if is_stream_not_found(&error) => Ok(None),
        Err(error) => Err(error.context(format!("stream {}", subject::stream(shard)))),
    }
}

/// Makes the stream of a shard where there is none, unless Postgres knows of events of it: then its
/// log is gone, and only a person can say what to do. Checks what is there, and adapts its limits.
pub(crate) async fn ensure_stream(
    jetstream: &Context,
    args: &StreamArgs,
    shard: Shard,
    watermark: &Watermark,
) -> anyhow::Result<()> {
    let found = match find_stream(jetstream, shard).await? {
        Some(found) => update_limits(jetstream, args, shard, args.shard_count()?, found).await?,
        None if !watermark.has_no_events() => return Ok(()),
        None => {
            let new = wanted_config(args, shard, &description(args, watermark.epoch + 1)?)?;
            create_stream(jetstream, new).await?
        }
    };
    require_wanted_config(args, shard, &found.config)
}

fn description(args: &StreamArgs, epoch: u64) -> anyhow::Result<StreamDescription> {
    Ok(StreamDescription { shards: args.shard_count()?, epoch, broker: None })
}

async fn create_stream(jetstream: &Context, config: Config) -> anyhow::Result<Info> {
    let name = config.name.clone();
    let made = jetstream.create_stream(config).await;
    let made = made.with_context(|| format!("the broker did not make {name}"))?;
    tracing::info!(stream = name, "stream made");
    Ok(made.cached_info().clone())
}

/// Makes the stream of a shard anew, its first event to be `next`. Closed until it is there, so that
/// nobody appends before.
pub(crate) async fn recreate_stream(
    jetstream: &Context,
    args: &StreamArgs,
    shard: Shard,
    epoch: u64,
    first_seq: u64,
) -> anyhow::Result<()> {
    let config = Config {
        max_message_size: MESSAGE_SIZE_REFUSING_APPENDS,
        ..wanted_config(args, shard, &description(args, epoch)?)?
    };
    let made = create_stream(jetstream, config).await?;
    log::purge_below(jetstream, shard, first_seq).await?;
    write_epoch(jetstream, &made.config, epoch, None, AppendPolicy::Accepted).await
}

async fn update_limits(
    jetstream: &Context,
    args: &StreamArgs,
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
    let new = wanted_config(args, shard, &description)?;
    if found.config.max_bytes == new.max_bytes && found.config.num_replicas == new.num_replicas {
        return Ok(found);
    }
    let changed = Config { max_bytes: new.max_bytes, num_replicas: new.num_replicas, ..found.config };
    let updated = jetstream.update_stream(&changed).await;
    updated.with_context(|| format!("the broker did not change the limits of {}", changed.name))
}

fn require_wanted_config(args: &StreamArgs, shard: Shard, found: &Config) -> anyhow::Result<()> {
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

/// Whether a stream takes appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendPolicy {
    /// It does.
    Accepted,
    /// It refuses every one, and its sender hears so: it is being repaired.
    Refused,
}

/// The broker's process that a stream was looked at on.
pub(crate) fn verified_on_broker(config: &Config) -> Option<String> {
    let description: StreamDescription = config.description.as_deref().unwrap_or("").parse().ok()?;
    description.broker
}

/// Whether a stream takes appends. One that does not was left so by a repair that did not end.
pub(crate) const fn append_policy(config: &Config) -> AppendPolicy {
    if config.max_message_size == MESSAGE_SIZE_REFUSING_APPENDS {
        AppendPolicy::Refused
    } else {
        AppendPolicy::Accepted
    }
}

/// Writes an epoch into the stream of that configuration, with the broker's process that it was looked at
/// on, where it was, and says whether it takes appends.
pub(crate) async fn write_epoch(
    jetstream: &Context,
    found: &Config,
    epoch: u64,
    verified_on_broker: Option<&str>,
    append_policy: AppendPolicy,
) -> anyhow::Result<()> {
    let mut description: StreamDescription = found.description.as_deref().unwrap_or("").parse()?;
    description.epoch = epoch;
    description.broker = verified_on_broker.map(str::to_owned).or(description.broker);
    let max_message_size = if append_policy == AppendPolicy::Accepted {
        MESSAGE_SIZE_UNLIMITED
    } else {
        MESSAGE_SIZE_REFUSING_APPENDS
    };
    let changed = Config { description: Some(description.to_string()), max_message_size, ..found.clone() };
    jetstream.update_stream(&changed).await.context("the broker did not keep the new epoch")?;
    Ok(())
}
