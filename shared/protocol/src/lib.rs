//! Defines the data that Roomcast's services exchange with each other, with Postgres and with clients.
//!
//! Ids, events and their subjects, requests between services, forms of socket frames and errors. It does no I/O,
//! and knows no HTTP route, no SQL and no connection.

pub mod caller;
pub mod clock;
pub mod error;
pub mod event;
pub mod id;
pub mod json;
pub mod rpc;
pub mod socket;
pub mod subject;
pub mod text;
