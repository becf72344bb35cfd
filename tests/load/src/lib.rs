//! `roomcast load`: many sockets and messages for a running server, and what they cost it.
//!
//! What must hold: the client costs less than the server (one epoll loop, no JSON of what is delivered);
//! latency counts from when a message was due; everything received is checked, and what is lost, comes
//! twice or out of order makes the exit code 1.

mod append;
mod around;
mod broker;
mod check;
mod config;
mod frame;
mod http;
mod joins;
mod line;
mod link;
mod marker;
mod noise;
mod pace;
mod peer;
mod process;
mod report;
mod run;
mod search;
mod socket;
mod storm;
mod tally;
mod world;

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::thread::{CpuSet, sched_setaffinity};

pub use config::Config;
use config::Scenario;
use noise::Noise;
use pace::Pace;
use peer::Peer;
use process::Processes;
use report::Report;
use run::{Run, Span};
use world::World;

/// Runs a scenario and prints what it has shown. The exit code is 1 where something was wrong with what was
/// received, and 2 where there is nothing to say.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command for a terminal")]
#[must_use]
pub fn main(config: &Config) -> ExitCode {
    match measure(config) {
        Ok(report) => {
            print!("{}", report.table());
            if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("roomcast load: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What to do about limits.
const OFF: &str = "for the time of a measurement start it with ROOMCAST_RATE_WRITES, ROOMCAST_RATE_FRAMES, \
                   ROOMCAST_RATE_REQUESTS, ROOMCAST_RATE_UPGRADES and ROOMCAST_CHANNELS_SOCKET=off";

fn measure(config: &Config) -> anyhow::Result<Report> {
    let noise = Noise::measure()?;
    if let Some(cpu) = config.cpu {
        pin(cpu).context("--cpu")?;
    }
    rlimit::increase_nofile_limit(u64::MAX).context("the limit of open files")?;
    let mut peer = peer::of(config)?;
    peer.prepare(config.rooms())?;
    let processes = Processes::find(&config.pids, config.pids_in.as_deref(), &config.address)?;
    let before = processes.used();
    let mut world = World::new(config, peer.as_ref())?;
    let bar = bar(world.sockets.len());
    world.open(world::TOGETHER, |joined| bar.set_position(joined as u64))?;
    let after = processes.used();
    bar.set_message("measuring");
    let run = scenario(config, peer.as_ref(), &mut world, &processes, &bar)?;
    bar.finish_and_clear();
    let limited = world.around.limited;
    ensure!(
        limited == 0,
        "the server's limits have refused {limited} requests (429), so this is what they allow: {OFF}"
    );
    let report = Report::new(config, noise, &before, &after, run);
    report.write(config)?;
    Ok(report)
}

/// Keeps the thread, and those it starts, to a CPU.
fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("CPU {cpu}"))
}

fn scenario(
    config: &Config,
    peer: &dyn Peer,
    world: &mut World<'_>,
    processes: &Processes,
    bar: &ProgressBar,
) -> anyhow::Result<Option<Run>> {
    let pace = (config.rate() > 0.0).then(|| Pace::new(config.rate()));
    match config.scenario {
        Scenario::BigRoom | Scenario::ManyRooms if config.max => {
            search::highest(config, world, processes, |run, held| say(bar, &run.probe(held)))
        }
        Scenario::BigRoom | Scenario::ManyRooms | Scenario::Idle => {
            run::at(world, processes, pace, Span::of(config), None).map(Some)
        }
        Scenario::Mixed => {
            world.churn(config.churn(), 0);
            run::at(world, processes, pace, Span::of(config), None).map(Some)
        }
        Scenario::Joins => joins::run(config, peer, world, processes).map(Some),
        Scenario::Append => append::run(config, world, processes, |line| say(bar, line)).map(Some),
        Scenario::Storm => storm::run(config, world, processes).map(Some),
    }
}

/// A line above the bar, or where there is no terminal alone.
#[expect(clippy::print_stderr, reason = "this is a command for a terminal")]
fn say(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() {
        eprintln!("{line}");
    } else {
        bar.println(line);
    }
}

/// Shown on a terminal alone.
fn bar(sockets: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} sockets {elapsed}");
    let bar = ProgressBar::new(sockets as u64).with_message("connecting");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
