//! Handles direct rooms: one room for each pair of people who talk.
//!
//! Each write waits up to one second for Postgres. If Postgres lacks it by then, the answer still contains what was
//! written, where the answer shows it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::access::RoomSnapshot;
use crate::append::LogPosition;
use protocol::{
    caller::Caller,
    error::Error,
    event::{Camera, ChatMessage, Event, EventName, RoomKind, RoomSelect, RoomUpdate},
    id::{RoomId, UserId},
    subject::Channel,
};

use super::{
    contacts, idempotent_write,
    log_write::{self, WriteRequest, WrittenEvent},
    messages::{self, SenderAccess},
    pair_rooms::{self, PairRequest},
    people, read_marks,
    request_context::RequestContext,
};
use crate::{
    commands::state::CommandState,
    page::Page,
    queries::{
        direct::{self, DirectMessage, DirectRoom, RoomCursor, RoomSelection},
        messages::HistoryPage,
        people::PersonDetails,
    },
};

/// Maximum rooms on a page: the current one, then those with the latest messages.
const ROOMS_LISTED_MAX: i64 = 100;

/// A page of a person's rooms, and the people in them.
pub(crate) struct DirectRoomPage {
    pub(crate) rooms: Vec<DirectRoom>,
    /// The other person of each of these rooms, and the reader.
    pub(crate) people: HashMap<UserId, PersonDetails>,
    /// Whether there may be more rooms than these.
    pub(crate) has_more: bool,
}

/// A room as its reader sees it.
pub(crate) struct DirectRoomView {
    pub(crate) room: DirectRoom,
    pub(crate) reader: PersonDetails,
}

/// Returns the room of two people, created if they have none, and selects it as the caller's current room.
pub(crate) async fn get_or_create_room(
    api: &CommandState,
    caller: &Caller,
    owner: UserId,
    abonent: UserId,
    request: &RequestContext<'_>,
) -> Result<DirectRoomView, Error> {
    if caller.user != owner && !caller.is_admin {
        return Err(Error::forbidden());
    }
    if owner == abonent {
        return Err(Error::bad_request("abonent: must be another person than the owner."));
    }
    let mut two = [owner.clone(), abonent];
    two.sort();
    let name = format!("{}, {}", two[0], two[1]);
    let pair = PairRequest { kind: RoomKind::Direct, name, creator: owner, two };
    let pair_room = pair_rooms::get_or_create(api, caller, pair, request).await?;
    let selected = append_selection(api, caller, pair_room.room, request).await?;
    if pair_room.is_applied {
        api.wait_until_position_applied(selected).await;
    }
    let snapshot = require_direct_room(api, caller, pair_room.room).await?;
    let room = room_or_new(api, caller, &snapshot, Some(pair_room.room)).await?;
    view_for_caller(api, caller, room).await
}

/// Lists a person's open rooms: the first page, or the page after a cursor.
pub(crate) async fn list(
    api: &CommandState,
    caller: &Caller,
    after: Option<RoomCursor>,
) -> Result<DirectRoomPage, Error> {
    list_rooms(api, caller, None, after).await
}

/// Selects a room as the caller's current room, and marks all its messages as read.
pub(crate) async fn select_room(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    request: &RequestContext<'_>,
) -> Result<DirectRoomPage, Error> {
    require_direct_room(api, caller, room).await?;
    let last = messages::history(api, caller, room, HistoryPage::Newest, 1).await?.entries.pop();
    let selected = append_selection(api, caller, room, request).await?;
    let read = async {
        let Some(last) = last else { return Ok(()) };
        if read_marks::has_read_up_to(api, room, &caller.user, last.id).await? {
            return Ok(());
        }
        let marked = read_marks::append_mark(api, room, &caller.user, last.id, request).await?;
        api.wait_until_position_applied(marked).await;
        Ok::<_, Error>(())
    };
    let (_, read) = tokio::join!(api.wait_until_position_applied(selected), read);
    read?;
    list_rooms(api, caller, Some(room), None).await
}

/// Sends a message. Returns the room with it.
pub(crate) async fn send(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    text: &str,
    request: &RequestContext<'_>,
) -> Result<DirectRoomView, Error> {
    let snapshot = require_direct_room(api, caller, room).await?;
    let send = messages::NewMessage {
        room,
        text,
        client_id: request.idempotency_key,
        request,
        access: SenderAccess::Unchecked,
        detail: None,
    };
    let sent = messages::send(api, caller, send).await?;
    let is_applied = api.wait_until_applied(Channel::Room(room).shard(api.shards), sent.id.0).await;
    let mut found = room_or_new(api, caller, &snapshot, None).await?;
    if !is_applied {
        let ChatMessage { user: author, message: body, created_at, .. } = sent.message;
        found.activity = created_at;
        found.messages.insert(sent.id, DirectMessage { author, body, created_at, is_read: false });
        if found.messages.len() > direct::MESSAGES_SHOWN_MAX {
            found.messages.pop_first();
        }
    }
    view_for_caller(api, caller, found).await
}

/// Stops the talk of the two people: the room is inactive until both have written again.
pub(crate) async fn stop_talk(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    request: &RequestContext<'_>,
) -> Result<(), Error> {
    require_direct_room(api, caller, room).await?;
    let events = [EventName::RoomUpdate, EventName::ChatMessage];
    if api.wait_until_events_applied(&Channel::Room(room), &events).await?
        && direct::is_stopped(&api.pool, api.shards, room).await.unwrap_or(false)
    {
        return Ok(());
    }
    let update = RoomUpdate { stopped: Some(true), ..RoomUpdate::new(room, caller.user.clone()) };
    idempotent_write::write_one(api, caller, &Channel::Room(room), Event::RoomUpdate(update), request)
        .await?;
    Ok(())
}

/// Stores whether the caller's camera is on, and publishes it to their contacts.
pub(crate) async fn set_camera(
    api: &CommandState,
    caller: &Caller,
    is_camera: bool,
    request: &RequestContext<'_>,
) -> Result<(), Error> {
    let channel = Channel::User(caller.user.clone());
    if api.wait_until_events_applied(&channel, &[EventName::Camera]).await?
        && people::read_people(api, std::slice::from_ref(&caller.user))
            .await
            .is_ok_and(|known| known.get(&caller.user).is_some_and(|one| one.is_camera == is_camera))
    {
        return Ok(());
    }
    let event = Event::Camera(Camera { user: caller.user.clone(), is_camera });
    let written = append_own_event(api, caller, event, request).await?;
    api.wait_until_position_applied(written.position).await;
    if written.is_new {
        contacts::publish_to_contacts(api, &caller.user, written.event).await;
    }
    Ok(())
}

/// Requires a direct room that the caller may join; answers 404 for any other.
async fn require_direct_room(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
) -> Result<Arc<RoomSnapshot>, Error> {
    let snapshot = super::require_join(api, room, caller).await?.room;
    if snapshot.kind == RoomKind::Direct { Ok(snapshot) } else { Err(Error::not_found()) }
}

/// Stores that a room is the caller's current room.
async fn append_selection(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    request: &RequestContext<'_>,
) -> Result<LogPosition, Error> {
    let event = Event::RoomSelect(RoomSelect { user: caller.user.clone(), current: room });
    Ok(append_own_event(api, caller, event, request).await?.position)
}

/// Appends an event to the caller's own channel.
async fn append_own_event(
    api: &CommandState,
    caller: &Caller,
    event: Event,
    request: &RequestContext<'_>,
) -> Result<WrittenEvent, Error> {
    let channel = Channel::User(caller.user.clone());
    log_write::append(api, request, WriteRequest::new(&caller.user, &channel, event, request)).await
}

/// Returns a room as Postgres has it; if Postgres lacks it, as it was created.
async fn room_or_new(
    api: &CommandState,
    caller: &Caller,
    snapshot: &RoomSnapshot,
    current: Option<RoomId>,
) -> Result<DirectRoom, Error> {
    let which = RoomSelection::One(snapshot.id);
    let found = direct::list_rooms(&api.pool, api.shards, &caller.user, which, current).await?.pop();
    Ok(found.unwrap_or_else(|| DirectRoom {
        id: snapshot.id,
        pair: snapshot.users.named.clone(),
        creator: snapshot.creator.clone(),
        activity: snapshot.created_at,
        is_active: false,
        is_current: current == Some(snapshot.id),
        messages: BTreeMap::new(),
    }))
}

async fn view_for_caller(
    api: &CommandState,
    caller: &Caller,
    room: DirectRoom,
) -> Result<DirectRoomView, Error> {
    let mut known = people::read_people(api, std::slice::from_ref(&caller.user)).await?;
    let reader = known.remove(&caller.user).unwrap_or_else(|| PersonDetails::unknown(&caller.user));
    Ok(DirectRoomView { room, reader })
}

async fn list_rooms(
    api: &CommandState,
    caller: &Caller,
    current: Option<RoomId>,
    after: Option<RoomCursor>,
) -> Result<DirectRoomPage, Error> {
    let Page { entries: rooms, has_more } = Page::read(ROOMS_LISTED_MAX, async |limit| {
        let which = RoomSelection::Mine { limit, after };
        direct::list_rooms(&api.pool, api.shards, &caller.user, which, current).await
    })
    .await?;
    let mut users: Vec<UserId> = rooms.iter().map(|room| room.other_person(&caller.user).clone()).collect();
    users.push(caller.user.clone());
    Ok(DirectRoomPage { rooms, people: people::read_people(api, &users).await?, has_more })
}
