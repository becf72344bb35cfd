//! The keys of messages, found by them for ever where they are UUIDv7: filled with the words, since an index on the
//! table of messages would cost each of them 2 to 3 µs (measured).

use shared::id::Shard;
use sqlx::PgConnection;

const INSERT: &str = "
INSERT INTO message_key (shard, client_id, room, id)
SELECT $1, m.client_id::uuid, m.room, m.id FROM unnest($2::int8[], $3::int8[]) AS due (room, id)
JOIN message m ON m.shard = $1 AND m.room = due.room AND m.id = due.id
WHERE m.client_id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
ON CONFLICT DO NOTHING";

/// Writes the keys of these messages, named by room and id. A message that was deleted keeps its key.
pub(super) async fn write(
    session: &mut PgConnection,
    shard: Shard,
    messages: impl Iterator<Item = (i64, i64)>,
) -> sqlx::Result<()> {
    let (rooms, ids): (Vec<i64>, Vec<i64>) = messages.unzip();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(INSERT)
        .bind(shard.number())
        .bind(rooms)
        .bind(ids)
        // Planned each time: a plan of when the table was small would read all of it.
        .persistent(false)
        .execute(session)
        .await?;
    Ok(())
}
