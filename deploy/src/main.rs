//! Runs `roomcast`: the one-machine program, and the tools of operators.
//!
//! What must hold: it adds nothing to what api, fanout and persister do, it only starts them together.

mod doctor;
mod recover;
mod replay;
mod token;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Roomcast on one machine.
#[derive(Debug, Parser)]
#[command(name = "roomcast", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs api, fanout and persister in one process, on one port.
    Up(up::UpArgs),
    /// Prints a token to try things with.
    Token(token::TokenCommandArgs),
    /// Checks the configuration and everything that Roomcast needs, one line each.
    Doctor(doctor::DoctorArgs),
    /// Brings log and Postgres together again where only a person can decide it.
    Recover(recover::RecoverArgs),
    /// Applies what an older persister has rejected and this version understands.
    ReplayRejected(replay::ReplayRejectedArgs),
}

fn main() -> ExitCode {
    match service::config::parse::<Arguments>().command {
        Command::Up(config) => up::main(config),
        Command::Token(config) => token::main(&config),
        Command::Doctor(config) => doctor::main(&config),
        Command::Recover(config) => recover::main(&config),
        Command::ReplayRejected(config) => replay::main(&config),
    }
}
