//! Counts the instructions and allocations of hot paths, and compares them with committed figures.
//!
//! Instructions are counted, not time, so the figures of a build are the same on every machine, busy or not.
//! `tests/bench/run` builds the paths in `paths`, counts, and compares.

pub mod callgrind;
pub mod deployment;
pub mod figures;
