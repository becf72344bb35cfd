//! What a dialect may ask for. Here, and only here, is decided who may do what.

pub(crate) mod messages;
pub(crate) mod people;
pub(crate) mod presence;
pub(crate) mod rooms;

use shared::{
    error::Error,
    event::{Event, EventName},
    id::{RoomId, Shard},
    log::{self, Stored},
    rules::{Caller, RoomFacts},
    subject,
};

use crate::{queries, state::Shared};

/// Names a request for retries: the client's own key, or a fresh one.
pub(crate) fn key(given: Option<&str>) -> String {
    given.map_or_else(
        || {
            let fresh: u128 = rand::random();
            // No key of a client begins so: theirs are visible ASCII.
            format!("\u{1}{fresh:032x}")
        },
        str::to_owned,
    )
}

/// An event of that sequence, if it is one of these.
async fn stored(
    api: &Shared,
    shard: Shard,
    seq: u64,
    names: &[EventName],
) -> Result<Option<(Stored, Event)>, Error> {
    let stored = log::get(&api.jetstream, shard, seq).await.map_err(|e| Error::unavailable("The log", &e))?;
    let Some(stored) = stored else { return Ok(None) };
    let name = subject::parse(&stored.subject).ok().and_then(|parsed| EventName::parse(parsed.event));
    let Some(name) = name.filter(|name| names.contains(name)) else { return Ok(None) };
    match Event::decode(name, &stored.payload) {
        Ok(event) => Ok(Some((stored, event))),
        Err(_) => Ok(None),
    }
}

/// What the rules need to know of a room. A room that is not in Postgres yet is in the log; one
/// that has left the log since is in Postgres by now.
pub(crate) async fn facts(api: &Shared, room: RoomId, caller: &Caller) -> Result<RoomFacts, Error> {
    let ask = || queries::rooms::facts(&api.pool, api.shards, room, &caller.user);
    if let Some(facts) = ask().await? {
        return Ok(facts);
    }
    let made = stored(api, Shard::SYSTEM, room.0, &[EventName::Chatroom, EventName::RoomMade]).await?;
    if let Some((_, Event::Chatroom(made) | Event::RoomMade(made))) = made {
        let is_member = made.users.contains(&caller.user);
        return Ok(RoomFacts { kind: made.kind, manager: made.user, is_member });
    }
    ask().await?.ok_or_else(Error::not_found)
}

/// Whether the caller may see, join, read and write there. To a stranger it does not exist.
pub(crate) async fn enter(api: &Shared, room: RoomId, caller: &Caller) -> Result<(), Error> {
    if facts(api, room, caller).await?.may_enter(caller) { Ok(()) } else { Err(Error::not_found()) }
}
