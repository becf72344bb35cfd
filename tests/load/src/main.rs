//! Runs `roomcast-load`, which loads a running server with sockets and messages and measures what they cost it.
//!
//! What must hold: the client uses less CPU than the server (one epoll loop; pushes are not parsed as JSON).
//! Latency counts from when a message was due. Every delivery is checked; if any is lost, duplicated or out of order,
//! the exit code is 1.

mod append;
mod broker_alone;
mod config;
mod context;
mod delivery_check;
mod driver;
mod frame;
mod http;
mod joins;
mod marker;
mod measured_run;
mod measurements;
mod nonblocking;
mod post_connections;
mod process;
mod rate_search;
mod report;
mod server;
mod socket;
mod storm;
mod timer_lateness;
mod timing;

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::thread::{CpuSet, sched_setaffinity};

use clap::Parser;
use config::{LoadArgs, Scenario};
use driver::LoadDriver;
use measured_run::{RunDuration, RunResult};
use process::MeasuredProcesses;
use report::LoadReport;
use server::TestedServer;
use timer_lateness::TimerLateness;
use timing::SendSchedule;

/// Loads a running server with sockets and messages, and measures what they cost it.
#[derive(Debug, Parser)]
#[command(name = "roomcast-load", version, about)]
struct Arguments {
    #[command(flatten)]
    load: LoadArgs,
}

/// Runs a scenario and prints its result. The exit code is 1 if there were faults, and 2 if there is no result.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command-line program")]
fn main() -> ExitCode {
    match prepare_and_run(&service::config::parse::<Arguments>().load) {
        Ok(report) => {
            print!("{}", report.table());
            if report.is_without_faults() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("roomcast-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Advice for a run that was limited by the server's rate limits.
const LIMITS_OFF_HINT: &str = "for a measurement start the server with ROOMCAST_RATE_WRITES, ROOMCAST_RATE_FRAMES, \
                   ROOMCAST_RATE_REQUESTS, ROOMCAST_RATE_UPGRADES and ROOMCAST_CHANNELS_SOCKET=off";

fn prepare_and_run(config: &LoadArgs) -> anyhow::Result<LoadReport> {
    let timer_lateness = TimerLateness::measure()?;
    if let Some(cpu) = config.cpu {
        pin_to_cpu(cpu).context("--cpu")?;
    }
    rlimit::increase_nofile_limit(u64::MAX).context("the limit of open files")?;
    let mut server = server::create(config)?;
    server.create_rooms(config.rooms())?;
    let processes = MeasuredProcesses::find(&config.pids, config.pids_in.as_deref(), &config.address)?;
    let before = processes.read_usage();
    let mut driver = LoadDriver::new(config, server.as_ref())?;
    let bar = progress_bar(driver.sockets.len());
    driver.connect_all(driver::CONNECTING_MAX, |joined| bar.set_position(joined as u64))?;
    let after = processes.read_usage();
    bar.set_message("measuring");
    let run = run_scenario(config, server.as_ref(), &mut driver, &processes, &bar)?;
    bar.finish_and_clear();
    let rate_limited = driver.context.rate_limited;
    ensure!(
        rate_limited == 0,
        "the server's rate limits refused {rate_limited} requests (429), so the result would measure the limits: \
         {LIMITS_OFF_HINT}"
    );
    let report = LoadReport::new(config, timer_lateness, &before, &after, run);
    report.write(config)?;
    Ok(report)
}

/// Pins the thread, and those that it starts, to a CPU.
fn pin_to_cpu(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("CPU {cpu}"))
}

fn run_scenario(
    config: &LoadArgs,
    server: &dyn TestedServer,
    driver: &mut LoadDriver<'_>,
    processes: &MeasuredProcesses,
    bar: &ProgressBar,
) -> anyhow::Result<Option<RunResult>> {
    let schedule =
        (config.messages_per_second() > 0.0).then(|| SendSchedule::new(config.messages_per_second()));
    match config.scenario {
        Scenario::BigRoom | Scenario::ManyRooms if config.max => {
            rate_search::find_highest_rate(config, driver, processes, |run, is_sustained| {
                print_line(bar, &run.probe_line(is_sustained));
            })
        }
        Scenario::BigRoom | Scenario::ManyRooms | Scenario::Idle => {
            measured_run::run_at_rate(driver, processes, schedule, RunDuration::from_args(config), None)
                .map(Some)
        }
        Scenario::Mixed => {
            driver.start_churn(config.churn_per_second(), 0);
            measured_run::run_at_rate(driver, processes, schedule, RunDuration::from_args(config), None)
                .map(Some)
        }
        Scenario::Joins => joins::run(config, server, driver, processes).map(Some),
        Scenario::Append => append::run(config, driver, processes, |line| print_line(bar, line)).map(Some),
        Scenario::Storm => storm::run(config, driver, processes).map(Some),
    }
}

/// Prints a line above the progress bar; without a terminal, just the line.
#[expect(clippy::print_stderr, reason = "this is a command-line program")]
fn print_line(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() {
        eprintln!("{line}");
    } else {
        bar.println(line);
    }
}

/// A progress bar, which is only shown on a terminal.
fn progress_bar(sockets: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} sockets {elapsed}");
    let bar = ProgressBar::new(sockets as u64).with_message("connecting");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
