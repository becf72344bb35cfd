//! Runs the scenario `storm`: closes all sockets at once, sends messages meanwhile, and lets all sockets resume.
//!
//! What must hold: every missed message arrives once, in order, and before newer ones.

use anyhow::bail;

use crate::{
    config::LoadArgs,
    driver::LoadDriver,
    measured_run::{self, RunMeter, RunResult},
    measurements::{Measurements, NANOS_PER_SEC},
    process::MeasuredProcesses,
    server::PostRoute,
    timing::{self, SendSchedule},
};

/// Maximum duration of each part of a storm, in nanoseconds.
const STORM_NS_MAX: u64 = 3_600 * NANOS_PER_SEC;

/// Runs one storm. Its window begins when the sockets reconnect, and ends when all missed messages have arrived.
pub(crate) fn run(
    config: &LoadArgs,
    driver: &mut LoadDriver<'_>,
    processes: &MeasuredProcesses,
) -> anyhow::Result<RunResult> {
    if driver.route() == PostRoute::Socket {
        bail!("in a storm there are no sockets to send messages by: choose another --publish");
    }
    driver.close_all();
    let last_message = driver.sent_messages + config.missed * driver.context.writers.len() as u64;
    let mut schedule = Some(SendSchedule::new(config.messages_per_second()));
    driver.run_until(&mut schedule, timing::now_ns() + STORM_NS_MAX, |driver| {
        driver.sent_messages >= last_message
    })?;
    driver.run_until(&mut None, timing::now_ns() + STORM_NS_MAX, LoadDriver::is_answered)?;

    let meter = RunMeter::start(driver, processes);
    let start = timing::now_ns();
    driver.context.measurements = Measurements::new(start, start + STORM_NS_MAX);
    driver.connect_all(usize::MAX, |_| ())?;
    let complete = measured_run::wait_for_deliveries(driver)?;
    Ok(meter.stop().into_result(driver, 0.0, complete))
}
