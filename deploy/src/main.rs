//! Runs `roomcast`: the one-machine program, and the commands for operators.
//!
//! What must hold: the program has no product logic of its own; it only starts api, fanout and persister together.

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
    /// Prints a token, for trying things out.
    Token(token::TokenCommandArgs),
    /// Checks the configuration and everything that Roomcast needs; prints one line for each check.
    Doctor(doctor::DoctorArgs),
    /// Reconciles log and Postgres where the persister refuses to continue without an operator's decision.
    Recover(recover::RecoverArgs),
    /// Applies events that an older persister has rejected and this version understands.
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
