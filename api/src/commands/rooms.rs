//! Rooms: make, show, list.

use shared::{
    clock::Timestamp,
    error::Error,
    event::{Event, Member, Room as Made, RoomKind},
    id::{RoomId, UserId},
    log::{Append, MsgId},
    rules::{self, Caller},
    subject::Channel,
};
use tokio::time::Instant;

use super::{facts, key};
use crate::{
    queries::rooms::{self, Cursor, Room},
    state::{APPEND, Shared},
};

/// A room to make.
pub(crate) struct Make {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) private: bool,
    pub(crate) users: Vec<UserId>,
}

/// Makes a room, and lets in the people it names. Answers whether Postgres has all of it.
pub(crate) async fn make(
    api: &Shared,
    caller: &Caller,
    make: Make,
    idempotency_key: Option<&str>,
) -> Result<(Room, bool), Error> {
    rules::required_line("name", &make.name, rules::NAME_MAX)?;
    rules::optional_line("description", make.description.as_deref().unwrap_or(""), rules::DESCRIPTION_MAX)?;
    if make.users.len() > rules::ROOM_USERS_MAX {
        let detail = format!("users: must name at most {} people.", rules::ROOM_USERS_MAX);
        return Err(Error::bad_request(detail));
    }
    if !make.private && !make.users.is_empty() {
        return Err(Error::bad_request("users: only a private room has any."));
    }
    let deadline = Instant::now() + APPEND;
    let now = Timestamp::now();
    let mut users = make.users;
    users.sort();
    users.dedup();
    let kind = if make.private { RoomKind::Private } else { RoomKind::Public };
    let made = Made {
        request_type: (!make.private).then(|| "chatroom".to_owned()),
        name: make.name,
        description: make.description,
        private: make.private,
        users,
        participants: vec![],
        team: None,
        user: caller.user.clone(),
        kind,
        active: true,
        created_at: now,
        activity: now,
        unread: 0,
    };
    let event = if make.private { Event::RoomMade(made.clone()) } else { Event::Chatroom(made.clone()) };
    let id = MsgId::new(&caller.user, &Channel::System, event.name(), &key(idempotency_key));
    let append = Append { channel: &Channel::System, event: &event, key: None, id, headers: vec![] };
    let appended = api.append(append, deadline).await?;
    let room = RoomId(appended.seq);
    let members = add_members(api, caller, room, &made.users, id, deadline).await?;
    let mut applied = api.is_applied(appended.shard, appended.seq).await;
    if let Some(seq) = members {
        applied &= api.is_applied(Channel::Room(room).shard(api.shards), seq).await;
    }
    let room = Room {
        id: room,
        name: made.name,
        description: made.description,
        kind,
        creator: made.user,
        team: None,
        created_at: now,
        users: made.users,
        participants: vec![],
        activity: now,
        unread: 0,
        is_member: false,
    };
    Ok((room, applied))
}

/// The people a new room names become its members, in its own shard, under ids derived from the
/// room's: a repeat completes what was begun. Answers the last one's sequence.
async fn add_members(
    api: &Shared,
    caller: &Caller,
    room: RoomId,
    users: &[UserId],
    id: MsgId,
    deadline: Instant,
) -> Result<Option<u64>, Error> {
    let channel = Channel::Room(room);
    let mut last = None;
    for (n, user) in (0_u64..).zip(users) {
        let event = Event::MemberAdd(Member { user: user.clone(), room, by: caller.user.clone() });
        let append =
            Append { channel: &channel, event: &event, key: None, id: id.derived(n), headers: vec![] };
        last = last.max(Some(api.append(append, deadline).await?.seq));
    }
    Ok(last)
}

/// A room as the caller sees it.
pub(crate) async fn show(api: &Shared, caller: &Caller, room: RoomId) -> Result<Room, Error> {
    let row = rooms::room(&api.pool, api.shards, room, &caller.user).await?;
    match row {
        Some(row) if row.facts().may_enter(caller) => Ok(row),
        Some(_) => Err(Error::not_found()),
        None if facts(api, room, caller).await?.may_enter(caller) => {
            Err(Error::unavailable("The database", &"the room is not applied yet"))
        }
        None => Err(Error::not_found()),
    }
}

/// Rooms that the caller may enter, newest first.
pub(crate) async fn list(
    api: &Shared,
    caller: &Caller,
    after: Option<Cursor>,
    limit: i64,
) -> Result<Vec<Room>, Error> {
    rooms::list(&api.pool, api.shards, caller, after, limit).await
}
