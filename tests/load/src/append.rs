//! Each writer's next message follows the answer to its last. First the broker alone is written to in the same
//! way: what Roomcast acknowledges is to be seen beside that.

use crate::{
    broker_alone,
    config::LoadArgs,
    driver::LoadDriver,
    measured_run::{self, RunDuration, RunResult},
    process::MeasuredProcesses,
    timing::SendSchedule,
};

/// One run, with what the broker alone acknowledges a second, where it could be asked.
pub(crate) fn run(
    config: &LoadArgs,
    world: &mut LoadDriver<'_>,
    processes: &MeasuredProcesses,
    mut say: impl FnMut(&str),
) -> anyhow::Result<RunResult> {
    let broker_alone = broker_alone::measure_acknowledged_per_second(config, world.context.writers.len());
    if let Err(error) = &broker_alone {
        say(&format!("the broker alone: not measured: {error:#}"));
    }
    let mut run = measured_run::run_at_rate(
        world,
        processes,
        Some(SendSchedule::paced_by_answers()),
        RunDuration::from_args(config),
        None,
    )?;
    run.broker_per_second = broker_alone.ok();
    Ok(run)
}
