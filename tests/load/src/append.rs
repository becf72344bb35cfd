//! Runs the scenario `append`: each writer sends its next message when the last is answered. It first measures the
//! broker alone in the same way, as a baseline.

use crate::{
    broker_alone,
    config::LoadArgs,
    driver::LoadDriver,
    measured_run::{self, RunDuration, RunResult},
    process::MeasuredProcesses,
    timing::SendSchedule,
};

/// Runs the scenario once. The result has the broker's own rate, if it could be measured.
pub(crate) fn run(
    config: &LoadArgs,
    driver: &mut LoadDriver<'_>,
    processes: &MeasuredProcesses,
    mut print_line: impl FnMut(&str),
) -> anyhow::Result<RunResult> {
    let broker_alone = broker_alone::measure_acknowledged_per_second(config, driver.context.writers.len());
    if let Err(error) = &broker_alone {
        print_line(&format!("the rate of the broker alone could not be measured: {error:#}"));
    }
    let mut run = measured_run::run_at_rate(
        driver,
        processes,
        Some(SendSchedule::paced_by_answers()),
        RunDuration::from_args(config),
        None,
    )?;
    run.broker_per_second = broker_alone.ok();
    Ok(run)
}
