//! Creates a shard's stream if it is missing, and updates the limits of an existing one.
//!
//! What must hold: the broker applies the whole configuration. Old servers ignore fields that they do not know, so the
//! configuration in the answer is checked.

use anyhow::{Context as _, ensure};
use async_nats::jetstream::{
    Context,
    context::{CreateStreamError, CreateStreamErrorKind, GetStreamError},
    stream::{Config, DiscardPolicy, Info, Republish, RetentionPolicy, StorageType},
};
use log::StreamDescription;
use protocol::{
    id::{Shard, ShardCount},
    subject,
};

use super::verify::{DUPLICATE_WINDOW, MESSAGE_SIZE_UNLIMITED, find_stream, require_wanted_config};
use crate::config::StreamArgs;

/// The configuration that the stream of a shard must have.
pub(super) fn wanted_config(
    args: &StreamArgs,
    shard: Shard,
    description: &StreamDescription,
) -> anyhow::Result<Config> {
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

/// Whether the broker may answer differently in a moment: a cluster that has just started has no leader yet, nor has a
/// stream that another persister has just created.
pub(crate) fn is_transient(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let create_error = cause.downcast_ref::<CreateStreamError>();
        cause.is::<GetStreamError>()
            || create_error.is_some_and(|create_error| create_error.kind() == CreateStreamErrorKind::TimedOut)
    })
}

/// Creates the stream of a shard in its first epoch if it is missing. Checks an existing stream, and updates its
/// limits. `first_epoch` is `None` if Postgres has events of the shard: then a missing stream stays missing, because
/// only an operator can decide what to do.
pub(crate) async fn ensure_stream(
    jetstream: &Context,
    args: &StreamArgs,
    shard: Shard,
    first_epoch: Option<u64>,
) -> anyhow::Result<()> {
    let info = match find_stream(jetstream, shard).await? {
        Some(info) => update_limits(jetstream, args, shard, args.shard_count()?, info).await?,
        None => {
            let Some(epoch) = first_epoch else { return Ok(()) };
            let wanted = wanted_config(args, shard, &description(args, epoch)?)?;
            create_stream(jetstream, wanted).await?
        }
    };
    require_wanted_config(args, shard, &info.config)
}

pub(super) fn description(args: &StreamArgs, epoch: u64) -> anyhow::Result<StreamDescription> {
    Ok(StreamDescription { shards: args.shard_count()?, epoch, broker: None })
}

pub(super) async fn create_stream(jetstream: &Context, config: Config) -> anyhow::Result<Info> {
    let name = config.name.clone();
    let stream = jetstream.create_stream(config).await;
    let stream = stream.with_context(|| format!("the broker did not create {name}"))?;
    tracing::info!(stream = name, "stream created");
    Ok(stream.cached_info().clone())
}

async fn update_limits(
    jetstream: &Context,
    args: &StreamArgs,
    shard: Shard,
    shards: ShardCount,
    info: Info,
) -> anyhow::Result<Info> {
    let description: StreamDescription = info.config.description.as_deref().unwrap_or("").parse()?;
    ensure!(
        description.shards == shards,
        "ROOMCAST_SHARDS is {}, but the log has {} shards: the number can't change",
        shards.get(),
        description.shards.get()
    );
    let wanted = wanted_config(args, shard, &description)?;
    if info.config.max_bytes == wanted.max_bytes && info.config.num_replicas == wanted.num_replicas {
        return Ok(info);
    }
    let new_config = Config { max_bytes: wanted.max_bytes, num_replicas: wanted.num_replicas, ..info.config };
    let updated = jetstream.update_stream(&new_config).await;
    updated.with_context(|| format!("the broker did not change the limits of {}", new_config.name))
}
