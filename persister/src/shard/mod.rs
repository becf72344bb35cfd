//! Writes the shards of the log to Postgres, in order and exactly once.
//!
//! `worker` runs the shard: it compares the log with the watermark (`log_check`), reads batches (`batcher`) and hands
//! them to the committer (`committer`), which writes those of several shards at once (`apply`) and moves their watermarks
//! in the transaction of the rows. `maintenance` runs beside the worker on the same shard.

pub(crate) mod apply;
mod batcher;
pub(crate) mod committer;
mod log_check;
pub(crate) mod maintenance;
mod retries;
pub(crate) mod status;
pub(crate) mod watermark;
pub(crate) mod worker;
