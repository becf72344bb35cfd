//! Reads who is in a room when its first socket joins: from Postgres, through api, once Postgres has each event up to
//! the barrier. The log is not read for it: a node that opens many rooms would read it once for each.
//!
//! Joins and leaves of processes may be merged in any order, so those that arrive meanwhile need not wait.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use protocol::{
    id::{RoomId, UserId},
    rpc::{ParticipantsRequest, expiry},
    subject::Channel,
};

use super::ShardContext;

/// How long to wait until Postgres has an event.
const APPLIED_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a person is in the room by one process. The highest counter of a process counts.
pub(super) struct SnapshotEntry {
    pub(super) user: UserId,
    pub(super) incarnation: u64,
    pub(super) counter: u64,
    pub(super) is_present: bool,
}

/// Reads, through api, who is in a room up to an event of its shard.
///
/// # Errors
/// Where api does not answer, or Postgres does not have that event yet.
pub(super) async fn read_participants(
    context: &ShardContext,
    room: RoomId,
    upto: u64,
) -> anyhow::Result<Vec<SnapshotEntry>> {
    let shard = Channel::Room(room).shard(context.shards);
    // Api is asked even after a timeout: Postgres may have the event a moment later, and the first subscriber waits.
    context.applied.wait(shard, upto, APPLIED_TIMEOUT).await;
    let mut entries = Vec::new();
    // Pages are read one after another, so the lowest event counts.
    let mut as_of = u64::MAX;
    let mut after = None;
    loop {
        let request = ParticipantsRequest { room, is_paged: true, after, expires_at: expiry() };
        let page = context.api.participants(&request).await?;
        as_of = as_of.min(page.as_of);
        entries.extend(page.present.into_iter().map(|entry| SnapshotEntry {
            user: entry.user,
            incarnation: entry.incarnation,
            counter: entry.counter,
            is_present: true,
        }));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    ensure!(as_of >= upto, "Postgres has the room up to {as_of}, and not yet up to {upto}");
    Ok(entries)
}

/// Reads again, a second after a read failed.
pub(super) async fn read_participants_later(
    context: &ShardContext,
    room: RoomId,
    upto: u64,
) -> anyhow::Result<Vec<SnapshotEntry>> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    read_participants(context, room, upto).await.context("the people in the room could not be read")
}
