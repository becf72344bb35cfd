//! Measures how late sleeps are on the idle machine: no latency can be measured more precisely than that.
//!
//! What must hold: the measurement covers every CPU, and ends before the first socket is opened.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::Serialize;

use crate::{measurements::us_to_ms, pin_to_cpu};

/// Length of a sleep.
const SLEEP: Duration = Duration::from_millis(2);
/// Number of sleeps on each CPU.
const SLEEPS_PER_CPU: usize = 500;

/// How late sleeps of two milliseconds were.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct TimerLateness {
    pub(crate) late_p50_ms: f64,
    pub(crate) late_p99_ms: f64,
    pub(crate) late_max_ms: f64,
}

impl TimerLateness {
    /// Measures all CPUs at the same time; takes about a second.
    pub(crate) fn measure() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("the CPUs of this machine")?;
        let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let sleepers: Vec<_> = cpus.map(|cpu| thread::spawn(move || measure_cpu(cpu))).collect();
        let mut late = Histogram::new(3)?;
        for sleeper in sleepers {
            late.add(sleeper.join().map_err(|_| anyhow::anyhow!("a measuring thread panicked"))??)?;
        }
        Ok(Self {
            late_p50_ms: us_to_ms(late.value_at_quantile(0.5)),
            late_p99_ms: us_to_ms(late.value_at_quantile(0.99)),
            late_max_ms: us_to_ms(late.max()),
        })
    }
}

/// Lateness of a CPU's sleeps, in microseconds.
fn measure_cpu(cpu: usize) -> anyhow::Result<Histogram<u64>> {
    pin_to_cpu(cpu)?;
    let mut late = Histogram::new(3)?;
    for _ in 0..SLEEPS_PER_CPU {
        let start = Instant::now();
        thread::sleep(SLEEP);
        let late_by = start.elapsed().saturating_sub(SLEEP);
        late.saturating_record(u64::try_from(late_by.as_micros()).unwrap_or(u64::MAX));
    }
    Ok(late)
}
