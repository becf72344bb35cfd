//! Repairs streams: recreates one, and writes its epoch and whether it accepts appends.

use anyhow::Context as _;
use async_nats::jetstream::{Context, stream::Config};
use log::StreamDescription;
use protocol::id::Shard;

use super::{
    ensure::{create_stream, description, wanted_config},
    verify::{AppendPolicy, MESSAGE_SIZE_REFUSING_APPENDS, MESSAGE_SIZE_UNLIMITED},
};
use crate::config::StreamArgs;

/// Recreates the stream of a shard so that its next event has the sequence `first_seq`. Until then the stream refuses
/// appends.
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
    let created = create_stream(jetstream, config).await?;
    log::purge_below(jetstream, shard, first_seq).await?;
    write_epoch(jetstream, &created.config, epoch, None, AppendPolicy::Accepted).await
}

/// Writes a stream's epoch into its description, and whether it accepts appends. `verified_on_broker` is the broker
/// process on which the log was checked; with `None` the description keeps the one it has.
pub(crate) async fn write_epoch(
    jetstream: &Context,
    current_config: &Config,
    epoch: u64,
    verified_on_broker: Option<&str>,
    append_policy: AppendPolicy,
) -> anyhow::Result<()> {
    let mut description: StreamDescription = current_config.description.as_deref().unwrap_or("").parse()?;
    description.epoch = epoch;
    description.broker = verified_on_broker.map(str::to_owned).or(description.broker);
    let max_message_size = if append_policy == AppendPolicy::Accepted {
        MESSAGE_SIZE_UNLIMITED
    } else {
        MESSAGE_SIZE_REFUSING_APPENDS
    };
    let new_config =
        Config { description: Some(description.to_string()), max_message_size, ..current_config.clone() };
    jetstream.update_stream(&new_config).await.context("the broker did not store the new epoch")?;
    Ok(())
}
