//! Renders a report as one self-contained HTML page.

use super::{
    LoadReport,
    svg::{self, PlotBar, PlotLine},
};
use crate::measured_run::RunResult;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2430; --dim: #68707c; --a: #2663c9; --b: #c2571a; --paper: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --dim: #98a1ad; --a: #7aa7f5; --b: #f0965a; --paper: #14181f }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 760px; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; line-height: 1.4 }
svg { width: 100%; height: auto }
svg text { font-size: 11px; fill: var(--dim) }
svg .left { text-anchor: end }
svg .below { text-anchor: middle }
.grid { stroke: var(--dim); stroke-opacity: .25 }
.line { fill: none; stroke-width: 2; stroke: var(--a) }
.line.l1 { stroke: var(--b) }
.bar { fill: var(--a) }
svg .t0 { fill: var(--a) }
svg .t1 { fill: var(--b) }
";

/// Renders the page.
pub(super) fn render_page(report: &LoadReport) -> String {
    let title = format!("{}, {}", report.scenario, report.peer);
    let plots = report.run.as_ref().map_or_else(String::new, render_plots);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n<h1>{title}</h1>\n<pre>{}</pre>\n{plots}\n</html>\n",
        escape(&report.table())
    )
}

fn render_plots(run: &RunResult) -> String {
    let line = |name, value: fn(&crate::measurements::SecondStats) -> f64| PlotLine {
        name,
        values: run.timeline.iter().map(value).collect(),
    };
    let deliveries = svg::line_plot(&[line("deliveries", |second| second.deliveries as f64)]);
    let latency = svg::line_plot(&[line("p50", |second| second.p50_ms), line("p99", |second| second.p99_ms)]);
    let latency_histogram = run
        .latency_histogram
        .iter()
        .map(|step| PlotBar { name: svg::format_short(step.up_to_ms), value: step.deliveries as f64 });
    let latency_histogram = svg::bar_plot(&latency_histogram.collect::<Vec<_>>());
    let cost = run.costs.iter().map(|cost| PlotBar { name: escape(&cost.name), value: cost.per_million });
    let cost = svg::bar_plot(&cost.collect::<Vec<_>>());
    format!(
        "<h2>Deliveries per second</h2>{deliveries}\n<h2>Latency, ms</h2>{latency}\n\
         <h2>Deliveries by latency, up to this many ms</h2>{latency_histogram}\n\
         <h2>CPU seconds per million deliveries</h2>{cost}"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
