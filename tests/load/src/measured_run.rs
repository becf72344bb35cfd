//! Performs one measured run at one rate: warms up, measures, and waits for the deliveries still on their way.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    config::LoadArgs,
    delivery_check::Faults,
    driver::LoadDriver,
    measurements::{Measurements, NANOS_PER_SEC, SecondStats, us_to_ms},
    process::{self, MeasuredProcesses, ProcessUsage},
    timing::{self, SendSchedule},
};

/// Time without any arrival after which missing deliveries count as lost.
const SILENCE_NS_MAX: u64 = 5 * NANOS_PER_SEC;
/// This time with `--reconnect`, where servers may be killed: longer than a leader election of the broker.
const SILENCE_WITH_RECONNECTS_NS_MAX: u64 = 30 * NANOS_PER_SEC;
/// Time between two checks whether everything has arrived.
const POLL_INTERVAL_NS: u64 = NANOS_PER_SEC / 20;

/// What a run costs a process.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProcessCost {
    pub(crate) name: String,
    /// CPU seconds within the window.
    pub(crate) cpu: f64,
    /// CPU seconds per million deliveries.
    pub(crate) per_million: f64,
    /// CPU microseconds per acknowledged message.
    pub(crate) message_us: f64,
    /// Resident memory at the end, in KiB.
    pub(crate) rss_kib: u64,
}

/// The results of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunResult {
    /// Messages that were due per second.
    pub(crate) rate: f64,
    /// Length of the window in seconds.
    pub(crate) seconds: f64,
    /// Deliveries within the window.
    pub(crate) deliveries: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) costs: Vec<ProcessCost>,
    /// Joins within the window, and their latency.
    pub(crate) joins: u64,
    pub(crate) join_p99_ms: f64,
    /// Acknowledgements within the window, and their latency from when the messages were due.
    pub(crate) acknowledged: u64,
    pub(crate) acknowledged_per_second: f64,
    pub(crate) ack_p50_ms: f64,
    pub(crate) ack_p99_ms: f64,
    /// Messages per second that the broker alone acknowledges; only in `append`.
    pub(crate) broker_per_second: Option<f64>,
    /// CPU seconds of this program within the window.
    pub(crate) own_cpu: f64,
    pub(crate) faults: Faults,
    /// Messages sent since the start of the program.
    pub(crate) sent: u64,
    /// Messages that the server refused or did not answer, since the window began.
    pub(crate) refused: u64,
    /// Number of reconnects of sockets that were closed.
    pub(crate) reconnects: u64,
    /// Whether everything arrived that had to arrive.
    pub(crate) complete: bool,
    pub(crate) timeline: Vec<SecondStats>,
    pub(crate) latency_histogram: Vec<LatencyBucket>,
}

impl RunResult {
    /// The run as one line, for a probe of the rate search.
    pub(crate) fn probe_line(&self, is_sustained: bool) -> String {
        let verdict = match (is_sustained, self.faults.has_any()) {
            (true, _) => "sustained".to_owned(),
            (false, false) => "not sustained".to_owned(),
            (false, true) => format!("not sustained: {}", self.faults),
        };
        let Self { rate, per_second, p99_ms, .. } = self;
        format!("{rate:.0} messages/s: {per_second:.0} deliveries/s, p99 {p99_ms:.1} ms: {verdict}")
    }
}

/// The number of deliveries in a range of latencies.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LatencyBucket {
    pub(crate) up_to_ms: f64,
    pub(crate) deliveries: u64,
}

/// How long a run warms up and measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunDuration {
    pub(crate) warmup_secs: u64,
    pub(crate) measured_secs: u64,
}

impl RunDuration {
    /// The duration that the arguments say.
    pub(crate) const fn from_args(config: &LoadArgs) -> Self {
        Self { warmup_secs: config.warmup, measured_secs: config.seconds }
    }
}

/// Performs a run with this schedule. It ends early, as incomplete, once a delivery is later than
/// `give_up_latency_us`.
pub(crate) fn run_at_rate(
    driver: &mut LoadDriver<'_>,
    processes: &MeasuredProcesses,
    schedule: Option<SendSchedule>,
    duration: RunDuration,
    give_up_latency_us: Option<u64>,
) -> anyhow::Result<RunResult> {
    let start = timing::now_ns() + duration.warmup_secs * NANOS_PER_SEC;
    let end = start + duration.measured_secs * NANOS_PER_SEC;
    driver.context.measurements = Measurements::new(start, end);
    let mut schedule = schedule;
    let is_too_late = |driver: &LoadDriver<'_>| {
        give_up_latency_us.is_some_and(|micros| driver.context.measurements.last_latency_us > micros)
    };
    driver.run_until(&mut schedule, start, is_too_late)?;
    let meter = RunMeter::start(driver, processes);
    driver.run_until(&mut schedule, end, is_too_late)?;
    let meter = meter.stop();
    let is_given_up = timing::now_ns() < end;
    driver.context.measurements.close();
    driver.stop_churn();
    let complete = wait_for_deliveries(driver)? && !is_given_up;
    Ok(meter.into_result(driver, schedule.map_or(0.0, |schedule| schedule.per_second()), complete))
}

/// Measures what the processes use within a window.
pub(crate) struct RunMeter<'a> {
    processes: &'a MeasuredProcesses,
    before: Vec<ProcessUsage>,
    after: Vec<ProcessUsage>,
    start_ns: u64,
    end_ns: u64,
    own_cpu_secs: f64,
    refused_before: u64,
}

impl<'a> RunMeter<'a> {
    /// Starts the window.
    pub(crate) fn start(driver: &LoadDriver<'_>, processes: &'a MeasuredProcesses) -> Self {
        Self {
            processes,
            before: processes.read_usage(),
            after: Vec::new(),
            start_ns: timing::now_ns(),
            end_ns: 0,
            own_cpu_secs: own_cpu_secs(),
            refused_before: count_refused(driver),
        }
    }

    /// Ends the window.
    pub(crate) fn stop(self) -> Self {
        let (after, own_cpu_secs) = (self.processes.read_usage(), own_cpu_secs() - self.own_cpu_secs);
        Self { after, own_cpu_secs, end_ns: timing::now_ns(), ..self }
    }

    /// Collects the results. Deliveries that have not arrived by now are lost.
    pub(crate) fn into_result(self, driver: &mut LoadDriver<'_>, rate: f64, complete: bool) -> RunResult {
        let faults = driver.take_faults();
        let measurements = std::mem::replace(&mut driver.context.measurements, Measurements::new(0, 0));
        let seconds = (self.end_ns - self.start_ns) as f64 / NANOS_PER_SEC as f64;
        RunResult {
            rate,
            seconds,
            deliveries: measurements.deliveries,
            per_second: measurements.deliveries as f64 / seconds,
            p50_ms: us_to_ms(measurements.latencies_us.value_at_quantile(0.5)),
            p99_ms: us_to_ms(measurements.latencies_us.value_at_quantile(0.99)),
            max_ms: us_to_ms(measurements.latencies_us.max()),
            costs: process_costs(&self.before, &self.after, &measurements),
            joins: measurements.join_latencies_us.len(),
            join_p99_ms: us_to_ms(measurements.join_latencies_us.value_at_quantile(0.99)),
            acknowledged: measurements.ack_latencies_us.len(),
            acknowledged_per_second: measurements.ack_latencies_us.len() as f64 / seconds,
            ack_p50_ms: us_to_ms(measurements.ack_latencies_us.value_at_quantile(0.5)),
            ack_p99_ms: us_to_ms(measurements.ack_latencies_us.value_at_quantile(0.99)),
            broker_per_second: None,
            own_cpu: self.own_cpu_secs,
            faults,
            sent: driver.sent_messages,
            refused: count_refused(driver) - self.refused_before,
            reconnects: std::mem::take(&mut driver.reconnects),
            complete,
            latency_histogram: latency_buckets(&measurements.latencies_us),
            timeline: measurements.seconds,
        }
    }
}

fn count_refused(driver: &LoadDriver<'_>) -> u64 {
    driver.context.writers.iter().map(|writer| writer.refused_seqs.len() as u64).sum()
}

/// Waits until everything has arrived. Returns false if nothing arrives for the maximum time of silence.
pub(crate) fn wait_for_deliveries(driver: &mut LoadDriver<'_>) -> anyhow::Result<bool> {
    let silence = if driver.is_reconnecting { SILENCE_WITH_RECONNECTS_NS_MAX } else { SILENCE_NS_MAX };
    let mut silent_since = timing::now_ns();
    loop {
        if driver.is_complete() {
            return Ok(true);
        }
        silent_since = silent_since.max(driver.context.measurements.last_arrival_ns);
        if timing::now_ns() > silent_since + silence {
            return Ok(false);
        }
        driver.run_until(&mut None, timing::now_ns() + POLL_INTERVAL_NS, |_| false)?;
    }
}

fn process_costs(
    before: &[ProcessUsage],
    after: &[ProcessUsage],
    measurements: &Measurements,
) -> Vec<ProcessCost> {
    process::pairs_by_pid(before, after)
        .map(|(before, after)| {
            let cpu = after.cpu - before.cpu;
            // Microseconds per item and seconds per million items are the same number.
            let microseconds_per = |count: u64| if count == 0 { 0.0 } else { cpu * 1e6 / count as f64 };
            ProcessCost {
                name: after.name.clone(),
                cpu,
                per_million: microseconds_per(measurements.deliveries),
                message_us: microseconds_per(measurements.ack_latencies_us.len()),
                rss_kib: after.rss_kib,
            }
        })
        .collect()
}

/// The histogram in buckets, each 25 % wider than the one before; empty ones at the beginning are left out.
fn latency_buckets(latency: &Histogram<u64>) -> Vec<LatencyBucket> {
    let steps: Vec<LatencyBucket> = latency
        .iter_log(16, 1.25)
        .map(|step| LatencyBucket {
            up_to_ms: us_to_ms(step.value_iterated_to()),
            deliveries: step.count_since_last_iteration(),
        })
        .collect();
    let first = steps.iter().position(|step| step.deliveries > 0).unwrap_or(0);
    steps.into_iter().skip(first).collect()
}

fn own_cpu_secs() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
