//! Publishes the node's heartbeats, and receives its own, so that it knows whether others receive them.
//!
//! What must hold: a node that others may have taken for dead does not go on under the same name:
//! its people would stay absent, since a dead incarnation's last word is that they have left.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::Client;
use futures_util::StreamExt as _;
use protocol::subject;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::node::Node;

/// Between heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// A node whose own heartbeats were not received for that long may be taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Beats until `stop`.
pub(crate) async fn run(node: Arc<Node>, client: Client, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        let incarnation = node.presence.incarnation();
        let mut alive = client.subscribe(subject::alive(incarnation)).await?;
        let mut dead = client.subscribe(subject::dead(incarnation)).await?;
        let mut ticks = interval(HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_beat_at = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {
                    client.publish(subject::alive(incarnation), bytes::Bytes::new()).await?;
                }
                beat = alive.next() => {
                    beat.context("the connection to the broker is closed")?;
                    if last_beat_at.elapsed() > SILENCE_MAX {
                        break;
                    }
                    last_beat_at = Instant::now();
                }
                word = dead.next() => {
                    word.context("the connection to the broker is closed")?;
                    break;
                }
            }
        }
        node.presence.restart_as_new_incarnation();
    }
}
