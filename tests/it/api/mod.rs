//! Tests what api decides and answers, dialect by dialect.

mod direct;
mod documents;
mod match_rooms;
mod native;
mod rights;
mod support;
mod topics;
