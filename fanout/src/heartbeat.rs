//! Publishes the node's heartbeats, and receives them itself, to learn whether api can receive them.
//!
//! What must hold: a node that api may have declared dead takes a new incarnation. Under the old one its people would
//! stay absent: api appends a leave with the highest counter for each of them, so no later join counts.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::Client;
use futures_util::StreamExt as _;
use protocol::subject;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::node::Node;

/// Interval between heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// If the node receives none of its own heartbeats for this long, api may have declared it dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Publishes heartbeats until `stop`. Takes a new incarnation whenever api has, or may have, declared this one dead.
///
/// # Errors
/// If the connection to the broker is closed for good.
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
                signal = dead.next() => {
                    signal.context("the connection to the broker is closed")?;
                    break;
                }
            }
        }
        node.presence.restart_as_new_incarnation();
    }
}
