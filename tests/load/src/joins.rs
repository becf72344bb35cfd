//! Sockets enter their rooms and leave them, and each hears it of the others; half of them are outside.
//!
//! What must hold: in the end every socket that is in its room, and every room's list, has exactly those who
//! are there.

use std::time::{Duration, Instant};

use crate::{
    config::LoadArgs,
    driver::LoadDriver,
    measured_run::{self, RunDuration, RunResult},
    process::MeasuredProcesses,
    server::TestedServer,
};

/// How long lists may lag behind.
const LISTS_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at them.
const LISTS_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// One run; latency is from asking to each push of it.
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
