//! Provides what every Roomcast service needs beside its own work.
//!
//! Configuration, life cycle, HTTP serving with its limits, admin routes, metrics and logs, the connection to the
//! broker, and tokens. It knows no dialect and no SQL statement.

pub mod admin;
pub mod config;
pub mod lifecycle;
pub mod local_api;
pub mod metric_names;
pub mod nats;
pub mod origin;
pub mod random;
pub mod rate;
pub mod schema;
pub mod serve;
pub mod telemetry;
pub mod token;
