//! What decides who may do what in a room, read as of one moment.

use std::collections::HashSet;

use shared::{
    clock::Timestamp,
    error::Error,
    event::RoomKind,
    id::{RoomId, ShardCount, TeamId, UserId},
    rpc::{Grant, TeamGrant},
    rules::{Caller, RoomFacts},
    subject::Channel,
};
use sqlx::{FromRow, types::time::OffsetDateTime};
use tokio::time::Instant;

use super::{kind, number, unsigned, user, users};
use crate::{database::Database, state::database};

/// A room, as far as rights depend on it, and up to which events that is true.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) room: RoomId,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) kind: RoomKind,
    pub(crate) creator: UserId,
    pub(crate) created_at: Timestamp,
    /// Who made it; of a team's room: who made the team.
    pub(crate) manager: UserId,
    pub(crate) closed: bool,
    pub(crate) team: Option<TeamId>,
    /// The organisation that a support room belongs to.
    pub(crate) org_id: Option<String>,
    /// Of the room, of its team, or its two.
    pub(crate) members: HashSet<UserId>,
    /// The last event that a resume of the room would repeat.
    pub(crate) last_event: u64,
    /// The last event of the room's shard that is counted in.
    pub(crate) as_of: u64,
    /// The last event of the team's shard that is counted in.
    pub(crate) team_as_of: u64,
    /// When the question was asked: what was answered before that is counted in.
    pub(crate) asked_at: Instant,
}

impl Facts {
    /// The same for one caller.
    pub(crate) fn of(&self, caller: &Caller) -> RoomFacts {
        let is_member = self.members.contains(&caller.user);
        let org_id = self.org_id.clone();
        RoomFacts { kind: self.kind, manager: self.manager.clone(), is_member, org_id }
    }

    pub(crate) fn may_enter(&self, caller: &Caller) -> bool {
        self.of(caller).may_enter(caller)
    }

    pub(crate) fn may_manage(&self, caller: &Caller) -> bool {
        self.of(caller).may_manage(caller)
    }

    /// By what right sockets follow the room.
    pub(crate) fn grant(&self) -> Grant {
        Grant {
            public: self.kind.is_open(),
            pair: self.kind.is_pair(),
            as_of: self.as_of,
            team: self.team.map(|team| TeamGrant { team, as_of: self.team_as_of }),
            last_event: self.last_event,
        }
    }
}

#[derive(FromRow)]
struct Row {
    name: String,
    description: Option<String>,
    kind: String,
    creator: String,
    created_at: OffsetDateTime,
    manager: String,
    closed: bool,
    team: Option<i64>,
    org_id: Option<String>,
    members: Vec<String>,
    last_event: i64,
    as_of: i64,
    team_as_of: i64,
}

/// One statement sees one snapshot: rows and watermarks belong together. `$1` = the room, `$2` = its
/// shard, `$3` = the shard of its team, where that is known. Members are asked for in an order that one index has.
const SQL: &str = "
SELECT coalesce(s.name, r.name) AS name, coalesce(s.description, r.description) AS description,
       r.creator, r.created_at,
       CASE WHEN r.kind NOT IN ('public', 'private') THEN r.kind
            WHEN coalesce(s.private, r.private) THEN 'private' ELSE 'public' END AS kind,
       coalesce(t.creator, r.creator) AS manager,
       s.closed_at IS NOT NULL AS closed,
       r.team, r.detail -> 'support' ->> 'org_id' AS org_id,
       CASE r.kind
            WHEN 'team' THEN ARRAY(SELECT user_id FROM team_member WHERE shard = $3 AND team = r.team
                               ORDER BY user_id COLLATE \"C\")
            WHEN 'match' THEN coalesce(r.pair, '{}')
            WHEN 'direct' THEN coalesce(r.pair, '{}')
            ELSE ARRAY(SELECT user_id FROM room_member WHERE shard = $2 AND room = $1
                       ORDER BY user_id COLLATE \"C\") END AS members,
       greatest((SELECT max(id) FROM message WHERE shard = $2 AND room = $1),
                (SELECT max(changed) FROM message WHERE shard = $2 AND room = $1 AND changed IS NOT NULL),
                s.changed, 0) AS last_event,
       (SELECT seq FROM watermark WHERE shard = $2) AS as_of,
       coalesce((SELECT seq FROM watermark WHERE shard = $3), 0) AS team_as_of
FROM room r
LEFT JOIN room_state s ON s.shard = $2 AND s.room = r.id
LEFT JOIN team t ON t.shard = -1 AND t.id = r.team
WHERE r.shard = -1 AND r.id = $1";

/// The facts of a room; `None` where Postgres has none of that id.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn facts(
    pool: &Database,
    shards: ShardCount,
    room: RoomId,
    asked_at: Instant,
) -> Result<Option<Facts>, Error> {
    let shard = Channel::Room(room).shard(shards);
    let mut team_shard = None;
    loop {
        let row: Option<Row> = sqlx::query_as(SQL)
            .bind(number(room.0))
            .bind(shard.number())
            .bind(team_shard)
            .fetch_optional(pool)
            .await
            .map_err(|error| database(&error))?;
        let Some(row) = row else { return Ok(None) };
        let team = row.team.map(unsigned).transpose()?.map(TeamId);
        if let (Some(team), None) = (team, team_shard) {
            // A room's team never changes: once its shard is known, all is read again together.
            team_shard = Some(Channel::Team(team).shard(shards).number());
            continue;
        }
        return Ok(Some(Facts {
            room,
            name: row.name,
            description: row.description,
            creator: user(&row.creator)?,
            created_at: row.created_at.into(),
            kind: kind(&row.kind)?,
            manager: user(&row.manager)?,
            closed: row.closed,
            team,
            org_id: row.org_id,
            members: users(&row.members)?.into_iter().collect(),
            last_event: unsigned(row.last_event)?,
            as_of: unsigned(row.as_of)?,
            team_as_of: unsigned(row.team_as_of)?,
            asked_at,
        }));
    }
}
