//! Reads and moves the watermark of a shard: the row that says up to where its log is in Postgres.
//!
//! Every transaction first moves the watermark by compare-and-set, so each event is applied exactly once.
//!
//! What must hold: the watermark moves only in the epoch in which the events were read, so events that were read from a
//! log before its repair are never written.

use anyhow::ensure;
use protocol::id::Shard;
use sqlx::PgConnection;

use crate::{database::to_i64, streams::verify::LastApplied};

/// The watermark of a shard, and what Postgres knows of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// The last event that Postgres has.
    pub(crate) seq: u64,
    /// The log's epoch; 0 before the log was first seen.
    pub(crate) epoch: u64,
    /// The last event that the log was ever seen to have, in that epoch.
    pub(crate) highest_seen: u64,
    /// When the broker stored the event at `seq`, in nanoseconds since 1970: it identifies that event. `None` if
    /// unknown.
    pub(crate) stored_at_ns: Option<i64>,
    /// Boot id of a single broker's host, when the log was checked last.
    pub(crate) boot_id: Option<String>,
}

impl Watermark {
    /// Whether no event of the log was ever seen: if the stream is missing, a new one can be created.
    pub(crate) const fn has_no_events(&self) -> bool {
        self.seq == 0 && self.highest_seen == 0
    }

    /// The epoch in which a new stream of the shard begins; `None` where the shard has events already.
    pub(crate) fn first_epoch(&self) -> Option<u64> {
        self.has_no_events().then_some(self.epoch + 1)
    }

    /// The event at the watermark.
    pub(crate) const fn last_applied(&self) -> LastApplied {
        LastApplied { seq: self.seq, stored_at_ns: self.stored_at_ns }
    }
}

/// Reads the watermark of a shard.
pub(crate) async fn read(session: &mut PgConnection, shard: Shard) -> anyhow::Result<Watermark> {
    let (seq, epoch, highest_seen, stored_at_ns, boot_id): (i64, i64, i64, Option<i64>, Option<String>) =
        sqlx::query_as("SELECT seq, epoch, seen, stored_at, boot FROM watermark WHERE shard = $1")
            .bind(shard.number())
            .fetch_one(session)
            .await?;
    let (seq, epoch, highest_seen) =
        (u64::try_from(seq)?, u64::try_from(epoch)?, u64::try_from(highest_seen)?);
    Ok(Watermark { seq, epoch, highest_seen, stored_at_ns, boot_id })
}

/// One move of the watermark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatermarkAdvance {
    pub(crate) shard: Shard,
    /// The epoch in which the events were read.
    pub(crate) epoch: u64,
    pub(crate) expected_seq: u64,
    pub(crate) new_seq: u64,
    /// When the broker stored the event at `new_seq`, in nanoseconds since 1970.
    pub(crate) stored_at_ns: i64,
    /// The last event that the log is known to have.
    pub(crate) log_end_seq: u64,
}

/// Moves the watermarks of several shards. Returns those that were moved: another process has moved the others
/// meanwhile, or has begun a new epoch.
pub(crate) async fn advance<'a>(
    session: &mut PgConnection,
    advances: impl Iterator<Item = &'a WatermarkAdvance> + Clone,
) -> sqlx::Result<Vec<Shard>> {
    let numbers = |value: fn(&WatermarkAdvance) -> u64| -> Vec<i64> {
        advances.clone().map(|advance| to_i64(value(advance))).collect()
    };
    let moved: Vec<i16> = sqlx::query_scalar(
        "UPDATE watermark SET seq = step.new_seq, stored_at = step.stored_at, seen = greatest(watermark.seen, step.log_end)
         FROM unnest($1::int2[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::int8[])
              AS step (shard, epoch, expected_seq, new_seq, stored_at, log_end)
         WHERE watermark.shard = step.shard AND watermark.epoch = step.epoch AND watermark.seq = step.expected_seq
         RETURNING watermark.shard",
    )
    .bind(advances.clone().map(|advance| advance.shard.number()).collect::<Vec<_>>())
    .bind(numbers(|advance| advance.epoch))
    .bind(numbers(|advance| advance.expected_seq))
    .bind(numbers(|advance| advance.new_seq))
    .bind(advances.clone().map(|advance| advance.stored_at_ns).collect::<Vec<_>>())
    .bind(numbers(|advance| advance.log_end_seq))
    .fetch_all(session)
    .await?;
    Ok(advances.map(|advance| advance.shard).filter(|shard| moved.contains(&shard.number())).collect())
}

/// Updates the shard's row without changing it, which shows whether Postgres can write now.
pub(crate) async fn probe_write(session: &mut PgConnection, shard: Shard) -> sqlx::Result<()> {
    sqlx::query("UPDATE watermark SET seen = seen WHERE shard = $1")
        .bind(shard.number())
        .execute(session)
        .await?;
    Ok(())
}

/// Records the epoch that the log has from now on, its last event, and the boot id of the broker's host.
pub(crate) async fn begin_epoch(
    session: &mut PgConnection,
    shard: Shard,
    current: &Watermark,
    epoch: u64,
    log_end_seq: u64,
    boot_id: Option<&str>,
) -> anyhow::Result<()> {
    let updated = sqlx::query(
        "UPDATE watermark SET epoch = $3, seen = greatest($4, seq), boot = coalesce($5, boot)
         WHERE shard = $1 AND epoch = $2",
    )
    .bind(shard.number())
    .bind(to_i64(current.epoch))
    .bind(to_i64(epoch))
    .bind(to_i64(log_end_seq))
    .bind(boot_id)
    .execute(session)
    .await?;
    ensure!(updated.rows_affected() == 1, "another process has begun a new epoch of shard {shard}");
    Ok(())
}

/// Forgets which event is at the watermark: the log has another one there, and it has been rejected.
pub(crate) async fn clear_stored_at(session: &mut PgConnection, shard: Shard, seq: u64) -> sqlx::Result<()> {
    sqlx::query("UPDATE watermark SET stored_at = NULL WHERE shard = $1 AND seq = $2")
        .bind(shard.number())
        .bind(to_i64(seq))
        .execute(session)
        .await?;
    Ok(())
}

/// Begins a new epoch. Moves the watermark over the range that the log has lost, if any, and records the range.
pub(crate) async fn skip_lost_range(
    session: &mut PgConnection,
    shard: Shard,
    current: &Watermark,
    epoch: u64,
    lost_range: Option<(u64, u64)>,
) -> anyhow::Result<()> {
    use sqlx::Connection as _;
    let mut transaction = session.begin().await?;
    let last_seq = lost_range.map_or(current.seq, |(_, last_seq)| last_seq);
    let updated = sqlx::query(
        "UPDATE watermark SET seq = $4, epoch = $5, seen = $4, stored_at = NULL
         WHERE shard = $1 AND epoch = $2 AND seq = $3",
    )
    .bind(shard.number())
    .bind(to_i64(current.epoch))
    .bind(to_i64(current.seq))
    .bind(to_i64(last_seq))
    .bind(to_i64(epoch))
    .execute(&mut *transaction)
    .await?;
    ensure!(updated.rows_affected() == 1, "another process has moved the watermark of shard {shard}");
    if let Some((from, last_seq)) = lost_range {
        sqlx::query("INSERT INTO lost_range (shard, from_seq, to_seq) VALUES ($1, $2, $3)")
            .bind(shard.number())
            .bind(to_i64(from))
            .bind(to_i64(last_seq))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}
