//! What the hot paths cost, in instructions and allocations, held against committed figures.
//!
//! Instructions are counted, not time: the same build gives the same figures on a busy machine too, and on
//! any other. `tests/bench/run` builds the paths of `paths`, counts, and compares.

pub mod callgrind;
pub mod deployment;
pub mod figures;
