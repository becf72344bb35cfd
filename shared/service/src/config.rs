//! Reads configuration from flags and environment: the parts that several services have.
//!
//! What must hold: a bad value is one line that names the variable; a secret is never shown.

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use clap::{Parser, error::ContextKind, error::ContextValue, error::ErrorKind};
use tokio::net::TcpListener;

/// Reads flags and environment; a bad one ends the process with one line and exit code 2.
#[must_use]
pub fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| exit_with_error::<T>(&error))
}

/// Reads the words given, and the environment, as a program's flags: program name first.
///
/// # Errors
/// One line that names the variable.
pub fn read<T: Parser>(words: impl IntoIterator<Item = OsString>) -> Result<T, String> {
    T::try_parse_from(words).map_err(|error| error_line::<T>(&error))
}

fn exit_with_error<T: Parser>(error: &clap::Error) -> ! {
    let asked = [
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayVersion,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    if asked.contains(&error.kind()) {
        error.exit();
    }
    refuse(&error_line::<T>(error))
}

/// Ends the process because of its configuration: one line, and exit code 2.
#[expect(clippy::print_stderr, reason = "a start error is for the person at the terminal")]
pub fn refuse(line: &str) -> ! {
    eprintln!("{line}");
    std::process::exit(2)
}

fn error_line<T: Parser>(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("error: bad configuration");
    let variable =
        variable_of_error(error, &T::command()).map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{line}{variable}")
}

/// The variable behind the flag that an error is about.
fn variable_of_error(error: &clap::Error, command: &clap::Command) -> Option<String> {
    let flag = match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(flag) => flag.clone(),
        ContextValue::Strings(flags) => flags.first()?.clone(),
        _ => return None,
    };
    let long = flag.trim_start_matches('-').split([' ', '=']).next()?.to_owned();
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands());
        let known = command.get_arguments().find(|arg| arg.get_long() == Some(&long));
        if let Some(name) = known.and_then(|arg| arg.get_env()) {
            return name.to_str().map(str::to_owned);
        }
    }
    None
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Logs.
#[derive(Clone, Debug, clap::Args)]
pub struct LogFormatArgs {
    /// How logs are written.
    #[arg(long, env = "ROOMCAST_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged, as in `info,fanout=debug`.
    #[arg(long, env = "ROOMCAST_LOG", default_value = "info,async_nats=warn,sqlx=warn")]
    pub log_level: String,
}

/// Metrics and health on a port of their own.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminArgs {
    /// Where /metrics, /healthz and /readyz are served; nowhere where it is not set.
    #[arg(long, env = "ROOMCAST_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
    /// What /readyz says.
    #[command(flatten)]
    pub health: HealthArgs,
}

/// What /readyz says and no service can find out.
#[derive(Clone, Debug, clap::Args)]
pub struct HealthArgs {
    /// When the broker writes through to disk, as its configuration has it: its `sync_interval`.
    #[arg(long, env = "ROOMCAST_LOG_FSYNC", default_value = "unknown")]
    pub log_fsync: String,
}

impl AdminArgs {
    /// Opens the port, where one is set.
    ///
    /// # Errors
    /// Names the variable and the address.
    pub async fn bind(&self) -> anyhow::Result<Option<TcpListener>> {
        match self.admin_listen {
            Some(address) => crate::serve::bind(address).await.context("ROOMCAST_ADMIN_LISTEN").map(Some),
            None => Ok(None),
        }
    }
}

/// Stopping.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DrainArgs {
    /// Seconds between the soft stop and the hard one.
    #[arg(long, env = "ROOMCAST_DRAIN_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub drain_seconds: u64,
}

impl DrainArgs {
    /// The time between the soft stop and the hard one.
    #[must_use]
    pub const fn time(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn an_error_names_the_variable() {
        #[derive(Parser)]
        struct Config {
            #[command(flatten)]
            drain: DrainArgs,
        }
        let Err(error) = Config::try_parse_from(["x", "--drain-seconds", "0"]) else {
            panic!("0 is no time")
        };
        assert_eq!(variable_of_error(&error, &Config::command()).as_deref(), Some("ROOMCAST_DRAIN_SECONDS"));
    }
}
