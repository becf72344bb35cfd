//! Writes whole events to `rejected_event`, for an operator to examine and for a later version to apply.

use protocol::id::Shard;
use service::metric_names as names;
use sqlx::PgConnection;

use crate::shard::apply::{
    plan::DependentEvent,
    rejected_event::{RejectedEvent, RejectionCause},
};

/// Maximum unresolved events of a shard that are recorded for unknown fields. Further ones are applied without a record
/// of these fields: by then an alert has been overlooked for long.
const PARTLY_APPLIED_MAX: i64 = 10_000;

/// Records events that can't be applied.
pub(crate) async fn insert(
    session: &mut PgConnection,
    shard: Shard,
    rejected: &[RejectedEvent],
) -> sqlx::Result<()> {
    insert_rows(session, shard, rejected.iter(), i64::MAX).await
}

/// Records events that were applied except for unknown fields, up to [`PARTLY_APPLIED_MAX`].
pub(super) async fn insert_partly_applied(
    session: &mut PgConnection,
    shard: Shard,
    partly_applied: &[RejectedEvent],
) -> sqlx::Result<()> {
    if partly_applied.is_empty() {
        return Ok(());
    }
    let recorded: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT FROM rejected_event
                               WHERE shard = $1 AND cause = $2 AND resolved_at IS NULL LIMIT $3) AS recorded",
    )
    .bind(shard.number())
    .bind(RejectionCause::UnknownFields.as_str())
    .bind(PARTLY_APPLIED_MAX)
    .fetch_one(&mut *session)
    .await?;
    insert_rows(session, shard, partly_applied.iter(), PARTLY_APPLIED_MAX - recorded).await
}

/// Records those events that change what an unresolved event would have created: they must be applied after it.
pub(super) async fn insert_dependents_of_rejected(
    session: &mut PgConnection,
    shard: Shard,
    dependents: &[DependentEvent],
) -> sqlx::Result<()> {
    if dependents.is_empty() {
        return Ok(());
    }
    let targets: Vec<i64> = dependents.iter().flat_map(|dependent| dependent.target_seqs.clone()).collect();
    let unresolved = find_unresolved(session, shard, &targets).await?;
    let is_waiting =
        |dependent: &&DependentEvent| dependent.target_seqs.iter().any(|target| unresolved.contains(target));
    let waiting = dependents.iter().filter(is_waiting).map(|dependent| &dependent.event);
    insert_rows(session, shard, waiting, i64::MAX).await
}

/// Those of the events that are recorded, were not applied, and may be applied by a later version.
pub(crate) async fn find_unresolved(
    session: &mut PgConnection,
    shard: Shard,
    seqs: &[i64],
) -> sqlx::Result<Vec<i64>> {
    // Rows without a cause are from an older version, which recorded no events that depend on them.
    sqlx::query_scalar(
        "SELECT seq FROM rejected_event
         WHERE shard = $1 AND seq = ANY($2) AND resolved_at IS NULL AND cause <> ALL($3)",
    )
    .bind(shard.number())
    .bind(seqs)
    .bind([RejectionCause::UnknownFields.as_str(), RejectionCause::IdTaken.as_str()])
    .fetch_all(session)
    .await
}

async fn insert_rows(
    session: &mut PgConnection,
    shard: Shard,
    events: impl Iterator<Item = &RejectedEvent> + Clone,
    limit: i64,
) -> sqlx::Result<()> {
    let events = events.take(usize::try_from(limit).unwrap_or(0));
    if events.clone().next().is_none() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO rejected_event (shard, seq, subject, payload, headers, stored_at, cause, reason)
         SELECT $1, new.* FROM unnest($2::int8[], $3::text[], $4::bytea[], $5::text[], $6::timestamptz[],
                                      $7::text[], $8::text[]) AS new
         ON CONFLICT DO NOTHING",
    )
    .bind(shard.number())
    .bind(events.clone().map(|event| event.seq).collect::<Vec<_>>())
    .bind(events.clone().map(|event| event.subject.as_str()).collect::<Vec<_>>())
    .bind(events.clone().map(|event| event.payload.as_slice()).collect::<Vec<_>>())
    .bind(events.clone().map(|event| event.headers.as_str()).collect::<Vec<_>>())
    .bind(events.clone().map(|event| event.stored_at).collect::<Vec<_>>())
    .bind(events.clone().map(|event| event.cause.as_str()).collect::<Vec<_>>())
    .bind(events.map(|event| event.reason.as_str()).collect::<Vec<_>>())
    .execute(session)
    .await?;
    Ok(())
}

/// Counts and logs events whose unknown fields were not applied. Called once they are committed.
pub(super) fn count_unknown_fields(shard: Shard, partly_applied: &[RejectedEvent]) {
    let Some(first) = partly_applied.first() else { return };
    let count = u64::try_from(partly_applied.len()).unwrap_or(u64::MAX);
    metrics::counter!(names::UNKNOWN_FIELDS_TOTAL, "shard" => shard.to_string()).increment(count);
    tracing::warn!(
        %shard,
        first = first.seq,
        count,
        "events were applied without fields that this version does not know"
    );
}
