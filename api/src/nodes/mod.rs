//! Processes that hold sockets, heard by their heartbeats; one that is silent for too long is dead, and
//! its people are taken out of their rooms.
//!
//! What must hold: nobody stays present by a process that is gone, also one that no api node ever heard.
//! A process that was taken for dead and is not is told so, until it goes on under another name.

mod failure_detector;
mod leave;

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::{Client, connection::State};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use protocol::subject::{self, NodeSignal};
use service::{lifecycle::Shutdown, metric_names as names};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{commands::state::Api, queries::presence};
use failure_detector::FailureDetector;

/// Between words of this node to itself.
const EVERY: Duration = Duration::from_secs(2);
/// Between looks at whose people Postgres has.
const LOOK: Duration = Duration::from_secs(5);

/// What this node knows of processes, and does about the dead.
struct Nodes {
    api: Api,
    client: Client,
    /// The name that this node calls itself by, and by no other.
    own: u64,
    lives: FailureDetector,
    /// The dead whose people leave just now, a task each.
    leaving: JoinSet<u64>,
    of: HashSet<u64>,
    places: Arc<Semaphore>,
}

/// Listens until the soft stop.
///
/// # Errors
/// When the connection is gone for good.
pub(crate) async fn watch(api: Api, client: Client, shutdown: Shutdown) -> anyhow::Result<()> {
    // One subscription for all: what the broker had before this node's own word is heard before it.
    let mut signs = client.subscribe(subject::NODE_SIGNALS_ALL).await?;
    let mut echoes = interval(EVERY);
    echoes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = pin!(stream::unfold(interval(LOOK), |mut ticks| async {
        ticks.tick().await;
        Some((presence::incarnations(&api.pool).await, ticks))
    }));
    let mut nodes = Nodes {
        api: api.clone(),
        client,
        own: rand::random(),
        lives: FailureDetector::default(),
        leaving: JoinSet::new(),
        of: HashSet::new(),
        places: Arc::new(Semaphore::new(leave::AT_ONCE)),
    };
    loop {
        tokio::select! {
            () = shutdown.soft.cancelled() => return Ok(()),
            _ = echoes.tick() => nodes.speak().await?,
            message = signs.next() => {
                let message = message.context("the connection to the broker is closed")?;
                if let Ok(sign) = subject::parse_node_signal(&message.subject) {
                    nodes.hear(sign).await?;
                }
            }
            Some(found) = looks.next() => match found {
                Ok(found) => nodes.found(found),
                Err(error) => tracing::debug!(%error, "whose people are present"),
            },
            Some(left) = nodes.leaving.join_next() => drop(nodes.of.remove(&left?)),
        }
    }
}

impl Nodes {
    /// Says something to itself. What waited for the broker to come back would prove nothing.
    async fn speak(&self) -> anyhow::Result<()> {
        if self.client.connection_state() == State::Connected {
            self.client.publish(subject::echo(self.own), Bytes::new()).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, sign: NodeSignal) -> anyhow::Result<()> {
        let now = Instant::now();
        match sign {
            NodeSignal::Alive(process) if !self.lives.note_alive(process, now) => self.tell(process).await,
            NodeSignal::Echo(process) if process == self.own => {
                for dead in self.lives.note_echo(now) {
                    tracing::warn!(incarnation = dead, "a process is gone: its people leave");
                    metrics::counter!(names::DEAD_NODES_TOTAL).increment(1);
                    self.tell(dead).await?;
                    self.leave(dead);
                }
                Ok(())
            }
            NodeSignal::Alive(_) | NodeSignal::Echo(_) | NodeSignal::Dead(_) => Ok(()),
        }
    }

    /// These processes have people in Postgres.
    fn found(&mut self, processes: Vec<u64>) {
        for process in processes {
            if self.lives.note_has_people(process, Instant::now()) {
                self.leave(process);
            }
        }
    }

    /// Tells a process that it was taken for dead, if it hears.
    async fn tell(&self, process: u64) -> anyhow::Result<()> {
        Ok(self.client.publish(subject::dead(process), Bytes::new()).await?)
    }

    fn leave(&mut self, process: u64) {
        if self.of.insert(process) {
            let (api, places) = (self.api.clone(), self.places.clone());
            self.leaving.spawn(async move {
                leave::everyone(&api, process, &places).await;
                process
            });
        }
    }
}
