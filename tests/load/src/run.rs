//! One measured run at one rate: warm up, measure, wait for what is on its way.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    check::Faults,
    config::Config,
    pace::{self, Pace},
    process::{self, Processes, Used},
    tally::{SECOND, Second, Tally, millis},
    world::World,
};

/// How long what is on its way may take, without anything coming.
const SILENCE: u64 = 5 * SECOND;
/// The same where a server may have been ended: longer than an election of its broker.
const LONG_SILENCE: u64 = 30 * SECOND;
/// Between two looks whether all has come.
const LOOK: u64 = SECOND / 20;

/// A process's share.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) name: String,
    /// CPU seconds within the window.
    pub(crate) cpu: f64,
    /// The same by million deliveries.
    pub(crate) per_million: f64,
    /// Microseconds by acknowledged message.
    pub(crate) message_us: f64,
    /// Resident at the end, in KiB.
    pub(crate) rss_kib: u64,
}

/// What a run has shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// Messages a second that were due.
    pub(crate) rate: f64,
    /// Seconds measured.
    pub(crate) seconds: f64,
    /// Deliveries within them.
    pub(crate) deliveries: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) costs: Vec<Cost>,
    /// Sockets that came into their rooms within the window, and how long that took.
    pub(crate) joins: u64,
    pub(crate) join_p99_ms: f64,
    /// Messages that the server acknowledged within the window, and how long after they were due.
    pub(crate) acknowledged: u64,
    pub(crate) acknowledged_per_second: f64,
    pub(crate) ack_p50_ms: f64,
    pub(crate) ack_p99_ms: f64,
    /// What the broker alone acknowledges a second, in append.
    pub(crate) broker_per_second: Option<f64>,
    /// This program's own CPU seconds.
    pub(crate) own_cpu: f64,
    pub(crate) faults: Faults,
    /// Messages sent, since all sockets were there.
    pub(crate) sent: u64,
    /// Messages of the window that the server refused, or did not answer.
    pub(crate) refused: u64,
    /// Sockets that were closed and came back.
    pub(crate) returned: u64,
    /// Whether all came that must.
    pub(crate) complete: bool,
    pub(crate) timeline: Vec<Second>,
    pub(crate) spread: Vec<Step>,
}

impl Run {
    /// What a search has tried, in a line.
    pub(crate) fn probe(&self, held: bool) -> String {
        let verdict = match (held, self.faults.any()) {
            (true, _) => "held".to_owned(),
            (false, false) => "not held".to_owned(),
            (false, true) => format!("not held: {}", self.faults),
        };
        let Self { rate, per_second, p99_ms, .. } = self;
        format!("{rate:.0} messages/s: {per_second:.0} deliveries/s, p99 {p99_ms:.1} ms: {verdict}")
    }
}

/// Deliveries of a range of latencies.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) up_to_ms: f64,
    pub(crate) deliveries: u64,
}

/// For how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) warmup: u64,
    pub(crate) seconds: u64,
}

impl Span {
    /// As the flags say.
    pub(crate) const fn of(config: &Config) -> Self {
        Self { warmup: config.warmup, seconds: config.seconds }
    }
}

/// A run at that pace. Where deliveries are later than `give_up` it is ended: it will not hold.
pub(crate) fn at(
    world: &mut World<'_>,
    processes: &Processes,
    pace: Option<Pace>,
    span: Span,
    give_up: Option<u64>,
) -> anyhow::Result<Run> {
    let start = pace::now() + span.warmup * SECOND;
    let end = start + span.seconds * SECOND;
    world.around.tally = Tally::new(start, end);
    let mut pace = pace;
    let hopeless = |world: &World<'_>| give_up.is_some_and(|micros| world.around.tally.last > micros);
    world.run(&mut pace, start, hopeless)?;
    let meter = Meter::start(world, processes);
    world.run(&mut pace, end, hopeless)?;
    let meter = meter.stop();
    let given_up = pace::now() < end;
    world.around.tally.close();
    world.rest();
    let complete = drain(world)? && !given_up;
    Ok(meter.run(world, pace.map_or(0.0, |pace| pace.rate()), complete))
}

/// What a window costs, and what becomes of it.
pub(crate) struct Meter<'a> {
    processes: &'a Processes,
    before: Vec<Used>,
    after: Vec<Used>,
    start: u64,
    end: u64,
    own: f64,
    refused: u64,
}

impl<'a> Meter<'a> {
    /// The window begins.
    pub(crate) fn start(world: &World<'_>, processes: &'a Processes) -> Self {
        Self {
            processes,
            before: processes.used(),
            after: Vec::new(),
            start: pace::now(),
            end: 0,
            own: own_cpu(),
            refused: refused(world),
        }
    }

    /// It is over.
    pub(crate) fn stop(self) -> Self {
        let (after, own) = (self.processes.used(), own_cpu() - self.own);
        Self { after, own, end: pace::now(), ..self }
    }

    /// What it has shown, once all has come that comes.
    pub(crate) fn run(self, world: &mut World<'_>, rate: f64, complete: bool) -> Run {
        let faults = world.settle();
        let tally = std::mem::replace(&mut world.around.tally, Tally::new(0, 0));
        let seconds = (self.end - self.start) as f64 / SECOND as f64;
        Run {
            rate,
            seconds,
            deliveries: tally.deliveries,
            per_second: tally.deliveries as f64 / seconds,
            p50_ms: millis(tally.latency.value_at_quantile(0.5)),
            p99_ms: millis(tally.latency.value_at_quantile(0.99)),
            max_ms: millis(tally.latency.max()),
            costs: costs(&self.before, &self.after, &tally),
            joins: tally.joins.len(),
            join_p99_ms: millis(tally.joins.value_at_quantile(0.99)),
            acknowledged: tally.acks.len(),
            acknowledged_per_second: tally.acks.len() as f64 / seconds,
            ack_p50_ms: millis(tally.acks.value_at_quantile(0.5)),
            ack_p99_ms: millis(tally.acks.value_at_quantile(0.99)),
            broker_per_second: None,
            own_cpu: self.own,
            faults,
            sent: world.posted,
            refused: refused(world) - self.refused,
            returned: std::mem::take(&mut world.returned),
            complete,
            spread: spread(&tally.latency),
            timeline: tally.seconds,
        }
    }
}

fn refused(world: &World<'_>) -> u64 {
    world.around.streams.iter().map(|stream| stream.refused.len() as u64).sum()
}

/// Waits until all has come, or nothing comes any more; says whether it has.
pub(crate) fn drain(world: &mut World<'_>) -> anyhow::Result<bool> {
    let silence = if world.reconnects { LONG_SILENCE } else { SILENCE };
    let mut silent_since = pace::now();
    loop {
        if world.is_complete() {
            return Ok(true);
        }
        silent_since = silent_since.max(world.around.tally.at);
        if pace::now() > silent_since + silence {
            return Ok(false);
        }
        world.run(&mut None, pace::now() + LOOK, |_| false)?;
    }
}

fn costs(before: &[Used], after: &[Used], tally: &Tally) -> Vec<Cost> {
    process::both(before, after)
        .map(|(before, after)| {
            let cpu = after.cpu - before.cpu;
            // Microseconds each are seconds a million.
            let each = |count: u64| if count == 0 { 0.0 } else { cpu * 1e6 / count as f64 };
            Cost {
                name: after.name.clone(),
                cpu,
                per_million: each(tally.deliveries),
                message_us: each(tally.acks.len()),
                rss_kib: after.rss_kib,
            }
        })
        .collect()
}

/// The histogram in steps of a quarter more each, from the first that has any to the last.
fn spread(latency: &Histogram<u64>) -> Vec<Step> {
    let steps: Vec<Step> = latency
        .iter_log(16, 1.25)
        .map(|step| Step {
            up_to_ms: millis(step.value_iterated_to()),
            deliveries: step.count_since_last_iteration(),
        })
        .collect();
    let first = steps.iter().position(|step| step.deliveries > 0).unwrap_or(0);
    steps.into_iter().skip(first).collect()
}

fn own_cpu() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
