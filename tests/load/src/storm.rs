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

/// Runs one storm. Its window begins when the sockets reconnect, and ends when they have all missed messages.
pub(crate) fn run(
    config: &LoadArgs,
    world: &mut LoadDriver<'_>,
    processes: &MeasuredProcesses,
) -> anyhow::Result<RunResult> {
    if world.route() == PostRoute::Socket {
        bail!("in a storm there is no socket to write by: choose another --publish");
    }
    world.close_all();
    let last = world.sent_messages + config.missed * world.context.writers.len() as u64;
    let mut pace = Some(SendSchedule::new(config.messages_per_second()));
    world.run_until(&mut pace, timing::now_ns() + STORM_NS_MAX, |world| world.sent_messages >= last)?;
    world.run_until(&mut None, timing::now_ns() + STORM_NS_MAX, LoadDriver::is_answered)?;

    let meter = RunMeter::start(world, processes);
    let start = timing::now_ns();
    world.context.measurements = Measurements::new(start, start + STORM_NS_MAX);
    world.connect_all(usize::MAX, |_| ())?;
    let complete = measured_run::wait_for_deliveries(world)?;
    Ok(meter.stop().into_result(world, 0.0, complete))
}
