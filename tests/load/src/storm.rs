//! All sockets drop at once, their rooms go on, and all come back to where they were.
//!
//! What must hold: everything that was missed comes, once, in order, before what is new.

use anyhow::bail;

use crate::{
    config::Config,
    pace::{self, Pace},
    peer::Route,
    process::Processes,
    run::{self, Meter, Run},
    tally::{SECOND, Tally},
    world::World,
};

/// Longer than any storm.
const HOUR: u64 = 3_600 * SECOND;

/// One storm. Its window begins when the sockets come back, and ends when they have all they missed.
pub(crate) fn run(config: &Config, world: &mut World<'_>, processes: &Processes) -> anyhow::Result<Run> {
    if world.route() == Route::Socket {
        bail!("in a storm there is no socket to write by: choose another --publish");
    }
    world.drop_all();
    let last = world.posted + config.missed * world.around.streams.len() as u64;
    let mut pace = Some(Pace::new(config.rate()));
    world.run(&mut pace, pace::now() + HOUR, |world| world.posted >= last)?;
    world.run(&mut None, pace::now() + HOUR, World::is_answered)?;

    let meter = Meter::start(world, processes);
    let start = pace::now();
    world.around.tally = Tally::new(start, start + HOUR);
    world.open(usize::MAX, |_| ())?;
    let complete = run::drain(world)?;
    Ok(meter.stop().run(world, 0.0, complete))
}
