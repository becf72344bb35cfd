//! Handles match rooms: rooms of two people that the host application makes.
//!
//! What must hold: the log holds each message in the form in which match sockets are pushed it, with people and room, so
//! that a push needs no look-up and a replay equals what was live. Descriptions of the two people may be a few seconds
//! old; which two they are is always current.

use std::{sync::Arc, time::Duration};

use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    event::{MessageDetail, RoomKind},
    id::{RoomId, UserId},
};
use quick_cache::sync::Cache;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::{people, require_open};
use crate::access::{RoomAccess, RoomSnapshot};
use crate::{
    commands::state::ApiState,
    queries::{
        people::{PersonDetails, PersonObject as Person},
        room_lists,
    },
};

/// How long descriptions of the two people are reused.
const PEOPLE_CACHED_FOR: Duration = Duration::from_secs(5);
/// Rooms whose people are cached.
const ROOMS_CACHED_MAX: usize = 10_000;
/// Largest number of rooms in a list.
pub(crate) const ROOMS_LISTED_MAX: i64 = 1_000;

/// What is known of a match room.
pub(crate) struct MatchRoom {
    pub(crate) room: RoomId,
    pub(crate) people: Vec<PersonDetails>,
}

impl MatchRoom {
    /// Whether one of the two has a business plan.
    pub(crate) fn has_business_plan(&self) -> bool {
        self.people.iter().any(|one| one.person.business == Some(true))
    }

    /// The room, as match sockets know it.
    pub(crate) fn to_object(&self) -> MatchRoomView {
        let participants = self.people.iter().map(PersonDetails::to_object).collect();
        MatchRoomView { pk: self.room, participants, has_business: self.has_business_plan(), more: None }
    }
}

/// A match room, as match sockets know it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Match")]
pub(crate) struct MatchRoomView {
    pk: RoomId,
    participants: Vec<Person>,
    has_business: bool,
    /// True on the last room of a list that may go on: its `pk` as `before` reads the next part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) more: Option<bool>,
}

/// Match rooms in which somebody has just written, with their people.
pub(crate) struct RecentMatchRooms(Cache<RoomId, (Instant, Arc<MatchRoom>)>);

impl Default for RecentMatchRooms {
    fn default() -> Self {
        Self(Cache::new(ROOMS_CACHED_MAX))
    }
}

async fn with_people(api: &ApiState, rooms: Vec<(RoomId, Vec<UserId>)>) -> Result<Vec<MatchRoom>, Error> {
    let users: Vec<UserId> = rooms.iter().flat_map(|(_, two)| two.iter().cloned()).collect();
    let known = people::read_people(api, &users).await?;
    let of = |user: &UserId| known.get(user).cloned().unwrap_or_else(|| PersonDetails::unknown(user));
    let matches =
        rooms.into_iter().map(|(room, two)| MatchRoom { room, people: two.iter().map(of).collect() });
    Ok(matches.collect())
}

fn pair_of(facts: &RoomSnapshot) -> Vec<UserId> {
    facts.users.named.clone()
}

/// Open match rooms, newest first: of one person, or, where `of` is `None`, of everyone.
pub(crate) async fn list(
    api: &ApiState,
    of: Option<&UserId>,
    before: Option<RoomId>,
    limit: i64,
) -> Result<Vec<MatchRoom>, Error> {
    with_people(api, room_lists::list_match_rooms(&api.pool, api.shards, of, before, limit).await?).await
}

/// A match room that the caller may enter: as one of the two, or as an admin who asks as one.
pub(crate) async fn require_match_room(
    api: &ApiState,
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

/// The two people of a room, from the cache where it is fresh, or, while Postgres does not answer, however old it is.
async fn cached_match_room(api: &ApiState, facts: &RoomSnapshot) -> Arc<MatchRoom> {
    let known = api.match_rooms.0.get(&facts.id);
    if let Some((since, found)) = &known
        && since.elapsed() < PEOPLE_CACHED_FOR
    {
        return found.clone();
    }
    let unknown = || pair_of(facts).iter().map(PersonDetails::unknown).collect();
    match with_people(api, vec![(facts.id, pair_of(facts))]).await.map(|mut found| found.pop()) {
        Ok(Some(found)) => {
            let found = Arc::new(found);
            api.match_rooms.0.insert(facts.id, (Instant::now(), found.clone()));
            found
        }
        _ => known
            .map_or_else(|| Arc::new(MatchRoom { room: facts.id, people: unknown() }), |(_, found)| found),
    }
}

/// The people and the room with which a message of that sender is stored.
pub(super) async fn message_detail(api: &ApiState, facts: &RoomSnapshot, sender: &UserId) -> MessageDetail {
    let found = cached_match_room(api, facts).await;
    let sender = match found.people.iter().find(|one| one.user == *sender) {
        Some(one) => one.clone(),
        // An admin is none of the two.
        None => people::read_people(api, std::slice::from_ref(sender))
            .await
            .ok()
            .and_then(|mut known| known.remove(sender))
            .unwrap_or_else(|| PersonDetails::unknown(sender)),
    };
    MessageDetail::Match { user: json!(sender.to_object()), room: json!(found.to_object()) }
}

/// Admins write only where one of the two has a business plan.
pub(crate) fn require_admin_may_write(found: &MatchRoom) -> Result<(), Error> {
    if found.has_business_plan() {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Forbidden, "You do not have permission to perform this action."))
}
