//! Implements `roomcast replay-rejected`: applies events that an older persister has rejected and this version
//! understands.

use std::process::ExitCode;

use clap::Args;
use persister::{RejectedEventOutcome, ReplayedEvent};
use service::config;

use crate::up::{BackendArgs, ServiceConfigs};

/// Applies events that an older persister has rejected and this version understands. Takes the same variables as
/// `roomcast up`. Persisters may run meanwhile. It can be run again at any time: each event is applied once.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayRejectedArgs {
    /// Only print what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    backends: BackendArgs,
}

/// Prints a line for each event; the exit code is 1 if this version can't apply some of them, and 2 for an error.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command for a terminal")]
pub(crate) fn main(config: &ReplayRejectedArgs) -> ExitCode {
    let persister = ServiceConfigs::read_persister(&config.backends)
        .unwrap_or_else(|line| config::exit_with_message(&line));
    let mut counts = [0_u64; 3];
    let mut report = |ReplayedEvent { shard, seq, subject, outcome }: ReplayedEvent| {
        let (index, text) = match outcome {
            RejectedEventOutcome::Applied => (0, "applied".to_owned()),
            RejectedEventOutcome::NothingToApply(reason) => (1, format!("nothing to apply: {reason}")),
            RejectedEventOutcome::Kept(reason) => (2, format!("left: {reason}")),
        };
        counts[index] += 1;
        println!("shard {shard}, event {seq} ({subject}): {text}");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let replayed = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(persister::replay_rejected(&persister, config.dry_run, &mut report))
    });
    let [applied, nothing_to_apply, left] = counts;
    let prefix = if config.dry_run { "dry run, nothing is changed: " } else { "" };
    println!("{prefix}{applied} applied, {nothing_to_apply} with nothing to apply, {left} left");
    match replayed {
        Ok(()) if left == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("roomcast replay-rejected: {error:#}");
            ExitCode::from(2)
        }
    }
}
