//! Reports the result of a run as a table, as JSON and as an HTML page.

mod html;
mod svg;

use std::{fmt::Write as _, fs};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    config::{LoadArgs, Scenario},
    measured_run::{ProcessCost, RunResult},
    process::{self, ProcessUsage},
    timer_lateness::TimerLateness,
};

/// A process's memory for each socket.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SocketMemory {
    pub(crate) name: String,
    pub(crate) rss_kib_per_socket: f64,
    pub(crate) pss_kib_per_socket: f64,
}

/// The result of a run, with its parameters.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LoadReport {
    pub(crate) scenario: &'static str,
    pub(crate) peer: String,
    pub(crate) publish: String,
    pub(crate) rooms: usize,
    pub(crate) sockets: usize,
    pub(crate) size: usize,
    pub(crate) noise: TimerLateness,
    pub(crate) memory: Vec<SocketMemory>,
    /// `None` if a search found no rate that the server sustains.
    pub(crate) run: Option<RunResult>,
}

impl LoadReport {
    /// A report of a run with these arguments. `before` and `after` are the processes' usages without and with sockets.
    pub(crate) fn new(
        config: &LoadArgs,
        noise: TimerLateness,
        before: &[ProcessUsage],
        after: &[ProcessUsage],
        run: Option<RunResult>,
    ) -> Self {
        let sockets = config.rooms() * config.sockets_per_room();
        let each = |from: u64, to: u64| (to as f64 - from as f64) / sockets.max(1) as f64;
        let memory = process::pairs_by_pid(before, after).map(|(before, after)| SocketMemory {
            name: after.name.clone(),
            rss_kib_per_socket: each(before.rss_kib, after.rss_kib),
            pss_kib_per_socket: each(before.pss_kib, after.pss_kib),
        });
        Self {
            scenario: config.scenario.as_str(),
            peer: format!("{:?}", config.peer).to_lowercase(),
            publish: format!("{:?}", config.publish).to_lowercase(),
            rooms: config.rooms(),
            sockets,
            size: config.size,
            noise,
            memory: memory.collect(),
            run,
        }
    }

    /// Whether there is a complete run without faults.
    pub(crate) fn is_without_faults(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !run.faults.has_any() && run.complete)
    }

    /// The report as a table for a terminal.
    pub(crate) fn table(&self) -> String {
        let mut rows: Vec<(String, String)> = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        row("scenario", format!("{}, {}", self.scenario, self.peer));
        row("sockets", format!("{} in {} rooms", self.sockets, self.rooms));
        let TimerLateness { late_p50_ms, late_p99_ms, late_max_ms } = self.noise;
        row(
            "this machine, idle",
            format!(
                "sleeps of 2 ms are late by {late_p50_ms:.2} ms, p99 {late_p99_ms:.2} ms, max {late_max_ms:.2} ms"
            ),
        );
        for memory in self.memory.iter().filter(|_| self.sockets > 0) {
            row(
                &format!("memory per socket, {}", memory.name),
                format!("{:.2} KiB RSS, {:.2} KiB PSS", memory.rss_kib_per_socket, memory.pss_kib_per_socket),
            );
        }
        match &self.run {
            Some(run) => self.add_run_rows(run, &mut row),
            None => row("sustained", "no rate at all".to_owned()),
        }
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        rows.iter().fold(String::new(), |mut text, (name, value)| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:width$}  {value}");
            text
        })
    }

    fn add_run_rows(&self, run: &RunResult, row: &mut impl FnMut(&str, String)) {
        if run.rate > 0.0 {
            row("messages", format!("{:.0}/s of {} bytes", run.rate, self.size));
        }
        if run.deliveries > 0 {
            row("deliveries", format!("{:.0}/s, {} in {:.1} s", run.per_second, run.deliveries, run.seconds));
            if !self.is_storm() {
                row(
                    "latency",
                    format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", run.p50_ms, run.p99_ms, run.max_ms),
                );
            }
        }
        if run.acknowledged > 0 {
            row(
                "acknowledged",
                format!(
                    "{:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
                    run.acknowledged_per_second, run.ack_p50_ms, run.ack_p99_ms
                ),
            );
        }
        if let Some(broker_per_second) = run.broker_per_second {
            row(
                "the broker alone",
                format!("{broker_per_second:.0}/s acknowledged, with as many unanswered"),
            );
        }
        if run.joins > 0 {
            row("joins", format!("{}, p99 {:.2} ms", run.joins, run.join_p99_ms));
        }
        for cost in &run.costs {
            row(
                &format!("CPU, {}", cost.name),
                format!("{}{:.2} s in total", self.cost_per_unit(run, cost), cost.cpu),
            );
        }
        if run.costs.len() > 1 && run.deliveries > 0 && !self.is_storm() {
            let all: f64 = run.costs.iter().map(|cost| cost.per_million).sum();
            row("CPU, all processes", format!("{all:.2} s per million deliveries"));
        }
        row("CPU, this program", format!("{:.2} s in total", run.own_cpu));
        if run.refused > 0 {
            row("refused or not answered", format!("{} messages of {}", run.refused, run.sent));
        }
        if run.reconnects > 0 {
            row("reconnects", format!("{} sockets", run.reconnects));
        }
        let faults = run.faults;
        row(
            "faults",
            if faults.has_any() || !run.complete {
                faults.to_string()
            } else {
                "none: no message lost, doubled or out of order".to_owned()
            },
        );
    }

    fn is_storm(&self) -> bool {
        self.scenario == Scenario::Storm.as_str()
    }

    /// The CPU of a process per socket, message or million deliveries, depending on the scenario.
    fn cost_per_unit(&self, run: &RunResult, cost: &ProcessCost) -> String {
        if self.is_storm() {
            // The reconnects are what costs CPU in a storm.
            format!("{:.0} µs per socket, ", cost.cpu * 1e6 / self.sockets as f64)
        } else if self.scenario == Scenario::Append.as_str() {
            format!("{:.1} µs per message, ", cost.message_us)
        } else if run.deliveries > 0 {
            format!("{:.2} s per million deliveries, ", cost.per_million)
        } else {
            String::new()
        }
    }

    /// Writes the report to the files that `--json` and `--html` name.
    pub(crate) fn write(&self, config: &LoadArgs) -> anyhow::Result<()> {
        if let Some(file) = &config.json {
            fs::write(file, serde_json::to_string_pretty(self)?)
                .with_context(|| format!("--json {}", file.display()))?;
        }
        if let Some(file) = &config.html {
            fs::write(file, html::render_page(self)).with_context(|| format!("--html {}", file.display()))?;
        }
        Ok(())
    }
}
