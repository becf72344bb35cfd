//! Writes who is in a room and who is online: the highest counter of each process and person counts, in any order.

use protocol::id::Shard;
use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::Query};

use crate::shard::apply::{ShardRows, plan::LatestPresence};

/// Columns that both tables have.
#[derive(Default)]
struct PresenceColumns<'a> {
    shards: Vec<i16>,
    users: Vec<&'a str>,
    incarnations: Vec<i64>,
    counters: Vec<i64>,
    present: Vec<bool>,
    changed: Vec<i64>,
}

impl<'a> PresenceColumns<'a> {
    fn push(&mut self, shard: Shard, user: &'a str, incarnation: i64, state: &LatestPresence) {
        self.shards.push(shard.number());
        self.users.push(user);
        self.incarnations.push(incarnation);
        self.counters.push(state.counter);
        self.present.push(state.is_present);
        self.changed.push(state.seq);
    }

    /// The statement with these columns as its first six parameters.
    fn bind(self, sql: &'static str) -> Query<'a, Postgres, PgArguments> {
        sqlx::query(sql)
            .bind(self.shards)
            .bind(self.users)
            .bind(self.incarnations)
            .bind(self.counters)
            .bind(self.present)
            .bind(self.changed)
    }
}

/// Writes the latest state of each participant, by one statement.
pub(super) async fn upsert(session: &mut PgConnection, rows: &[ShardRows<'_>]) -> sqlx::Result<()> {
    let (mut columns, mut rooms) = (PresenceColumns::default(), Vec::new());
    for part in rows {
        for (key, state) in &part.plan.participants {
            columns.push(part.shard, &key.user, key.incarnation, state);
            rooms.push(key.room);
        }
    }
    if rooms.is_empty() {
        return Ok(());
    }
    let statement = columns.bind(
        "INSERT INTO participant (shard, user_id, incarnation, counter, present, changed, room)
         SELECT * FROM unnest($1::int2[], $2::text[], $3::int8[], $4::int8[], $5::bool[], $6::int8[], $7::int8[])
         ON CONFLICT (shard, room, user_id, incarnation) DO UPDATE
         SET counter = excluded.counter, present = excluded.present, changed = excluded.changed
         WHERE participant.counter < excluded.counter",
    );
    statement.bind(rooms).execute(session).await?;
    Ok(())
}

/// Writes the latest state of each person who is or was online, by one statement.
pub(super) async fn upsert_online(session: &mut PgConnection, rows: &[ShardRows<'_>]) -> sqlx::Result<()> {
    let mut columns = PresenceColumns::default();
    for part in rows {
        for (key, state) in &part.plan.online {
            columns.push(part.shard, &key.user, key.incarnation, state);
        }
    }
    if columns.users.is_empty() {
        return Ok(());
    }
    let statement = columns.bind(
        "INSERT INTO online (shard, user_id, incarnation, counter, present, changed)
         SELECT * FROM unnest($1::int2[], $2::text[], $3::int8[], $4::int8[], $5::bool[], $6::int8[])
         ON CONFLICT (shard, user_id, incarnation) DO UPDATE
         SET counter = excluded.counter, present = excluded.present, changed = excluded.changed
         WHERE online.counter < excluded.counter",
    );
    statement.execute(session).await?;
    Ok(())
}
