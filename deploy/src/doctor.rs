//! Implements `roomcast doctor`: checks everything that Roomcast needs, and prints one line for each check, with a
//! remedy for each failure.
//!
//! What must hold: the command changes nothing, waits at most [`CHECK_TIMEOUT`] for each check, and prints no secret.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use api::config::{SupportArgs, TokenUse, VisitorIdentity};
use clap::Args;
use service::nats::{self, BrokerUser, NatsArgs};
use sqlx::Connection as _;

use crate::up::{BackendArgs, ServiceConfigs};

/// Maximum time for a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Configuration of the checks: the same variables as for `roomcast up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Where clients connect.
    #[arg(long, env = "ROOMCAST_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    backends: BackendArgs,
}

/// Runs all checks and prints a line for each; the exit code is 1 if one fails.
pub(crate) fn main(config: &DoctorArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_result("runtime", Err(error.into()), "find out why this system refuses timers or sockets");
            return ExitCode::FAILURE;
        }
    };
    if runtime.block_on(run_checks(config)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run_checks(config: &DoctorArgs) -> bool {
    let backends = &config.backends;
    let services = ServiceConfigs::read(backends);
    let support_access =
        services.as_ref().ok().map(|services| describe_support_access(services.support_args()));
    let mut all_passed = print_result(
        "configuration",
        services.map(|_| "every variable is valid".to_owned()).map_err(anyhow::Error::msg),
        "correct the variable named; `--help` of roomcast-api, -fanout and -persister lists all of them",
    );
    if let Some(support_access) = support_access {
        all_passed &= print_result("customer desk", Ok(support_access.to_owned()), "");
    }
    all_passed &= print_result(
        "listen",
        check_listen_address(config.listen),
        "set ROOMCAST_LISTEN to an address of this machine with a port, such as 127.0.0.1:8080",
    );
    let roles = [
        ("nats api", BrokerUser::Api, backends.api_nats()),
        ("nats fanout", BrokerUser::Fanout, backends.fanout_nats()),
        ("nats persister", BrokerUser::Persister, backends.persister_nats()),
    ];
    for (name, role, nats) in roles {
        all_passed &= print_result(
            name,
            with_timeout(check_broker(role, &nats)).await,
            "start it (deploy/up does), and check NATS_URL and the user's password against deploy/nats/one.conf",
        );
    }
    all_passed &= print_result(
        "log",
        with_timeout(check_streams(&backends.api_nats())).await,
        "start the persister, which creates the streams; if it refuses a shard, its log says why",
    );
    let databases = [
        ("postgres api", backends.api_database(), false),
        ("postgres persister", backends.persister_database(), true),
    ];
    for (name, url, is_writer) in databases {
        all_passed &= print_result(
            name,
            with_timeout(check_database(url, is_writer)).await,
            "start it (deploy/up does), check DATABASE_URL, and run deploy/postgres/roles.sql in that database",
        );
    }
    all_passed
}

/// Describes who may open a visitor's room at the customer desk.
const fn describe_support_access(support: SupportArgs) -> &'static str {
    match (support.support_tokens, support.support_visitors) {
        (TokenUse::Required, _) => "required: requests without a token are refused",
        (TokenUse::Optional, VisitorIdentity::Bound) => {
            "bound: a visitor without a token gets their room by the secret of their first visit"
        }
        (TokenUse::Optional, VisitorIdentity::Named) => {
            "optional: anybody who gives the visitor's four names gets the room, without a token. Safer: \
             ROOMCAST_SUPPORT_VISITORS=bound, or ROOMCAST_SUPPORT_TOKENS=required if visitors are logged in"
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is a command for a terminal")]
fn print_result(name: &str, outcome: anyhow::Result<String>, remedy: &str) -> bool {
    match outcome {
        Ok(detail) => {
            println!("ok    {name}: {detail}");
            true
        }
        Err(error) => {
            println!("FAIL  {name}: {error:#}. To do: {remedy}.");
            false
        }
    }
}

async fn with_timeout(check: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<String> {
    match tokio::time::timeout(CHECK_TIMEOUT, check).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("no answer in {} s", CHECK_TIMEOUT.as_secs()),
    }
}

fn check_listen_address(address: SocketAddr) -> anyhow::Result<String> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Ok(format!("{address} is in use (by Roomcast, if it is running)"))
        }
        Err(error) => Err(error.into()),
    }
}

async fn check_broker(role: BrokerUser, args: &NatsArgs) -> anyhow::Result<String> {
    // One attempt without retries, whose error is printed.
    let client = nats::connect_once(args, role).await?.client;
    let version = client.server_info().version;
    ensure!(client.is_server_compatible(2, 9, 10), "nats-server {version} is older than 2.9.10");
    Ok(format!("nats-server {version}"))
}

async fn check_streams(args: &NatsArgs) -> anyhow::Result<String> {
    let jetstream = nats::connect_once(args, BrokerUser::Api).await?.jetstream();
    let info = log::discover(&jetstream).await?;
    let mut messages = 0;
    for shard in info.shards.all() {
        messages += log::state(&jetstream, shard).await.with_context(|| format!("shard {shard}"))?.messages;
    }
    Ok(format!("{} shards answer, {messages} events", info.shards.get()))
}

async fn check_database(url: &str, is_writer: bool) -> anyhow::Result<String> {
    let mut connection = sqlx::PgConnection::connect(url).await?;
    let (version, role): (String, String) =
        sqlx::query_as("SELECT current_setting('server_version'), current_user::text")
            .fetch_one(&mut connection)
            .await?;
    // With its own role, or with the owner's, which the persister switches to for migrations.
    let can_create: bool = sqlx::query_scalar(
        "SELECT has_schema_privilege('public', 'CREATE') OR EXISTS (SELECT FROM pg_roles
         WHERE rolname = 'roomcast_owner' AND pg_has_role(current_user, oid, 'MEMBER'))",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    ensure!(can_create || !is_writer, "role {role} may not create tables");
    let note = if can_create && !is_writer { ", which has more rights than it needs" } else { "" };
    Ok(format!("PostgreSQL {version} as {role}{note}"))
}
