//! The way of a batch, for `tests/bench`: from what was read of the log to the columns that are written.

use shared::log::Stored;

use crate::{apply::message::Columns, batch::Plan};

/// Sorts a batch, builds its messages' columns, and says how many messages it has and how many events it
/// rejects.
#[must_use]
pub fn columns(batch: &[Stored]) -> (usize, usize) {
    let plan = Plan::of(batch);
    std::hint::black_box(Columns::of(&plan.messages));
    (plan.messages.len(), plan.rejected.len())
}
