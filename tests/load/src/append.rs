//! Each writer's next message follows the answer to its last. First the broker alone is written to in the same
//! way: what Roomcast acknowledges is to be seen beside that.

use crate::{
    broker,
    config::Config,
    pace::Pace,
    process::Processes,
    run::{self, Run, Span},
    world::World,
};

/// One run, with what the broker alone acknowledges a second, where it could be asked.
pub(crate) fn run(
    config: &Config,
    world: &mut World<'_>,
    processes: &Processes,
    mut say: impl FnMut(&str),
) -> anyhow::Result<Run> {
    let alone = broker::acknowledged(config, world.around.streams.len());
    if let Err(error) = &alone {
        say(&format!("the broker alone: not measured: {error:#}"));
    }
    let mut run = run::at(world, processes, Some(Pace::by_answers()), Span::of(config), None)?;
    run.broker_per_second = alone.ok();
    Ok(run)
}
