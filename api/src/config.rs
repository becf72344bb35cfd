//! Reads the configuration of an api node.

use std::net::SocketAddr;

use protocol::text::TEXT_MAX;
use service::{
    config::{AdminArgs, DrainArgs, LogFormatArgs},
    nats::NatsArgs,
    origin::OriginArgs,
    rate::{AddressArgs, ConcurrencyLimit, Rate},
    serve::ConnectionArgs,
    token::TokenArgs,
};

/// Maximum length of a category's name, in bytes.
const CATEGORY_MAX_BYTES: usize = 64;

/// Settings of an api node besides its addresses.
#[derive(Clone, Debug, clap::Args)]
pub struct ApiArgs {
    /// Maximum length of a message, in characters.
    #[arg(long, env = "ROOMCAST_TEXT_MAX", default_value_t = TEXT_MAX, value_parser = text_max)]
    pub text_max: usize,
    /// Account balance below which direct rooms show `is_low_account`.
    #[arg(long, env = "ROOMCAST_LOW_ACCOUNT", default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = amount)]
    pub low_account: f64,
    /// Number of connections to the broker for appends.
    #[arg(long, env = "ROOMCAST_APPEND_CONNECTIONS", default_value_t = 2)]
    pub append_connections: usize,
    /// Maximum number of connections to Postgres for reads.
    #[arg(long, env = "ROOMCAST_READ_CONNECTIONS", default_value_t = 10)]
    pub read_connections: u32,
    /// Limits of requests.
    #[command(flatten)]
    pub limits: RequestLimitArgs,
    /// How clients' addresses are determined.
    #[command(flatten)]
    pub address: AddressArgs,
    /// Limits of clients' connections.
    #[command(flatten)]
    pub connections: ConnectionArgs,
    /// The categories of topics, separated by commas: letters, digits, _ and -.
    #[arg(long, env = "ROOMCAST_TOPICS", value_delimiter = ',', default_value = "films,music,books,games", value_parser = category)]
    pub topics: Vec<String>,
    /// Where pictures are stored: a folder, or an address such as file:///var/lib/roomcast/media. All nodes share it.
    #[arg(long, env = "ROOMCAST_MEDIA", default_value = "data/media")]
    pub media: String,
    /// The customer desk.
    #[command(flatten)]
    pub support: SupportArgs,
}

/// Limits of requests on each node; `off` turns a limit off.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct RequestLimitArgs {
    /// Writes of a person, or, at the customer desk, of an address or a room without token: 5:100 allows 5 a second
    /// on average and 100 at once; 60/h counts by the hour. Tokens with `is_admin` are not counted.
    #[arg(long, env = "ROOMCAST_RATE_WRITES", default_value = "20:200")]
    pub rate_writes: Rate,
    /// Requests from one address, in the same form. Requests from this machine are not counted, unless
    /// ROOMCAST_ADDRESS_HEADER is set.
    #[arg(long, env = "ROOMCAST_RATE_REQUESTS", default_value = "200:2000")]
    pub rate_requests: Rate,
    /// Invitations from one person to another, in the same form.
    #[arg(long, env = "ROOMCAST_RATE_INVITATIONS", default_value = "60/h")]
    pub rate_invitations: Rate,
    /// Rooms of the customer desk that an address creates without token, in the same form.
    #[arg(long, env = "ROOMCAST_RATE_VISITOR_ROOMS", default_value = "60/h")]
    pub rate_visitor_rooms: Rate,
    /// Searches of a person that may run at a time.
    #[arg(long, env = "ROOMCAST_SEARCHES_PERSON", default_value = "1")]
    pub searches_person: ConcurrencyLimit,
}

#[cfg(test)]
impl RequestLimitArgs {
    /// Turns all limits off.
    pub(crate) const fn off() -> Self {
        Self {
            rate_writes: Rate::OFF,
            rate_requests: Rate::OFF,
            rate_invitations: Rate::OFF,
            rate_visitor_rooms: Rate::OFF,
            searches_person: ConcurrencyLimit::OFF,
        }
    }
}

/// Access to the customer desk.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct SupportArgs {
    /// Whether visitors of the customer desk need a token.
    #[arg(long, env = "ROOMCAST_SUPPORT_TOKENS", value_enum, default_value = "optional")]
    pub support_tokens: TokenUse,
    /// How a visitor without token is identified.
    #[arg(long, env = "ROOMCAST_SUPPORT_VISITORS", value_enum, default_value = "named")]
    pub support_visitors: VisitorIdentity,
    /// Whether everybody may list an organisation's support rooms with their keys: true or false.
    #[arg(long, env = "ROOMCAST_SUPPORT_OPEN", action = clap::ArgAction::Set, default_value_t = false)]
    pub support_open: bool,
}

/// Whether a token is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenUse {
    /// A token is checked if it is sent.
    Optional,
    /// Requests without a token are refused.
    Required,
}

/// How a visitor of the customer desk without token is identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum VisitorIdentity {
    /// By the names that a visit gives: visits with equal names get the same room.
    Named,
    /// Also by a secret, which the first answer sets as a cookie and returns in a header.
    Bound,
}

fn category(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    if (1..=CATEGORY_MAX_BYTES).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to {CATEGORY_MAX_BYTES} letters, digits, _ and -"))
    }
}

fn text_max(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(max) if (1..=TEXT_MAX).contains(&max) => Ok(max),
        _ => Err(format!("must be 1 to {TEXT_MAX}")),
    }
}

fn amount(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(amount) if f64::is_finite(amount) => Ok(amount),
        _ => Err("must be a number".to_owned()),
    }
}

/// The address of Postgres. It contains a password, so `Debug` does not show it.
#[derive(Clone, clap::Args)]
pub struct DatabaseArgs {
    /// Postgres, as postgres://user:password@host:port/database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
}

impl std::fmt::Debug for DatabaseArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseArgs { database_url: <secret> }")
    }
}

/// roomcast-api: validates, authorises and appends; answers reads.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "roomcast-api", version)]
pub struct Config {
    /// The address on which HTTP requests are served.
    #[arg(long, env = "ROOMCAST_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The node itself.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Postgres.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The broker.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Tokens.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Web pages that may connect.
    #[command(flatten)]
    pub origins: OriginArgs,
    /// Metrics and health.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Logs.
    #[command(flatten)]
    pub log: LogFormatArgs,
    /// Stopping.
    #[command(flatten)]
    pub drain: DrainArgs,
}
