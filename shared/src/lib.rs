//! The vocabulary of Roomcast: what two or more crates need.
//!
//! Events and their subjects, ids, tokens, the log (append and ordered read), and what every
//! service needs to run: configuration, life cycle, telemetry. It knows no HTTP route and no SQL.

pub mod admin;
pub mod clock;
pub mod config;
pub mod error;
pub mod event;
pub mod id;
pub mod json;
pub mod lifecycle;
pub mod log;
pub mod metric_names;
pub mod nats;
pub mod origin;
pub mod rate;
pub mod rpc;
pub mod rules;
pub mod schema;
pub mod serve;
pub mod socket;
pub mod subject;
pub mod telemetry;
pub mod token;
