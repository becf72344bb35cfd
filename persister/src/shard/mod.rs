//! Writes one shard of the log to Postgres, in order and exactly once.
//!
//! `worker` leads: it has `log_check` compare the log with the watermark, reads by `batcher`, and writes by `apply`,
//! which moves the watermark in the transaction of the rows. `maintenance` runs beside it on the same shard.

pub(crate) mod apply;
mod batcher;
mod log_check;
pub(crate) mod maintenance;
mod retries;
pub(crate) mod status;
pub(crate) mod watermark;
pub(crate) mod worker;
