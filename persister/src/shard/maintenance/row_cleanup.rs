//! Deletes rows that nobody needs any more, a few at a time, by the process that leads their shard.
//!
//! Each start of a fan-out node leaves a row behind for every person it ever had in a room, and one for each
//! person who was online: the row records that they have left. Invitations into closed rooms stay unanswered.
//!
//! What must hold: a row of a person who has left is deleted only once no older event of the same process can be
//! applied any more, which would make them present again. So the row's event is no longer in the log, and every event
//! that the log had when that was seen is applied. Events appended later are younger by at least the age at which the
//! log is trimmed; if one of them makes people of a dead process present after all, api declares that process dead
//! again. Rows from before migration 3, or written by an older persister, name no event: their event counts as one of
//! those that the log had when this process began to lead the shard.

use std::{collections::HashSet, convert::Infallible, sync::atomic::Ordering, time::Duration};

use anyhow::Context as _;
use log::StreamState;
use protocol::{
    id::{RoomId, ShardCount},
    subject::Channel,
};
use service::{metric_names as names, random};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep, timeout};

use crate::{database::to_i64, shard::worker::ShardWorker};

/// Pause after a round that deleted all it may.
const ROUND_INTERVAL: Duration = Duration::from_secs(5);
/// Pause, beside the time of the round itself, after a round that left rows to delete.
const ROUND_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Maximum rows of a table that a round deletes.
const ROWS_PER_ROUND_MAX: i64 = 5_000;
/// Maximum invitations that a round reads.
const INVITATIONS_PER_ROUND_MAX: i64 = 500;
/// `statement_timeout` of the maintenance session.
pub(crate) const STATEMENT_TIMEOUT: &str = "5s";
/// Time-out of a round, longer than its statements may take together: after it the session is closed.
const ROUND_TIMEOUT: Duration = Duration::from_secs(30);

/// Deletes rows of people who have left a room, by their events: from `$2` on and before `$3`. The partial index of
/// rows without `present` finds them, and `ctid` deletes them: with more conditions in the outer query, PostgreSQL may
/// search the whole list for each row.
const DELETE_PARTICIPANTS: &str = "
DELETE FROM participant WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM participant WHERE shard = $1 AND NOT present AND changed >= $2 AND changed < $3
    ORDER BY changed LIMIT $4 FOR UPDATE SKIP LOCKED))";

/// Deletes rows of people who are no longer online, in the same way.
const DELETE_ONLINE: &str = "
DELETE FROM online WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM online WHERE shard = $1 AND NOT present AND changed >= $2 AND changed < $3
    ORDER BY changed LIMIT $4 FOR UPDATE SKIP LOCKED))";

/// Events after which no older event can be applied any more.
#[derive(Debug, Default)]
struct SettledEvents {
    /// All events below this one.
    before_seq: u64,
    /// The log's first and last event in an earlier state; not all events up to this last one are applied yet.
    pending_log_range: Option<(u64, u64)>,
    /// The log's last event when it was read first: rows that name no event belong to events up to this one.
    unnamed_up_to_seq: Option<u64>,
}

impl SettledEvents {
    /// Notes the state of the log, and the watermark, which must be read after it.
    fn update(&mut self, log: &StreamState, watermark_seq: u64) {
        self.unnamed_up_to_seq.get_or_insert(log.last);
        let (first, last) = *self.pending_log_range.get_or_insert((log.first, log.last));
        if watermark_seq >= last {
            self.before_seq = self.before_seq.max(first);
            self.pending_log_range = None;
        }
    }

    /// The lowest event whose rows may be deleted: 0 includes rows that name no event.
    fn first_deletable_seq(&self) -> u64 {
        u64::from(self.unnamed_up_to_seq.is_none_or(|last| self.before_seq <= last))
    }
}

/// Progress of a shard's maintenance.
#[derive(Debug, Default)]
struct CleanupProgress {
    settled: SettledEvents,
    /// The last invitation read; 0 at the beginning of the list.
    last_invitation_id: i64,
}

impl ShardWorker {
    /// Deletes rows that nobody needs any more, for as long as this process leads the shard.
    pub(crate) async fn delete_old_rows_periodically(&self) -> Infallible {
        let mut progress = CleanupProgress::default();
        let mut pause = ROUND_INTERVAL;
        loop {
            sleep(random::jittered(pause, 0.8..1.2)).await;
            let begun = Instant::now();
            pause = match self.delete_round(&mut progress).await {
                // The session is busy for at most half of the time.
                Ok(true) => begun.elapsed() + ROUND_PAUSE_MIN,
                Ok(false) => ROUND_INTERVAL,
                Err(error) => {
                    tracing::warn!(shard = %self.shard, error = format!("{error:#}"), "rows were not deleted: the next round tries again");
                    ROUND_INTERVAL
                }
            };
        }
    }

    /// Runs one round. Returns whether there is more to delete.
    async fn delete_round(&self, progress: &mut CleanupProgress) -> anyhow::Result<bool> {
        let log = log::state(&self.jetstream, self.shard).await?;
        progress.settled.update(&log, self.watermark_seq.load(Ordering::Relaxed));
        let mut pooled = self.maintenance_sessions.take().await?;
        let round = timeout(ROUND_TIMEOUT, self.delete_rows(pooled.session(), progress)).await;
        let has_more = round.context("the database did not answer in time")??;
        pooled.give_back();
        Ok(has_more)
    }

    async fn delete_rows(
        &self,
        session: &mut PgConnection,
        progress: &mut CleanupProgress,
    ) -> anyhow::Result<bool> {
        let before_seq = to_i64(progress.settled.before_seq);
        let mut has_more = false;
        for (table, sql) in [("participant", DELETE_PARTICIPANTS), ("online", DELETE_ONLINE)] {
            let deleted = sqlx::query(sql)
                .bind(self.shard.number())
                .bind(to_i64(progress.settled.first_deletable_seq()))
                .bind(before_seq)
                .bind(ROWS_PER_ROUND_MAX)
                .execute(&mut *session)
                .await?
                .rows_affected();
            count_deleted(table, deleted);
            has_more |= deleted >= ROWS_PER_ROUND_MAX.unsigned_abs();
        }
        let shards = self.stream_args.shard_count()?;
        count_deleted("invitation", self.delete_invitations(session, shards, before_seq, progress).await?);
        Ok(has_more)
    }

    /// Deletes unanswered invitations into closed rooms, among the next [`INVITATIONS_PER_ROUND_MAX`] of the list. An
    /// invitation stays while the log has its event.
    async fn delete_invitations(
        &self,
        session: &mut PgConnection,
        shards: ShardCount,
        before_seq: i64,
        progress: &mut CleanupProgress,
    ) -> anyhow::Result<u64> {
        let unanswered: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT user_id, id, room FROM invitation
             WHERE shard = $1 AND accepted IS NULL AND id > $2 AND id < $3 ORDER BY id LIMIT $4",
        )
        .bind(self.shard.number())
        .bind(progress.last_invitation_id)
        .bind(before_seq)
        .bind(INVITATIONS_PER_ROUND_MAX)
        .fetch_all(&mut *session)
        .await?;
        let is_end_of_list = i64::try_from(unanswered.len())? < INVITATIONS_PER_ROUND_MAX;
        progress.last_invitation_id =
            unanswered.last().filter(|_| !is_end_of_list).map_or(0, |(_, id, _)| *id);
        if unanswered.is_empty() {
            return Ok(0);
        }
        let rooms: Vec<i64> = unanswered.iter().map(|(_, _, room)| *room).collect();
        let shard_of = |room: &i64| Channel::Room(RoomId(room.unsigned_abs())).shard(shards).number();
        // A statement of its own, since the rooms belong to other shards.
        let closed: Vec<i64> = sqlx::query_scalar(
            "SELECT s.room FROM unnest($1::int2[], $2::int8[]) AS wanted (shard, room)
             CROSS JOIN LATERAL (SELECT s.room, s.closed_at FROM room_state s
                                 WHERE s.shard = wanted.shard AND s.room = wanted.room LIMIT 1) s
             WHERE s.closed_at IS NOT NULL",
        )
        .bind(rooms.iter().map(shard_of).collect::<Vec<_>>())
        .bind(&rooms)
        .fetch_all(&mut *session)
        .await?;
        let closed: HashSet<i64> = closed.into_iter().collect();
        let (users, ids): (Vec<String>, Vec<i64>) = unanswered
            .into_iter()
            .filter(|(_, _, room)| closed.contains(room))
            .map(|(user, id, _)| (user, id))
            .unzip();
        if ids.is_empty() {
            return Ok(0);
        }
        let deleted = sqlx::query(
            "DELETE FROM invitation WHERE ctid = ANY (ARRAY(
                 SELECT i.ctid FROM unnest($2::text[], $3::int8[]) AS gone (user_id, id)
                 CROSS JOIN LATERAL (SELECT i.ctid, i.accepted FROM invitation i WHERE i.shard = $1
                                         AND i.user_id = gone.user_id AND i.id = gone.id LIMIT 1) i
                 WHERE i.accepted IS NULL)) AND accepted IS NULL",
        )
        .bind(self.shard.number())
        .bind(users)
        .bind(ids)
        .execute(session)
        .await?;
        Ok(deleted.rows_affected())
    }
}

fn count_deleted(table: &'static str, deleted: u64) {
    metrics::counter!(names::MAINTENANCE_DELETED_TOTAL, "table" => table).increment(deleted);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(first: u64, last: u64) -> StreamState {
        StreamState { first, last, epoch: 1, messages: last + 1 - first, bytes: 0, max_bytes: 0, replicas: 1 }
    }

    #[test]
    fn trimmed_events_are_settled_once_all_that_the_log_had_is_applied() {
        let mut settled = SettledEvents::default();
        settled.update(&log(101, 200), 200);
        assert_eq!(settled.before_seq, 101);
        settled.update(&log(151, 300), 250);
        assert_eq!(
            settled.before_seq, 101,
            "events up to 300 are not all applied: an older event may be among them"
        );
        settled.update(&log(251, 400), 299);
        assert_eq!(settled.before_seq, 101);
        settled.update(&log(301, 500), 300);
        assert_eq!(settled.before_seq, 151, "the first event of the log when the range was read");
        settled.update(&log(301, 500), 500);
        assert_eq!(settled.before_seq, 301);
    }

    #[test]
    fn log_without_events_settles_all_that_it_had() {
        let mut settled = SettledEvents::default();
        settled.update(&log(201, 200), 200);
        assert_eq!(settled.before_seq, 201);
    }

    #[test]
    fn rows_without_an_event_are_settled_with_the_last_event_of_the_first_log_state() {
        let mut settled = SettledEvents::default();
        settled.update(&log(101, 200), 200);
        assert_eq!(settled.first_deletable_seq(), 1);
        settled.update(&log(200, 300), 300);
        assert_eq!(
            (settled.before_seq, settled.first_deletable_seq()),
            (200, 1),
            "the log still has event 200"
        );
        settled.update(&log(201, 400), 400);
        assert_eq!((settled.before_seq, settled.first_deletable_seq()), (201, 0));
    }
}
