//! Runs the scenario `joins`: sockets join and leave their rooms and receive the pushes about it; half are outside.
//!
//! What must hold: at the end, each joined socket and each room's list has exactly the sockets that are in the room.

use std::time::{Duration, Instant};

use crate::{
    config::LoadArgs,
    driver::LoadDriver,
    measured_run::{self, RunDuration, RunResult},
    process::MeasuredProcesses,
    server::TestedServer,
};

/// Maximum time until the lists are right.
const LISTS_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two reads of the lists.
const LISTS_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Runs the scenario once. Latency is from a socket's request to each push about it.
pub(crate) fn run(
    config: &LoadArgs,
    peer: &dyn TestedServer,
    world: &mut LoadDriver<'_>,
    processes: &MeasuredProcesses,
) -> anyhow::Result<RunResult> {
    world.start_churn(config.churn_per_second(), world.sockets.len() / 2);
    let mut run = measured_run::run_at_rate(world, processes, None, RunDuration::from_args(config), None)?;
    let until = Instant::now() + LISTS_TIMEOUT;
    let mut wrong_lists = world.count_wrong_lists(&peer.read_participant_lists()?);
    while wrong_lists > 0 && Instant::now() < until {
        std::thread::sleep(LISTS_POLL_INTERVAL);
        wrong_lists = world.count_wrong_lists(&peer.read_participant_lists()?);
    }
    run.faults.misled += wrong_lists as u64;
    Ok(run)
}
