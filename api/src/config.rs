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

/// The longest name of a category.
const CATEGORY_MAX_BYTES: usize = 64;

/// What an api node needs besides its addresses.
#[derive(Clone, Debug, clap::Args)]
pub struct ApiArgs {
    /// The longest message, in characters.
    #[arg(long, env = "ROOMCAST_TEXT_MAX", default_value_t = TEXT_MAX, value_parser = text_max)]
    pub text_max: usize,
    /// An account below that is a low one, in direct rooms.
    #[arg(long, env = "ROOMCAST_LOW_ACCOUNT", default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = amount)]
    pub low_account: f64,
    /// Connections to the broker that appends go over.
    #[arg(long, env = "ROOMCAST_APPEND_CONNECTIONS", default_value_t = 2)]
    pub append_connections: usize,
    /// Connections to Postgres that reads go over.
    #[arg(long, env = "ROOMCAST_READ_CONNECTIONS", default_value_t = 10)]
    pub read_connections: u32,
    /// How often somebody may ask.
    #[command(flatten)]
    pub limits: RequestLimitArgs,
    /// Where clients are.
    #[command(flatten)]
    pub address: AddressArgs,
    /// How many connections they have.
    #[command(flatten)]
    pub connections: ConnectionArgs,
    /// The categories of topics, separated by commas: letters, digits, _ and -.
    #[arg(long, env = "ROOMCAST_TOPICS", value_delimiter = ',', default_value = "films,music,books,games", value_parser = category)]
    pub topics: Vec<String>,
    /// Where pictures are kept: a folder, or an address such as file:///var/lib/roomcast/media. Nodes share it.
    #[arg(long, env = "ROOMCAST_MEDIA", default_value = "data/media")]
    pub media: String,
    /// The customer desk.
    #[command(flatten)]
    pub support: SupportArgs,
}

/// How often somebody may ask, on each node; `off` turns a limit off.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct RequestLimitArgs {
    /// Writes that a person may make, or at the customer desk an address or a room without token: as in 5:100, 5 a
    /// second on average and 100 at once; 60/h counts by the hour. Tokens with `is_admin` are not counted.
    #[arg(long, env = "ROOMCAST_RATE_WRITES", default_value = "20:200")]
    pub rate_writes: Rate,
    /// Requests that may come from one address, in the same form. Those of this machine are not counted, unless
    /// ROOMCAST_ADDRESS_HEADER is set.
    #[arg(long, env = "ROOMCAST_RATE_REQUESTS", default_value = "200:2000")]
    pub rate_requests: Rate,
    /// Invitations that a person may send to another, in the same form.
    #[arg(long, env = "ROOMCAST_RATE_INVITATIONS", default_value = "60/h")]
    pub rate_invitations: Rate,
    /// Rooms of the customer desk that an address may make without token, in the same form.
    #[arg(long, env = "ROOMCAST_RATE_VISITOR_ROOMS", default_value = "60/h")]
    pub rate_visitor_rooms: Rate,
    /// Searches that a person may have under way at a time.
    #[arg(long, env = "ROOMCAST_SEARCHES_PERSON", default_value = "1")]
    pub searches_person: ConcurrencyLimit,
}

#[cfg(test)]
impl RequestLimitArgs {
    /// No limit at all.
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

/// Who may use the customer desk.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct SupportArgs {
    /// Whether visitors of the customer desk need a token.
    #[arg(long, env = "ROOMCAST_SUPPORT_TOKENS", value_enum, default_value = "optional")]
    pub support_tokens: TokenUse,
    /// What a visitor without token is known by.
    #[arg(long, env = "ROOMCAST_SUPPORT_VISITORS", value_enum, default_value = "named")]
    pub support_visitors: VisitorIdentity,
    /// Whether everyone may list an organisation's support rooms, whose keys are in the list: true or false.
    #[arg(long, env = "ROOMCAST_SUPPORT_OPEN", action = clap::ArgAction::Set, default_value_t = false)]
    pub support_open: bool,
}

/// Whether a token is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenUse {
    /// One that is sent counts.
    Optional,
    /// Without one nothing is answered.
    Required,
}

/// What a visitor of the customer desk without token is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum VisitorIdentity {
    /// The names that a visit gives: whoever gives the same gets the same room.
    Named,
    /// A secret besides, which the first answer sets as a cookie and says in a header.
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

/// Where Postgres is. It holds a password, so it is never shown.
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
    /// Where requests are served.
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
