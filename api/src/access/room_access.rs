//! Reads the state of a room that decides who may do what there, as of one moment.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::Error,
    event::RoomKind,
    id::{RoomId, ShardCount, TeamId, UserId},
    rpc::{AccessGrant, TeamGrant},
    subject::Channel,
};
use sqlx::{AssertSqlSafe, FromRow, types::time::OffsetDateTime};
use tokio::time::Instant;

use super::matrix::RoomRights;
use crate::database::{QueryError, ReadPool};
use crate::queries::rooms::{PresentPeople, RoomView};
use crate::queries::{
    members::{self, Members},
    parse_kind, parse_user, parse_users, to_i64, to_u64,
};

/// Maximum members read with a room. In a larger room the people asked about are looked up.
pub(crate) const KNOWN_MEMBERS_MAX: usize = 1_000;

/// The state of a room that access depends on, and up to which events it holds.
#[derive(Clone, Debug)]
pub(crate) struct RoomSnapshot {
    pub(crate) id: RoomId,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) kind: RoomKind,
    pub(crate) creator: UserId,
    pub(crate) created_at: Timestamp,
    /// The person who manages the room: its creator, or the creator of its team.
    pub(crate) manager: UserId,
    pub(crate) is_closed: bool,
    pub(crate) team: Option<TeamId>,
    /// The organisation that a support room belongs to.
    pub(crate) org_id: Option<String>,
    /// The first [`KNOWN_MEMBERS_MAX`] members of the room or of its team, or its two people; and how many there are.
    pub(crate) users: Members,
    /// Whether Postgres has the room; if not, this is the state at its creation, read from the log.
    pub(crate) is_applied: bool,
    /// The last event that a client which resumes the room would get.
    pub(crate) last_event: u64,
    /// The last event of the room's shard that this contains.
    pub(crate) as_of: u64,
    /// The last event of the team's shard that this contains.
    pub(crate) team_as_of: u64,
    /// When Postgres was asked: this contains all that Postgres had then.
    pub(crate) queried_at: Instant,
}

impl RoomSnapshot {
    /// Returns whether `users` names every member.
    pub(crate) fn names_all_members(&self) -> bool {
        self.users.named.len() < KNOWN_MEMBERS_MAX
    }

    /// Returns the channel whose events add and remove members.
    pub(crate) fn members_channel(&self) -> Channel {
        self.team.map_or(Channel::Room(self.id), Channel::Team)
    }

    /// Returns the last event of that channel's shard that this contains.
    pub(crate) fn members_as_of(&self) -> u64 {
        if self.team.is_some() { self.team_as_of } else { self.as_of }
    }
}

/// A room, and which of the people asked about are its members. Other people count as non-members, unless `room`
/// names them.
#[derive(Clone, Debug)]
pub(crate) struct RoomAccess {
    pub(crate) room: Arc<RoomSnapshot>,
    members: HashSet<UserId>,
    /// The last event that all of `members` contain, of the shard of [`RoomSnapshot::members_channel`].
    members_as_of: u64,
    /// When Postgres was asked for the oldest part of this.
    pub(crate) queried_at: Instant,
}

impl RoomAccess {
    /// Makes access without members besides those that `room` names.
    pub(crate) fn new(room: Arc<RoomSnapshot>) -> Self {
        let (members_as_of, asked_at) = (room.members_as_of(), room.queried_at);
        Self { room, members: HashSet::new(), members_as_of, queried_at: asked_at }
    }

    /// Adds people who are members as of an event, read at `asked_at`.
    pub(crate) fn with_members(
        mut self,
        members: impl IntoIterator<Item = UserId>,
        as_of: u64,
        asked_at: Instant,
    ) -> Self {
        self.members.extend(members);
        self.members_as_of = self.members_as_of.min(as_of);
        self.queried_at = self.queried_at.min(asked_at);
        self
    }

    /// Returns the access restricted to these people. A room that Postgres lacks keeps all its members.
    pub(crate) fn for_people(&self, people: &[&UserId]) -> Self {
        if !self.room.is_applied {
            return self.clone();
        }
        let members = people.iter().filter(|user| self.members.contains(**user));
        Self { members: members.map(|user| (*user).clone()).collect(), room: self.room.clone(), ..*self }
    }

    /// Returns whether a person, one of those asked about, is a member.
    pub(crate) fn has_member(&self, user: &UserId) -> bool {
        self.room.users.named.binary_search(user).is_ok() || self.members.contains(user)
    }

    /// Returns the members that are known besides those of the snapshot: of a room that Postgres lacks, all.
    pub(crate) fn known_members(&self) -> impl Iterator<Item = &UserId> {
        self.members.iter()
    }

    /// Returns what the matrix of rights needs to know about a caller.
    fn rights(&self, caller: &Caller) -> RoomRights {
        let RoomSnapshot { kind, manager, org_id, .. } = &*self.room;
        let is_member = self.has_member(&caller.user);
        RoomRights { kind: *kind, manager: manager.clone(), is_member, org_id: org_id.clone() }
    }

    pub(crate) fn can_join(&self, caller: &Caller) -> bool {
        self.rights(caller).can_join(caller)
    }

    pub(crate) fn can_manage(&self, caller: &Caller) -> bool {
        self.rights(caller).can_manage(caller)
    }

    /// Returns the grant by which sockets follow the room.
    pub(crate) fn grant(&self) -> AccessGrant {
        let RoomSnapshot { kind, team, as_of, last_event, .. } = &*self.room;
        AccessGrant {
            public: kind.is_open(),
            pair: kind.is_pair(),
            as_of: if team.is_some() { *as_of } else { self.members_as_of.min(*as_of) },
            team: team.map(|team| TeamGrant { team, as_of: self.members_as_of }),
            last_event: *last_event,
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
    users: Vec<String>,
    users_count: i64,
    members: Vec<String>,
    last_event: i64,
    as_of: i64,
    team_as_of: i64,
}

/// SQL for the snapshot of a room. Rows and watermarks come from one statement, so they belong to one snapshot. `$1`
/// = the room, `$2` = its shard, `$3` = the shard of its team, if known, `$4` = the people asked about.
fn snapshot_sql() -> String {
    let of_room = members::first_members_sql(KNOWN_MEMBERS_MAX, "room", "$2", "$1");
    let of_team = members::first_members_sql(KNOWN_MEMBERS_MAX, "team", "$3", "r.team");
    let (room_size, team_size) =
        (members::member_count_sql("room", "$2", "$1"), members::member_count_sql("team", "$3", "r.team"));
    let (in_room, in_team) = (
        members::members_among_sql("room", "$2", "$1", "$4"),
        members::members_among_sql("team", "$3", "r.team", "$4"),
    );
    format!(
        "SELECT coalesce(s.name, r.name) AS name, coalesce(s.description, r.description) AS description,
       r.creator, r.created_at,
       CASE WHEN r.kind NOT IN ('public', 'private') THEN r.kind
            WHEN coalesce(s.private, r.private) THEN 'private' ELSE 'public' END AS kind,
       coalesce(t.creator, r.creator) AS manager,
       s.closed_at IS NOT NULL AS closed,
       r.team, r.detail -> 'support' ->> 'org_id' AS org_id,
       CASE WHEN r.kind = 'team' THEN {of_team} ELSE coalesce(r.pair, {of_room}) END AS users,
       CASE WHEN r.kind = 'team' THEN {team_size} ELSE coalesce(cardinality(r.pair), {room_size}) END AS users_count,
       CASE WHEN r.kind = 'team' THEN {in_team} WHEN r.pair IS NULL THEN {in_room} ELSE '{{}}' END AS members,
       greatest((SELECT max(id) FROM message WHERE shard = $2 AND room = $1),
                (SELECT max(changed) FROM message WHERE shard = $2 AND room = $1 AND changed IS NOT NULL),
                s.changed, 0) AS last_event,
       (SELECT seq FROM watermark WHERE shard = $2) AS as_of,
       coalesce((SELECT seq FROM watermark WHERE shard = $3), 0) AS team_as_of
FROM room r
LEFT JOIN LATERAL (SELECT s.* FROM room_state s WHERE s.shard = $2 AND s.room = r.id LIMIT 1) s ON true
LEFT JOIN LATERAL (SELECT t.creator FROM team t WHERE t.shard = -1 AND t.id = r.team LIMIT 1) t ON true
WHERE r.shard = -1 AND r.id = $1"
    )
}

/// Reads the snapshot of a room, and which of these people are its members; `None` if Postgres has no room of that
/// id.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn read_room(
    pool: &ReadPool,
    shards: ShardCount,
    room: RoomId,
    people: &[&UserId],
    asked_at: Instant,
) -> Result<Option<RoomAccess>, Error> {
    static SQL: LazyLock<String> = LazyLock::new(snapshot_sql);
    let shard = Channel::Room(room).shard(shards);
    let people: Vec<&str> = people.iter().map(|user| user.as_str()).collect();
    let mut team_shard = None;
    loop {
        // The SQL is put together from constants only.
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(SQL.as_str()))
            .bind(to_i64(room.0))
            .bind(shard.number())
            .bind(team_shard)
            .bind(&people)
            .fetch_optional(pool)
            .await
            .map_err(QueryError::from)?;
        let Some(row) = row else { return Ok(None) };
        let team = row.team.map(to_u64).transpose()?.map(TeamId);
        if let (Some(team), None) = (team, team_shard) {
            // A room's team never changes: once its shard is known, everything is read again in one statement.
            team_shard = Some(Channel::Team(team).shard(shards).number());
            continue;
        }
        let mut named = parse_users(&row.users)?;
        named.sort();
        let snapshot = RoomSnapshot {
            id: room,
            name: row.name,
            description: row.description,
            creator: parse_user(&row.creator)?,
            created_at: row.created_at.into(),
            kind: parse_kind(&row.kind)?,
            manager: parse_user(&row.manager)?,
            is_closed: row.closed,
            team,
            org_id: row.org_id,
            users: Members { named, count: to_u64(row.users_count)? },
            is_applied: true,
            last_event: to_u64(row.last_event)?,
            as_of: to_u64(row.as_of)?,
            team_as_of: to_u64(row.team_as_of)?,
            queried_at: asked_at,
        };
        let as_of = snapshot.members_as_of();
        return Ok(Some(RoomAccess::new(Arc::new(snapshot)).with_members(
            parse_users(&row.members)?,
            as_of,
            asked_at,
        )));
    }
}

impl From<&RoomSnapshot> for RoomView {
    /// Makes a view without participants, activity and unread messages, which the snapshot does not have.
    fn from(snapshot: &RoomSnapshot) -> Self {
        let users = if snapshot.kind.is_open() { Members::default() } else { snapshot.users.truncated() };
        Self {
            id: snapshot.id,
            name: snapshot.name.clone(),
            description: snapshot.description.clone(),
            kind: snapshot.kind,
            creator: snapshot.creator.clone(),
            team: snapshot.team,
            created_at: snapshot.created_at,
            is_active: !snapshot.is_closed,
            users,
            participants: PresentPeople::Unknown,
            activity: snapshot.created_at,
            unread: 0,
        }
    }
}
