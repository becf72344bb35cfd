//! Writes members of rooms and of teams in bulk.

use protocol::id::Shard;
use sqlx::PgConnection;

use crate::shard::apply::membership::{AddedMembers, MembershipChanges, RemovedMembers};

/// The two statements for a table of members. Rows to delete are looked up by their whole keys, one by one: otherwise
/// PostgreSQL may read all members of a team to find one.
#[derive(Clone, Copy)]
pub(super) struct MemberStatements {
    remove: &'static str,
    add: &'static str,
}

/// Members of rooms, who may enter them.
pub(super) const ROOM_MEMBERS: MemberStatements = MemberStatements {
    remove: "DELETE FROM room_member WHERE ctid = ANY (ARRAY(
                 SELECT m.ctid FROM unnest($2::int8[], $3::text[]) AS gone (room, user_id)
                 CROSS JOIN LATERAL (SELECT m.ctid FROM room_member m WHERE m.shard = $1 AND m.room = gone.room
                                         AND m.user_id COLLATE \"C\" = gone.user_id LIMIT 1) m))",
    add: "INSERT INTO room_member (shard, room, user_id, added_by)
          SELECT $1, new.* FROM unnest($2::int8[], $3::text[], $4::text[]) AS new
          ON CONFLICT (shard, room, user_id) DO NOTHING",
};

/// Members of teams.
pub(super) const TEAM_MEMBERS: MemberStatements = MemberStatements {
    remove: "DELETE FROM team_member WHERE ctid = ANY (ARRAY(
                 SELECT m.ctid FROM unnest($2::int8[], $3::text[]) AS gone (team, user_id)
                 CROSS JOIN LATERAL (SELECT m.ctid FROM team_member m WHERE m.shard = $1 AND m.team = gone.team
                                         AND m.user_id COLLATE \"C\" = gone.user_id LIMIT 1) m))",
    add: "INSERT INTO team_member (shard, team, user_id, added_by)
          SELECT $1, new.* FROM unnest($2::int8[], $3::text[], $4::text[]) AS new
          ON CONFLICT (shard, team, user_id) DO NOTHING",
};

/// Removes members, then adds members. A person who is a member already keeps their first `added_by`.
pub(super) async fn write(
    session: &mut PgConnection,
    shard: Shard,
    statements: MemberStatements,
    membership: &MembershipChanges,
) -> sqlx::Result<()> {
    let RemovedMembers { owner_ids, users } = membership.removed();
    if !owner_ids.is_empty() {
        sqlx::query(statements.remove)
            .bind(shard.number())
            .bind(owner_ids)
            .bind(users)
            .execute(&mut *session)
            .await?;
    }
    let AddedMembers { owner_ids, users, added_by } = membership.added();
    if !owner_ids.is_empty() {
        sqlx::query(statements.add)
            .bind(shard.number())
            .bind(owner_ids)
            .bind(users)
            .bind(added_by)
            .execute(session)
            .await?;
    }
    Ok(())
}
