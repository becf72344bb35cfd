//! Tests what an HTTP server does before any dialect: connections, headers, bodies that are refused, origins.

mod connections;
mod cors;
mod handshake;
mod labels;
mod metrics;
mod refused_bodies;
