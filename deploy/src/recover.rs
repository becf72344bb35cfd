//! Implements `roomcast recover`: brings log and Postgres together again where only a person can decide it.
//!
//! What must hold: it prints one line a shard, and changes only what the persister refuses to go on with.

use std::process::ExitCode;

use clap::Args;
use service::config;

use crate::up::{BackendArgs, ServiceConfigs};

/// Brings log and Postgres together again. The same variables as for `roomcast up`. It may run while
/// a persister does: a shard that was refused goes on by itself afterwards.
#[derive(Clone, Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Also go on without the events that the log has lost before Postgres had them. They are noted in the
    /// table lost_range.
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    backends: BackendArgs,
}

/// Prints what was found and done; exit code 1 where something is left to do.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command for a terminal")]
pub(crate) fn main(config: &RecoverArgs) -> ExitCode {
    let persister =
        ServiceConfigs::read_persister(&config.backends).unwrap_or_else(|line| config::refuse(&line));
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
