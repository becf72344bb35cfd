//! Drains a node: closes its sockets in batches, so that their clients reconnect to other nodes a few at a time.

use std::{sync::Arc, time::Duration};

use service::{lifecycle::Shutdown, random};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use crate::{node::Node, outbox::close::CloseReason};

/// Number of batches in which the sockets are closed.
const BATCHES: u32 = 20;

/// Waits for the soft stop, then closes all sockets within half of `time`, and appends the leaves of their people. Ends
/// early at the hard stop. Cancels `drained` when it returns, which stops the tasks that sockets need.
pub(crate) async fn run(
    node: Arc<Node>,
    shutdown: Shutdown,
    time: Duration,
    drained: CancellationToken,
) -> anyhow::Result<()> {
    shutdown.soft.cancelled().await;
    let _drained = drained.drop_guard();
    let outboxes = node.sockets.all();
    let spread = time / 2;
    tracing::info!(sockets = outboxes.len(), "draining: all sockets are closed in batches");
    let per_batch = outboxes.len().div_ceil(BATCHES as usize).max(1);
    let pause = (spread / BATCHES).max(Duration::from_millis(1));
    let mut batches = interval_at(Instant::now(), pause);
    for batch in outboxes.chunks(per_batch) {
        batches.tick().await;
        for outbox in batch {
            // Spread by the server: clients that all wait alike would all come back at once.
            let retry_after_ms = random::in_range(100..2_001);
            outbox.close(CloseReason::Drain { retry_after_ms });
        }
    }
    let all_left = async {
        node.sockets.wait_until_empty().await;
        node.presence.leave_all().await;
    };
    tokio::select! {
        () = all_left => Ok(()),
        () = shutdown.hard.cancelled() => Ok(()),
    }
}
