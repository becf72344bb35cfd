//! Runs the persister as a process of its own, `roomcast-persister`.

use std::process::ExitCode;

use clap::Parser;
use service::{
    config::{self, DrainArgs, LogFormatArgs},
    lifecycle, telemetry,
};

/// Writes Roomcast's log to Postgres, each event exactly once, and manages the log's streams.
#[derive(Debug, Parser)]
#[command(name = "roomcast-persister", version)]
struct Cli {
    #[command(flatten)]
    config: persister::Config,
    #[command(flatten)]
    logs: LogFormatArgs,
    #[command(flatten)]
    drain: DrainArgs,
}

fn main() -> ExitCode {
    let cli: Cli = config::parse();
    telemetry::init_logs(&cli.logs);
    lifecycle::run_main("roomcast-persister", cli.drain.time(), |shutdown| {
        persister::run(cli.config, shutdown)
    })
}
