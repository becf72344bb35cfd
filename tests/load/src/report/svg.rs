//! Draws plots as inline SVG: lines over seconds, and bars. The SVG needs no scripts, fonts or other files.

use std::fmt::Write as _;

/// Size of the area inside the axes, in pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
/// Margins for labels, in pixels.
const MARGIN_LEFT: f64 = 64.0;
const MARGIN_BOTTOM: f64 = 24.0;
const MARGIN_TOP: f64 = 8.0;

/// A line of a plot.
pub(super) struct PlotLine<'a> {
    pub(super) name: &'a str,
    pub(super) values: Vec<f64>,
}

/// A bar. Its tooltip has the name and the value.
pub(super) struct PlotBar {
    pub(super) name: String,
    pub(super) value: f64,
}

/// Draws lines over the seconds of a run.
pub(super) fn line_plot(lines: &[PlotLine<'_>]) -> String {
    let top = round_up(lines.iter().flat_map(|line| line.values.iter().copied()).fold(0.0, f64::max));
    let seconds = lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
    let step = WIDTH / seconds.saturating_sub(1).max(1) as f64;
    let mut plot = open_plot(top);
    for (n, line) in lines.iter().enumerate() {
        let points = line.values.iter().enumerate().map(|(second, value)| {
            format!("{:.1},{:.1}", MARGIN_LEFT + second as f64 * step, height_of(*value, top))
        });
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = write!(
            plot,
            r#"<polyline class="line l{n}" points="{points}"><title>{}</title></polyline>"#,
            line.name
        );
        if lines.len() > 1 {
            let (x, y) = (MARGIN_LEFT + 8.0 + 60.0 * n as f64, MARGIN_TOP + 12.0);
            let _ = write!(plot, r#"<text class="t{n}" x="{x}" y="{y}">{}</text>"#, line.name);
        }
    }
    for second in [0, seconds / 2, seconds.saturating_sub(1)] {
        let _ = write!(plot, "{}", label_below(MARGIN_LEFT + second as f64 * step, &format!("{second} s")));
    }
    plot + "</svg>"
}

/// Draws bars, with labels for at most about ten of them.
pub(super) fn bar_plot(bars: &[PlotBar]) -> String {
    let top = round_up(bars.iter().map(|bar| bar.value).fold(0.0, f64::max));
    let step = WIDTH / bars.len().max(1) as f64;
    let every = bars.len().div_ceil(10).max(1);
    let mut plot = open_plot(top);
    for (n, bar) in bars.iter().enumerate() {
        let (x, y) = (MARGIN_LEFT + n as f64 * step, height_of(bar.value, top));
        let (width, height) = ((step - 2.0).clamp(1.0, 80.0), MARGIN_TOP + HEIGHT - y);
        let _ = write!(
            plot,
            r#"<rect class="bar" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"><title>{}: {}</title></rect>"#,
            bar.name,
            format_short(bar.value)
        );
        if n % every == 0 {
            let _ = write!(plot, "{}", label_below(x + width / 2.0, &bar.name));
        }
    }
    plot + "</svg>"
}

/// Opens the SVG element, and draws a scale from 0 to `top`.
fn open_plot(top: f64) -> String {
    let (width, height) = (MARGIN_LEFT + WIDTH + 16.0, MARGIN_TOP + HEIGHT + MARGIN_BOTTOM);
    let mut plot = format!(r#"<svg viewBox="0 0 {width} {height}" role="img">"#);
    for part in [0.0, 0.5, 1.0] {
        let y = height_of(top * part, top);
        let _ = write!(
            plot,
            r#"<line class="grid" x1="{MARGIN_LEFT}" x2="{}" y1="{y}" y2="{y}"/><text class="left" x="{}" y="{}">{}</text>"#,
            MARGIN_LEFT + WIDTH,
            MARGIN_LEFT - 6.0,
            y + 4.0,
            format_short(top * part)
        );
    }
    plot
}

fn label_below(x: f64, text: &str) -> String {
    format!(r#"<text class="below" x="{x:.1}" y="{}">{text}</text>"#, MARGIN_TOP + HEIGHT + 16.0)
}

fn height_of(value: f64, top: f64) -> f64 {
    MARGIN_TOP + HEIGHT * (1.0 - value / top)
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|top| *top >= value).unwrap_or(value)
}

/// A number in a few characters.
pub(super) fn format_short(value: f64) -> String {
    match value {
        1e6.. => format!("{:.1} M", value / 1e6),
        1e4.. => format!("{:.0} k", value / 1e3),
        1e3.. => format!("{:.1} k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_scale_ends_at_a_round_number() {
        for (value, top) in [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (7.0, 10.0), (1_999.0, 2_000.0)] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }

    #[test]
    fn chart_draws_all_bars_within_the_frame() {
        let plot = bar_plot(&[1.0, 3.0].map(|value| PlotBar { name: "a".to_owned(), value }));
        assert_eq!(plot.matches("<rect").count(), 2);
        assert!(height_of(5.0, round_up(5.0)) >= MARGIN_TOP);
        assert!(plot.starts_with("<svg") && plot.ends_with("</svg>"));
    }
}
