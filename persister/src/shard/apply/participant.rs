//! Writes who is in a room and who is online: the highest counter of each process and person counts, in any order.

use std::collections::HashMap;

use protocol::id::Shard;
use sqlx::PgConnection;

use crate::shard::apply::plan::{LatestPresence, OnlineRowKey, ParticipantRowKey};

/// Writes the latest state of each participant, by one statement.
pub(super) async fn upsert(
    session: &mut PgConnection,
    shard: Shard,
    participants: &HashMap<ParticipantRowKey, LatestPresence>,
) -> sqlx::Result<()> {
    if participants.is_empty() {
        return Ok(());
    }
    let rooms: Vec<i64> = participants.keys().map(|key| key.room).collect();
    let users: Vec<&str> = participants.keys().map(|key| key.user.as_str()).collect();
    let incarnations: Vec<i64> = participants.keys().map(|key| key.incarnation).collect();
    let counters: Vec<i64> = participants.values().map(|state| state.counter).collect();
    let present: Vec<bool> = participants.values().map(|state| state.is_present).collect();
    let changed: Vec<i64> = participants.values().map(|state| state.seq).collect();
    sqlx::query(
        "INSERT INTO participant (shard, room, user_id, incarnation, counter, present, changed)
         SELECT $1, new.* FROM unnest($2::int8[], $3::text[], $4::int8[], $5::int8[], $6::bool[],
                                      $7::int8[]) AS new
         ON CONFLICT (shard, room, user_id, incarnation) DO UPDATE
         SET counter = excluded.counter, present = excluded.present, changed = excluded.changed
         WHERE participant.counter < excluded.counter",
    )
    .bind(shard.number())
    .bind(rooms)
    .bind(users)
    .bind(incarnations)
    .bind(counters)
    .bind(present)
    .bind(changed)
    .execute(session)
    .await?;
    Ok(())
}

/// Writes the latest state of each person who is or was online, by one statement.
pub(super) async fn upsert_online(
    session: &mut PgConnection,
    shard: Shard,
    people: &HashMap<OnlineRowKey, LatestPresence>,
) -> sqlx::Result<()> {
    if people.is_empty() {
        return Ok(());
    }
    let users: Vec<&str> = people.keys().map(|key| key.user.as_str()).collect();
    let incarnations: Vec<i64> = people.keys().map(|key| key.incarnation).collect();
    let counters: Vec<i64> = people.values().map(|state| state.counter).collect();
    let present: Vec<bool> = people.values().map(|state| state.is_present).collect();
    let changed: Vec<i64> = people.values().map(|state| state.seq).collect();
    sqlx::query(
        "INSERT INTO online (shard, user_id, incarnation, counter, present, changed)
         SELECT $1, new.* FROM unnest($2::text[], $3::int8[], $4::int8[], $5::bool[], $6::int8[]) AS new
         ON CONFLICT (shard, user_id, incarnation) DO UPDATE
         SET counter = excluded.counter, present = excluded.present, changed = excluded.changed
         WHERE online.counter < excluded.counter",
    )
    .bind(shard.number())
    .bind(users)
    .bind(incarnations)
    .bind(counters)
    .bind(present)
    .bind(changed)
    .execute(session)
    .await?;
    Ok(())
}
