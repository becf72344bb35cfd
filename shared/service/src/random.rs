//! Draws random numbers: the one place of the services that does.
//!
//! The generator is the thread's, seeded by the system: what it gives can't be predicted, so it serves secrets too.
#![expect(clippy::disallowed_methods, reason = "this module alone draws random numbers")]

use std::{ops::Range, time::Duration};

use rand::distr::uniform::SampleUniform;

/// A number that no other process draws: 64 bits, for what lives as long as a process.
#[must_use]
pub fn process_id() -> u64 {
    rand::random()
}

/// A number that is never drawn twice: 128 bits, for what is kept.
#[must_use]
pub fn unique_id() -> u128 {
    rand::random()
}

/// A number of a range, the end excluded.
#[must_use]
pub fn in_range<T: SampleUniform + PartialOrd>(range: Range<T>) -> T {
    rand::random_range(range)
}

/// A duration times a random factor of that range, so that processes which begin together do not stay together.
#[must_use]
pub fn jittered(duration: Duration, factor: Range<f64>) -> Duration {
    duration.mul_f64(rand::random_range(factor))
}
