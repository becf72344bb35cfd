//! Watches the heartbeats of fan-out processes. A process that is silent for too long is declared dead, and its
//! people leave their rooms.
//!
//! What must hold: nobody stays present by a dead process, even one whose heartbeats no api node ever received. A
//! process that was declared dead by mistake is told so until it continues under another incarnation.

mod failure_detector;
mod leave;

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::{Client, connection::State};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use protocol::subject::{self, NodeSignal};
use service::{lifecycle::Shutdown, metric_names as names, random};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{commands::state::CommandState, queries::presence};
use failure_detector::FailureDetector;

/// Interval between this node's heartbeats to itself.
const ECHO_INTERVAL: Duration = Duration::from_secs(2);
/// Interval between reads of which processes have people in Postgres.
const PRESENCE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The state of the task that watches processes.
struct NodeMonitor {
    api: Arc<CommandState>,
    client: Client,
    /// The id of this node in its own heartbeats.
    own_id: u64,
    detector: FailureDetector,
    /// One task for each dead process whose people leave.
    leave_tasks: JoinSet<u64>,
    leaving_processes: HashSet<u64>,
    leave_permits: Arc<Semaphore>,
}

/// Watches heartbeats until the soft stop.
///
/// # Errors
/// Fails if the connection is closed for good.
pub(crate) async fn watch(api: Arc<CommandState>, client: Client, shutdown: Shutdown) -> anyhow::Result<()> {
    // One subscription for all heartbeats: those that the broker got before this node's own are received before it.
    let mut signs = client.subscribe(subject::NODE_SIGNALS_ALL).await?;
    let mut echoes = interval(ECHO_INTERVAL);
    echoes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = pin!(stream::unfold(interval(PRESENCE_CHECK_INTERVAL), |mut ticks| async {
        ticks.tick().await;
        Some((presence::list_present_incarnations(&api.pool).await, ticks))
    }));
    let mut nodes = NodeMonitor {
        api: api.clone(),
        client,
        own_id: random::process_id(),
        detector: FailureDetector::default(),
        leave_tasks: JoinSet::new(),
        leaving_processes: HashSet::new(),
        leave_permits: Arc::new(Semaphore::new(leave::CONCURRENT_LEAVES_MAX)),
    };
    loop {
        tokio::select! {
            () = shutdown.soft.cancelled() => return Ok(()),
            _ = echoes.tick() => nodes.publish_echo().await?,
            message = signs.next() => {
                let message = message.context("the connection to the broker is closed")?;
                if let Ok(sign) = subject::parse_node_signal(&message.subject) {
                    nodes.handle_signal(sign).await?;
                }
            }
            Some(found) = looks.next() => match found {
                Ok(found) => nodes.note_processes_with_people(found),
                Err(error) => tracing::debug!(%error, "could not read which processes have people; trying again"),
            },
            Some(incarnation) = nodes.leave_tasks.join_next() => drop(nodes.leaving_processes.remove(&incarnation?)),
        }
    }
}

impl NodeMonitor {
    /// Publishes a heartbeat to this node itself. Skipped without a connection: one that was queued meanwhile would
    /// prove nothing.
    async fn publish_echo(&self) -> anyhow::Result<()> {
        if self.client.connection_state() == State::Connected {
            self.client.publish(subject::echo(self.own_id), Bytes::new()).await?;
        }
        Ok(())
    }

    async fn handle_signal(&mut self, sign: NodeSignal) -> anyhow::Result<()> {
        let now = Instant::now();
        match sign {
            NodeSignal::Alive(process) if !self.detector.note_alive(process, now) => {
                self.publish_dead(process).await
            }
            NodeSignal::Echo(process) if process == self.own_id => {
                for dead in self.detector.note_echo(now) {
                    tracing::warn!(
                        incarnation = dead,
                        "a fan-out process is dead; appending the leaves of its people"
                    );
                    metrics::counter!(names::DEAD_NODES_TOTAL).increment(1);
                    self.publish_dead(dead).await?;
                    self.start_leave(dead);
                }
                Ok(())
            }
            NodeSignal::Alive(_) | NodeSignal::Echo(_) | NodeSignal::Dead(_) => Ok(()),
        }
    }

    /// Records that these processes have people in Postgres.
    fn note_processes_with_people(&mut self, processes: Vec<u64>) {
        for process in processes {
            if self.detector.note_has_people(process, Instant::now()) {
                self.start_leave(process);
            }
        }
    }

    /// Tells a process that it was declared dead.
    async fn publish_dead(&self, process: u64) -> anyhow::Result<()> {
        Ok(self.client.publish(subject::dead(process), Bytes::new()).await?)
    }

    fn start_leave(&mut self, process: u64) {
        if self.leaving_processes.insert(process) {
            let (api, permits) = (self.api.clone(), self.leave_permits.clone());
            self.leave_tasks.spawn(async move {
                leave::leave_everywhere(&api, process, &permits).await;
                process
            });
        }
    }
}
