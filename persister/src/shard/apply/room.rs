//! Writes new rooms, and changes of rooms.

use std::collections::HashMap;

use protocol::{
    event::{Room, RoomUpdate},
    id::{Shard, UserId},
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use crate::{database::to_i64, shard::apply::plan::RoomInsert};

/// Inserts a new room. The people named in it become members by events of their own, except for the two of a pair. Of
/// two rooms with the same key and generation only the first is inserted.
pub(super) async fn insert(
    session: &mut PgConnection,
    shard: Shard,
    new_room: &RoomInsert,
) -> sqlx::Result<()> {
    let RoomInsert { id, room, key_and_generation: key } = new_room;
    let (key, generation) = key.as_ref().map(|(key, generation)| (key, generation)).unzip();
    let pair: Option<Vec<&str>> =
        room.kind.is_pair().then(|| room.users.iter().map(UserId::as_str).collect());
    let inserted = sqlx::query(
        "INSERT INTO room (shard, id, kind, name, description, private, team, creator, active, created_at,
                           pair, key, generation, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (shard, key, generation) DO NOTHING",
    )
    .bind(shard.number())
    .bind(to_i64(*id))
    .bind(room.kind.as_str())
    .bind(&room.name)
    .bind(room.description.as_deref())
    .bind(room.private)
    .bind(room.team.map(|team| to_i64(team.0)))
    .bind(room.user.as_str())
    .bind(room.active)
    .bind(OffsetDateTime::from(room.created_at))
    .bind(pair)
    .bind(key)
    .bind(generation)
    .bind(room.detail.as_ref().map(Json))
    .execute(session)
    .await?;
    if inserted.rows_affected() == 0 {
        tracing::warn!(%shard, id, "a room was not inserted: another one has its key and generation");
    }
    Ok(())
}

/// Fills in the columns of a room that an older version did not understand.
pub(crate) async fn fill_missing(
    session: &mut PgConnection,
    shard: Shard,
    id: u64,
    room: &Room,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE room SET description = coalesce(description, $3), team = coalesce(team, $4),
                         detail = coalesce(detail, $5)
         WHERE shard = $1 AND id = $2",
    )
    .bind(shard.number())
    .bind(to_i64(id))
    .bind(room.description.as_deref())
    .bind(room.team.map(|team| to_i64(team.0)))
    .bind(room.detail.as_ref().map(Json))
    .execute(session)
    .await?;
    Ok(())
}

/// Sets the last event that changed each room or its members.
pub(super) async fn set_last_changed(
    session: &mut PgConnection,
    shard: Shard,
    rooms: &HashMap<i64, i64>,
) -> sqlx::Result<()> {
    if rooms.is_empty() {
        return Ok(());
    }
    // An update of the room, written before in this transaction, may be the later event.
    sqlx::query(
        "INSERT INTO room_state (shard, room, changed)
         SELECT $1, new.* FROM unnest($2::int8[], $3::int8[]) AS new
         ON CONFLICT (shard, room) DO UPDATE SET changed = greatest(room_state.changed, excluded.changed)",
    )
    .bind(shard.number())
    .bind(rooms.keys().copied().collect::<Vec<_>>())
    .bind(rooms.values().copied().collect::<Vec<_>>())
    .execute(session)
    .await?;
    Ok(())
}

/// Changes what the update names. A closed room stays closed; of several stops the last one counts.
pub(super) async fn update(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    update: &RoomUpdate,
) -> sqlx::Result<()> {
    let closed_at = update.closed.filter(|closed| *closed).map(|_| OffsetDateTime::from(update.updated_at));
    sqlx::query(
        "INSERT INTO room_state (shard, room, name, description, private, closed_at, changed, stopped)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (shard, room) DO UPDATE
         SET name = coalesce(excluded.name, room_state.name),
             description = coalesce(excluded.description, room_state.description),
             private = coalesce(excluded.private, room_state.private),
             closed_at = coalesce(room_state.closed_at, excluded.closed_at),
             stopped = coalesce(excluded.stopped, room_state.stopped),
             changed = greatest(room_state.changed, excluded.changed)",
    )
    .bind(shard.number())
    .bind(to_i64(update.room.0))
    .bind(update.name.as_deref())
    .bind(update.description.as_deref())
    .bind(update.private)
    .bind(closed_at)
    .bind(to_i64(seq))
    .bind(update.stopped.filter(|stopped| *stopped).map(|_| to_i64(seq)))
    .execute(session)
    .await?;
    Ok(())
}
