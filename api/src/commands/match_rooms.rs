//! Handles match rooms: rooms of two people that the host application creates.
//!
//! What must hold: the log holds each message in the form that match sockets are sent, with its people and room, so
//! that a push needs no look-up and a replay equals the live push. The descriptions of the two people may be a few
//! seconds old; the ids of the two are always current.

use std::{sync::Arc, time::Duration};

use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    event::{MessageDetail, RoomKind},
    id::{RoomId, UserId},
};
use quick_cache::sync::Cache;
use serde_json::json;
use tokio::time::Instant;

use super::{
    match_detail::{MatchRoomView, PersonView},
    people, require_open,
};
use crate::access::{RoomAccess, RoomSnapshot};
use crate::{
    commands::state::CommandState,
    page::Page,
    queries::{people::PersonDetails, room_lists},
};

/// How long the descriptions of the two people are cached.
const PEOPLE_CACHED_FOR: Duration = Duration::from_secs(5);
/// Maximum rooms whose people are cached.
const ROOMS_CACHED_MAX: usize = 10_000;
/// Maximum rooms in a list.
pub(crate) const ROOMS_LISTED_MAX: i64 = 1_000;

/// A match room and its two people.
pub(crate) struct MatchRoom {
    pub(crate) room: RoomId,
    pub(crate) people: Vec<PersonDetails>,
}

impl MatchRoom {
    /// Returns whether one of the two has a business plan.
    pub(crate) fn has_business_plan(&self) -> bool {
        self.people.iter().any(|one| one.person.business == Some(true))
    }
}

/// Caches the people of recently used match rooms, with the time at which they were read.
pub(crate) struct RecentMatchRooms(Cache<RoomId, (Instant, Arc<MatchRoom>)>);

impl Default for RecentMatchRooms {
    fn default() -> Self {
        Self(Cache::new(ROOMS_CACHED_MAX))
    }
}

async fn with_people(api: &CommandState, rooms: Vec<(RoomId, Vec<UserId>)>) -> Result<Vec<MatchRoom>, Error> {
    let users: Vec<UserId> = rooms.iter().flat_map(|(_, two)| two.iter().cloned()).collect();
    let known = people::read_people(api, &users).await?;
    let of = |user: &UserId| known.get(user).cloned().unwrap_or_else(|| PersonDetails::unknown(user));
    let matches =
        rooms.into_iter().map(|(room, two)| MatchRoom { room, people: two.iter().map(of).collect() });
    Ok(matches.collect())
}

fn pair_of(snapshot: &RoomSnapshot) -> Vec<UserId> {
    snapshot.users.named.clone()
}

/// Lists open match rooms, newest first: those of one person, or, if `of` is `None`, all.
pub(crate) async fn list(
    api: &CommandState,
    of: Option<&UserId>,
    before: Option<RoomId>,
    limit: i64,
) -> Result<Page<MatchRoom>, Error> {
    let Page { entries, has_more } = Page::read(limit, async |limit| {
        room_lists::list_match_rooms(&api.pool, api.shards, of, before, limit).await
    })
    .await?;
    Ok(Page { entries: with_people(api, entries).await?, has_more })
}

/// Requires an open match room that the caller may join: as one of the two, or, with `as_admin`, as an admin.
pub(crate) async fn require_match_room(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    as_admin: bool,
) -> Result<(MatchRoom, RoomAccess), Error> {
    let may = |access: &RoomAccess| as_admin || access.has_member(&caller.user);
    let may_enter = |access: &RoomAccess| !access.room.is_closed && may(access);
    let access = api.access.room_access(room, &[&caller.user], may_enter).await?;
    if access.room.kind != RoomKind::Match {
        return Err(Error::not_found());
    }
    if !may(&access) {
        return Err(Error::forbidden());
    }
    require_open(&access.room)?;
    let found = cached_match_room(api, &access.room).await;
    Ok((MatchRoom { room, people: found.people.clone() }, access))
}

/// Returns the two people of a room from the cache if the entry is fresh. While Postgres does not answer, returns an
/// older entry, or the two ids alone.
async fn cached_match_room(api: &CommandState, snapshot: &RoomSnapshot) -> Arc<MatchRoom> {
    let known = api.caches.match_rooms.0.get(&snapshot.id);
    if let Some((since, found)) = &known
        && since.elapsed() < PEOPLE_CACHED_FOR
    {
        return found.clone();
    }
    let unknown = || pair_of(snapshot).iter().map(PersonDetails::unknown).collect();
    match with_people(api, vec![(snapshot.id, pair_of(snapshot))]).await.map(|mut found| found.pop()) {
        Ok(Some(found)) => {
            let found = Arc::new(found);
            api.caches.match_rooms.0.insert(snapshot.id, (Instant::now(), found.clone()));
            found
        }
        _ => known
            .map_or_else(|| Arc::new(MatchRoom { room: snapshot.id, people: unknown() }), |(_, found)| found),
    }
}

/// Returns the sender and the room in the form in which a message of that sender is stored.
pub(super) async fn message_detail(
    api: &CommandState,
    snapshot: &RoomSnapshot,
    sender: &UserId,
) -> MessageDetail {
    let found = cached_match_room(api, snapshot).await;
    let sender = match found.people.iter().find(|one| one.user == *sender) {
        Some(one) => one.clone(),
        // The sender is an admin.
        None => people::read_people(api, std::slice::from_ref(sender))
            .await
            .ok()
            .and_then(|mut known| known.remove(sender))
            .unwrap_or_else(|| PersonDetails::unknown(sender)),
    };
    MessageDetail::Match { user: json!(PersonView::from(&sender)), room: json!(MatchRoomView::from(&*found)) }
}

/// Requires that one of the two has a business plan: else admins may not write in the room.
pub(crate) fn require_admin_may_write(found: &MatchRoom) -> Result<(), Error> {
    if found.has_business_plan() {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Forbidden, "You do not have permission to perform this action."))
}
