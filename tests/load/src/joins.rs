//! Runs the scenario `joins`: sockets join and leave their rooms, half of them are outside, and each gets the pushes.
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

/// Maximum time until the lists of participants are correct.
const LISTS_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two reads of the lists.
const LISTS_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Runs the scenario once. Latency is measured from a socket's request to each push of its join or leave.
pub(crate) fn run(
    config: &LoadArgs,
    server: &dyn TestedServer,
    driver: &mut LoadDriver<'_>,
    processes: &MeasuredProcesses,
) -> anyhow::Result<RunResult> {
    driver.start_churn(config.churn_per_second(), driver.sockets.len() / 2);
    let mut run = measured_run::run_at_rate(driver, processes, None, RunDuration::from_args(config), None)?;
    let deadline = Instant::now() + LISTS_TIMEOUT;
    let mut wrong_lists = driver.count_wrong_lists(&server.read_participant_lists()?);
    while wrong_lists > 0 && Instant::now() < deadline {
        std::thread::sleep(LISTS_POLL_INTERVAL);
        wrong_lists = driver.count_wrong_lists(&server.read_participant_lists()?);
    }
    run.faults.wrong_participants += wrong_lists as u64;
    Ok(run)
}
