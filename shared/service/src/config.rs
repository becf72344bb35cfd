//! Reads configuration from flags and environment, and defines the parts that several services share.
//!
//! What must hold: a bad value is reported in one line that names the variable; a secret is never shown.

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use clap::{Parser, error::ContextKind, error::ContextValue, error::ErrorKind};
use tokio::net::TcpListener;

/// Reads flags and environment. A bad value ends the process with one line and exit code 2.
#[must_use]
pub fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| exit_with_error::<T>(&error))
}

/// Reads `arguments` as a program's flags, program name first, and the environment.
///
/// # Errors
/// One line that names the variable.
pub fn read<T: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<T, String> {
    T::try_parse_from(arguments).map_err(|error| error_line::<T>(&error))
}

fn exit_with_error<T: Parser>(error: &clap::Error) -> ! {
    let help_requests = [
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayVersion,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    if help_requests.contains(&error.kind()) {
        error.exit();
    }
    exit_with_message(&error_line::<T>(error))
}

/// Ends the process because of its configuration, with one line on standard error and exit code 2.
#[expect(clippy::print_stderr, reason = "a start error is for the person at the terminal")]
pub fn exit_with_message(line: &str) -> ! {
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

/// The environment variable of the flag that an error is about.
fn variable_of_error(error: &clap::Error, command: &clap::Command) -> Option<String> {
    let flag = match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(flag) => flag.clone(),
        ContextValue::Strings(flags) => flags.first()?.clone(),
        _ => return None,
    };
    let long_flag = flag.trim_start_matches('-').split([' ', '=']).next()?.to_owned();
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands());
        let argument = command.get_arguments().find(|arg| arg.get_long() == Some(&long_flag));
        if let Some(name) = argument.and_then(|arg| arg.get_env()) {
            return name.to_str().map(str::to_owned);
        }
    }
    None
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Pretty,
}

/// How the service logs.
#[derive(Clone, Debug, clap::Args)]
pub struct LogFormatArgs {
    /// Format of the log.
    #[arg(long, env = "ROOMCAST_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// Levels of what is logged, such as `info,fanout=debug`.
    #[arg(long, env = "ROOMCAST_LOG", default_value = "info,async_nats=warn,sqlx=warn")]
    pub log_level: String,
}

/// Metrics and health on a port of their own.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminArgs {
    /// Address on which /metrics, /healthz and /readyz are served. If unset, they are not served.
    #[arg(long, env = "ROOMCAST_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
    /// What /readyz reports from the configuration.
    #[command(flatten)]
    pub health: HealthArgs,
}

/// What /readyz reports and no service can find out by itself.
#[derive(Clone, Debug, clap::Args)]
pub struct HealthArgs {
    /// When the broker syncs its log to disk: the `sync_interval` of its configuration. /readyz reports it.
    #[arg(long, env = "ROOMCAST_LOG_FSYNC", default_value = "unknown")]
    pub log_fsync: String,
}

impl AdminArgs {
    /// Opens the port, if one is configured.
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

/// How long a service may take to stop.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DrainArgs {
    /// Seconds between the soft stop and the hard stop.
    #[arg(long, env = "ROOMCAST_DRAIN_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub drain_seconds: u64,
}

impl DrainArgs {
    /// The time between the soft stop and the hard stop.
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
    fn configuration_error_names_the_variable() {
        #[derive(Parser)]
        struct Config {
            #[command(flatten)]
            drain: DrainArgs,
        }
        let Err(error) = Config::try_parse_from(["x", "--drain-seconds", "0"]) else {
            panic!("0 seconds are accepted")
        };
        assert_eq!(variable_of_error(&error, &Config::command()).as_deref(), Some("ROOMCAST_DRAIN_SECONDS"));
    }
}
