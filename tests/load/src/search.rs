//! The highest rate that is held: fourfold until it is not, then between the two.

use crate::{
    config::Config,
    pace::Pace,
    process::Processes,
    run::{self, Run, Span},
    world::World,
};

/// From one rate to the next, while it is held.
const STEP: f64 = 4.0;
/// How close the two have to be.
const CLOSE: f64 = 1.1;
/// A delivery that is later than this many times what is allowed ends a probe.
const HOPELESS: f64 = 20.0;

/// Looks for it, and measures it as long as the flags say.
pub(crate) fn highest(
    config: &Config,
    world: &mut World<'_>,
    processes: &Processes,
    mut say: impl FnMut(&Run, bool),
) -> anyhow::Result<Option<Run>> {
    let full = Span::of(config);
    let short = Span { warmup: 1, seconds: (full.seconds / 2).clamp(1, 4) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "minutes at most")]
    let give_up = (config.p99 * 1_000.0 * HOPELESS) as u64;
    let mut probe = |rate: f64, span: Span| -> anyhow::Result<(Run, bool)> {
        let run = run::at(world, processes, Some(Pace::new(rate)), span, Some(give_up))?;
        let held = run.complete && !run.faults.any() && run.refused == 0 && run.p99_ms <= config.p99;
        say(&run, held);
        if !held {
            // What a server does to those it can't keep up with is not the question here.
            world.recover()?;
        }
        Ok((run, held))
    };
    let (mut low, mut high) = (0.0, config.rate().max(1.0));
    while probe(high, short)?.1 {
        low = high;
        high *= STEP;
    }
    while low == 0.0 && high > 1.0 {
        let lower = high / STEP;
        if probe(lower, short)?.1 {
            low = lower;
        } else {
            high = lower;
        }
    }
    while low > 0.0 && high / low > CLOSE {
        let middle = f64::sqrt(low * high);
        if probe(middle, short)?.1 {
            low = middle;
        } else {
            high = middle;
        }
    }
    // What was held for a few seconds may not be for longer.
    while low > 1.0 {
        let (run, held) = probe(low, full)?;
        if held {
            return Ok(Some(run));
        }
        low /= CLOSE;
    }
    Ok(None)
}
