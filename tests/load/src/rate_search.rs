//! Searches the highest rate that the server sustains: multiplies it by four until the server fails, then bisects.

use crate::{
    config::LoadArgs,
    driver::LoadDriver,
    measured_run::{self, RunDuration, RunResult},
    process::MeasuredProcesses,
    timing::SendSchedule,
};

/// Factor between two rates, while the server sustains them.
const RATE_FACTOR: f64 = 4.0;
/// Ratio of the lowest failing rate to the highest sustained rate at which the bisection ends.
const PRECISION_FACTOR: f64 = 1.1;
/// A delivery that is later than this multiple of `--p99` ends a probe.
const GIVE_UP_FACTOR: f64 = 20.0;

/// Searches the rate with short probes, then measures it for the full duration. `None` if no rate is sustained.
pub(crate) fn find_highest_rate(
    config: &LoadArgs,
    driver: &mut LoadDriver<'_>,
    processes: &MeasuredProcesses,
    mut report: impl FnMut(&RunResult, bool),
) -> anyhow::Result<Option<RunResult>> {
    let full = RunDuration::from_args(config);
    let short = RunDuration { warmup_secs: 1, measured_secs: (full.measured_secs / 2).clamp(1, 4) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "minutes at most")]
    let give_up_latency_us = (config.p99 * 1_000.0 * GIVE_UP_FACTOR) as u64;
    let mut probe = |rate: f64, duration: RunDuration| -> anyhow::Result<(RunResult, bool)> {
        let run = measured_run::run_at_rate(
            driver,
            processes,
            Some(SendSchedule::new(rate)),
            duration,
            Some(give_up_latency_us),
        )?;
        let is_sustained =
            run.complete && !run.faults.has_any() && run.refused == 0 && run.p99_ms <= config.p99;
        report(&run, is_sustained);
        if !is_sustained {
            // An overloaded server may have closed sockets, which must not affect the next probe.
            driver.reconnect_all()?;
        }
        Ok((run, is_sustained))
    };
    let (mut low, mut high) = (0.0, config.messages_per_second().max(1.0));
    while probe(high, short)?.1 {
        low = high;
        high *= RATE_FACTOR;
    }
    while low == 0.0 && high > 1.0 {
        let lower = high / RATE_FACTOR;
        if probe(lower, short)?.1 {
            low = lower;
        } else {
            high = lower;
        }
    }
    while low > 0.0 && high / low > PRECISION_FACTOR {
        let middle = f64::sqrt(low * high);
        if probe(middle, short)?.1 {
            low = middle;
        } else {
            high = middle;
        }
    }
    // A rate that was sustained for a few seconds may fail over the full duration.
    while low > 1.0 {
        let (run, is_sustained) = probe(low, full)?;
        if is_sustained {
            return Ok(Some(run));
        }
        low /= PRECISION_FACTOR;
    }
    Ok(None)
}
