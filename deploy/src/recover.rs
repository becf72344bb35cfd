//! Implements `roomcast recover`: reconciles log and Postgres where the persister refuses to continue without an
//! operator's decision.
//!
//! What must hold: the command prints one line for each shard, and changes only shards that the persister refuses to
//! work on.

use std::process::ExitCode;

use clap::Args;
use service::config;

use crate::up::{BackendArgs, ServiceConfigs};

/// Reconciles log and Postgres. Takes the same variables as `roomcast up`. Persisters may run meanwhile: they
/// continue with a refused shard by themselves afterwards.
#[derive(Clone, Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Also continue without the events that the log lost before they were in Postgres. They are recorded in the
    /// table lost_range.
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    backends: BackendArgs,
}

/// Prints the findings; the exit code is 1 if something is left to do, and 2 for an error.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command for a terminal")]
pub(crate) fn main(config: &RecoverArgs) -> ExitCode {
    let persister = ServiceConfigs::read_persister(&config.backends)
        .unwrap_or_else(|line| config::exit_with_message(&line));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let recovered = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(persister::recover(&persister, config.accept_loss)));
    match recovered {
        Ok(findings) => {
            for finding in &findings {
                println!("shard {}: {}", finding.shard, finding.text);
            }
            if findings.iter().any(|finding| finding.needs_action) {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            eprintln!("roomcast recover: {error:#}");
            ExitCode::from(2)
        }
    }
}
