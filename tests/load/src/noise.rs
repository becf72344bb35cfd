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

use crate::{pin, tally::millis};

/// How long a sleep is to be.
const SLEEP: Duration = Duration::from_millis(2);
/// How often each CPU sleeps.
const SLEEPS: usize = 500;

/// By how much sleeps of two milliseconds were late.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Noise {
    pub(crate) late_p50_ms: f64,
    pub(crate) late_p99_ms: f64,
    pub(crate) late_max_ms: f64,
}

impl Noise {
    /// Takes as long as the sleeps.
    pub(crate) fn measure() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("the CPUs of this machine")?;
        let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let sleepers: Vec<_> = cpus.map(|cpu| thread::spawn(move || sleeps(cpu))).collect();
        let mut late = Histogram::new(3)?;
        for sleeper in sleepers {
            late.add(sleeper.join().map_err(|_| anyhow::anyhow!("a sleeper has panicked"))??)?;
        }
        Ok(Self {
            late_p50_ms: millis(late.value_at_quantile(0.5)),
            late_p99_ms: millis(late.value_at_quantile(0.99)),
            late_max_ms: millis(late.max()),
        })
    }
}

/// By how many microseconds a CPU's sleeps were late.
fn sleeps(cpu: usize) -> anyhow::Result<Histogram<u64>> {
    pin(cpu)?;
    let mut late = Histogram::new(3)?;
    for _ in 0..SLEEPS {
        let began = Instant::now();
        thread::sleep(SLEEP);
        let late_by = began.elapsed().saturating_sub(SLEEP);
        late.saturating_record(u64::try_from(late_by.as_micros()).unwrap_or(u64::MAX));
    }
    Ok(late)
}
