//! How the machine keeps time while nobody asks anything of it: the least that any latency can be.
//!
//! What must hold: measured on every CPU, before the first socket, so that it is not the run's own work.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::Serialize;

use crate::{measurements::us_to_ms, pin_to_cpu};

/// How long a sleep is to be.
const SLEEP: Duration = Duration::from_millis(2);
/// How often each CPU sleeps.
const SLEEPS_PER_CPU: usize = 500;

/// By how much sleeps of two milliseconds were late.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct TimerLateness {
    pub(crate) late_p50_ms: f64,
    pub(crate) late_p99_ms: f64,
    pub(crate) late_max_ms: f64,
}

impl TimerLateness {
    /// Takes as long as the sleeps.
    pub(crate) fn measure() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("the CPUs of this machine")?;
        let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let sleepers: Vec<_> = cpus.map(|cpu| thread::spawn(move || measure_cpu(cpu))).collect();
        let mut late = Histogram::new(3)?;
        for sleeper in sleepers {
            late.add(sleeper.join().map_err(|_| anyhow::anyhow!("a sleeper has panicked"))??)?;
        }
        Ok(Self {
            late_p50_ms: us_to_ms(late.value_at_quantile(0.5)),
            late_p99_ms: us_to_ms(late.value_at_quantile(0.99)),
            late_max_ms: us_to_ms(late.max()),
        })
    }
}

/// By how many microseconds a CPU's sleeps were late.
fn measure_cpu(cpu: usize) -> anyhow::Result<Histogram<u64>> {
    pin_to_cpu(cpu)?;
    let mut late = Histogram::new(3)?;
    for _ in 0..SLEEPS_PER_CPU {
        let began = Instant::now();
        thread::sleep(SLEEP);
        let late_by = began.elapsed().saturating_sub(SLEEP);
        late.saturating_record(u64::try_from(late_by.as_micros()).unwrap_or(u64::MAX));
    }
    Ok(late)
}
