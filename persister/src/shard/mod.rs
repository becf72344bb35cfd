//! Writes one shard of the log to Postgres, in order and exactly once.
//!
//! `worker` runs the shard: it compares the log with the watermark (`log_check`), reads batches (`batcher`) and writes
//! them (`apply`), which moves the watermark in the transaction of the rows. `maintenance` runs beside it on the same
//! shard.

pub(crate) mod apply;
mod batcher;
mod log_check;
pub(crate) mod maintenance;
mod retries;
pub(crate) mod status;
pub(crate) mod watermark;
pub(crate) mod worker;
