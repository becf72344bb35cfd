//! Tests what every service does before its own work: HTTP, tokens, limits.

mod http;
mod limits;
mod rate;
mod tokens;
