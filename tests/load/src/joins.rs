//! Sockets enter their rooms and leave them, and each hears it of the others; half of them are outside.
//!
//! What must hold: in the end every socket that is in its room, and every room's list, has exactly those who
//! are there.

use std::time::{Duration, Instant};

use crate::{
    config::Config,
    peer::Peer,
    process::Processes,
    run::{self, Run, Span},
    world::World,
};

/// How long lists may lag behind.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(200);

/// One run; latency is from asking to each push of it.
pub(crate) fn run(
    config: &Config,
    peer: &dyn Peer,
    world: &mut World<'_>,
    processes: &Processes,
) -> anyhow::Result<Run> {
    world.churn(config.churn(), world.sockets.len() / 2);
    let mut run = run::at(world, processes, None, Span::of(config), None)?;
    let until = Instant::now() + PATIENCE;
    let mut wrong = world.differ(&peer.lists()?);
    while wrong > 0 && Instant::now() < until {
        std::thread::sleep(LOOK);
        wrong = world.differ(&peer.lists()?);
    }
    run.faults.misled += wrong as u64;
    Ok(run)
}
