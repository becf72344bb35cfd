//! Creates, shows, lists, changes and closes rooms.

use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::{Error, ErrorCode},
    event::{Event, EventName, Member, Room as RoomEvent, RoomKind, RoomUpdate},
    id::{RoomId, TeamId, UserId},
    subject::Channel,
    text,
};

use super::{
    access_after,
    idempotent_write::{self, IdempotentWrite},
    log_write::WrittenEvent,
    request_context::RequestContext,
    require_join, require_manage, require_read, teams, topics,
};
use crate::access::{RoomAccess, RoomSnapshot};
use crate::{
    commands::state::CommandState,
    queries::{
        members::Members,
        room_lists,
        rooms::{self, PresentPeople, RoomView},
    },
};

/// A room to create.
pub(crate) struct NewRoom {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) private: bool,
    pub(crate) team: Option<TeamId>,
    pub(crate) users: Vec<UserId>,
}

impl NewRoom {
    fn validate(&self) -> Result<(), Error> {
        text::required_text("name", &self.name, text::NAME_MAX)?;
        let description = self.description.as_deref().unwrap_or("");
        text::optional_text("description", description, text::DESCRIPTION_MAX)?;
        if self.users.len() > text::ROOM_USERS_MAX {
            let detail = format!("users: must name at most {} people.", text::ROOM_USERS_MAX);
            return Err(Error::bad_request(detail));
        }
        if !self.users.is_empty() && (!self.private || self.team.is_some()) {
            return Err(Error::bad_request("users: only a private room can have them."));
        }
        Ok(())
    }
}

/// Creates a room, and adds the members it names. Returns the room, and whether Postgres has all of it.
pub(crate) async fn create(
    api: &CommandState,
    caller: &Caller,
    new_room: NewRoom,
    request: &RequestContext<'_>,
) -> Result<(RoomView, bool), Error> {
    new_room.validate()?;
    if let Some(team) = new_room.team {
        teams::require_manage(api, team, caller).await?;
    }
    let kind = match (new_room.team, new_room.private) {
        (Some(_), _) => RoomKind::Team,
        (None, true) => RoomKind::Private,
        (None, false) => RoomKind::Public,
    };
    let now = Timestamp::now();
    let mut users = new_room.users;
    users.sort();
    users.dedup();
    let created = RoomEvent {
        request_type: (kind == RoomKind::Public).then(|| "chatroom".to_owned()),
        name: new_room.name,
        description: new_room.description,
        private: kind != RoomKind::Public,
        users,
        participants: vec![],
        team: new_room.team,
        user: caller.user.clone(),
        kind,
        active: true,
        created_at: now,
        activity: now,
        unread: 0,
        detail: None,
    };
    let event = if kind == RoomKind::Public { Event::Chatroom(created) } else { Event::RoomMade(created) };
    let mut write = IdempotentWrite::new(api, &caller.user, &Channel::System, EventName::Chatroom, request);
    let WrittenEvent { position, event, .. } = write.append(&Channel::System, event).await?;
    let (Event::Chatroom(created) | Event::RoomMade(created)) = event else {
        return Err(Error::internal(&"the event stored for a new room is of another kind"));
    };
    let room = RoomId(position.seq);
    for user in &created.users {
        let member = Member { user: user.clone(), room, by: caller.user.clone() };
        write.append(&Channel::Room(room), Event::MemberAdd(member)).await?;
    }
    let applied = write.wait_until_applied().await;
    Ok((view_of_new_room(room, created), applied))
}

/// Returns a room as it is right after its creation.
pub(super) fn view_of_new_room(id: RoomId, created: RoomEvent) -> RoomView {
    RoomView {
        id,
        name: created.name,
        description: created.description,
        kind: created.kind,
        creator: created.user,
        team: created.team,
        created_at: created.created_at,
        is_active: true,
        users: Members::from_users(created.users),
        participants: PresentPeople::Named(vec![]),
        activity: created.created_at,
        unread: 0,
    }
}

async fn read_view(api: &CommandState, caller: &Caller, snapshot: &RoomSnapshot) -> Result<RoomView, Error> {
    match rooms::read(&api.pool, api.shards, snapshot.id, &caller.user).await? {
        Some(room) => Ok(room),
        // The log has it, Postgres does not yet.
        None => Ok(RoomView::from(snapshot)),
    }
}

/// Returns a room as the caller sees it.
pub(crate) async fn show(api: &CommandState, caller: &Caller, room: RoomId) -> Result<RoomView, Error> {
    let access = require_read(api, room, caller).await?;
    read_view(api, caller, &access.room).await
}

/// Returns a room that the caller joins, and the access that allows it. The room is without its participants: the
/// fan-out node that the caller joins by knows them. If Postgres does not answer, the room's cached state is
/// returned.
pub(crate) async fn join(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
) -> Result<(RoomView, RoomAccess), Error> {
    let access = require_join(api, room, caller).await?;
    let mut room = RoomView::from(&*access.room);
    match rooms::activity_and_unread(&api.pool, api.shards, access.room.id, &caller.user).await {
        Ok(Some((activity, unread))) => (room.activity, room.unread) = (activity, unread),
        // The log has the room, Postgres does not yet: nobody has written there.
        Ok(None) => {}
        Err(error) => match Error::from(error) {
            error if error.code == ErrorCode::Unavailable => {}
            error => return Err(error),
        },
    }
    Ok((room, access))
}

/// Requires that a room is a topic of a category; answers 404 if not.
pub(crate) async fn require_topic(api: &CommandState, room: RoomId, category: &str) -> Result<(), Error> {
    if rooms::is_topic(&api.pool, room, category).await? { Ok(()) } else { Err(Error::not_found()) }
}

/// A page of the list of rooms.
pub(crate) struct RoomPage {
    pub(crate) rooms: Vec<RoomView>,
    /// The `before` of the next page; `None` on the last one.
    pub(crate) next: Option<RoomId>,
}

/// Lists the rooms that the caller may join, newest first. A page that is not the last may have fewer than `limit`
/// rooms, or none: rooms that the caller may not join are passed over.
pub(crate) async fn list(
    api: &CommandState,
    caller: &Caller,
    before: Option<RoomId>,
    limit: i64,
) -> Result<RoomPage, Error> {
    let found = room_lists::list_visible(&api.pool, api.shards, caller, before, limit).await?;
    let rooms = rooms::read_many(&api.pool, api.shards, &found.ids, &caller.user).await?;
    Ok(RoomPage { rooms, next: found.next })
}

/// The changes of a room; `None` keeps a value.
pub(crate) struct RoomChange {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) private: Option<bool>,
}

/// Changes a room. Returns it, and whether Postgres has the change.
pub(crate) async fn update(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    change: RoomChange,
    request: &RequestContext<'_>,
) -> Result<(RoomView, bool), Error> {
    let RoomChange { name, description, private } = change;
    if let Some(name) = &name {
        text::required_text("name", name, text::NAME_MAX)?;
    }
    text::optional_text("description", description.as_deref().unwrap_or(""), text::DESCRIPTION_MAX)?;
    if name.is_none() && description.is_none() && private.is_none() {
        return Err(Error::bad_request("name, description, private: one of them must be given."));
    }
    let snapshot = require_manage(api, room, caller).await?.room;
    if private.is_some() && !matches!(snapshot.kind, RoomKind::Public | RoomKind::Private) {
        let detail = "Only public and private rooms can become one another.";
        return Err(Error::new(ErrorCode::Conflict, detail));
    }
    if snapshot.kind == RoomKind::Topic {
        topics::require_change_allowed(name.as_deref(), description.as_deref())?;
    }
    let now = access_after(api, room, &[], &[EventName::RoomUpdate]).await?;
    let stands = |now: &RoomSnapshot| {
        name.as_ref().is_none_or(|name| *name == now.name)
            && description.as_deref().is_none_or(|new| new == now.description.as_deref().unwrap_or(""))
            && private.is_none_or(|private| private == (now.kind == RoomKind::Private))
    };
    if now.is_some_and(|now| stands(&now.room)) {
        return Ok((read_view(api, caller, &snapshot).await?, true));
    }
    let update = RoomUpdate { name, description, private, ..RoomUpdate::new(room, caller.user.clone()) };
    let event = Event::RoomUpdate(update);
    let (written, applied) =
        idempotent_write::write_one(api, caller, &Channel::Room(room), event, request).await?;
    let mut room = read_view(api, caller, &snapshot).await?;
    if let (Event::RoomUpdate(update), false) = (written.event, applied) {
        // The change is stored, but Postgres does not show it yet.
        room.name = update.name.unwrap_or(room.name);
        room.description = update.description.or(room.description);
        room.kind = match update.private {
            Some(true) => RoomKind::Private,
            Some(false) => RoomKind::Public,
            None => room.kind,
        };
    }
    Ok((room, applied))
}

/// Closes a room for ever. Returns whether Postgres has it.
pub(crate) async fn close(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    request: &RequestContext<'_>,
) -> Result<bool, Error> {
    let access = require_read(api, room, caller).await?;
    if !access.can_manage(caller) {
        return Err(Error::forbidden());
    }
    close_authorized(api, caller, room, request).await
}

/// Closes a room for a caller whose right was checked before. Returns whether Postgres has it.
pub(super) async fn close_authorized(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    request: &RequestContext<'_>,
) -> Result<bool, Error> {
    if access_after(api, room, &[], &[EventName::RoomUpdate]).await?.is_some_and(|now| now.room.is_closed) {
        return Ok(true);
    }
    let update = RoomUpdate { closed: Some(true), ..RoomUpdate::new(room, caller.user.clone()) };
    Ok(idempotent_write::write_one(api, caller, &Channel::Room(room), Event::RoomUpdate(update), request)
        .await?
        .1)
}
