//! Stores and reads descriptions of people: what their tokens and the host application say of them.

use std::collections::HashMap;

use crate::append::MsgId;
use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::{Error, ErrorCode},
    event::{Event, EventName, Person, PersonChange, Profile},
    id::{RoomId, Shard, UserId},
    subject::Channel,
    text,
};
use tokio::time::Instant;

use super::{
    contacts, idempotent_write,
    log_write::{self, WriteRequest, WrittenEvent},
    request_context::RequestContext,
};
use crate::{
    commands::state::CommandState,
    queries::{
        people::{self, PersonDetails},
        presence, room_lists,
    },
};

/// Returns whether `new` changes `old`; an absent claim changes nothing.
fn has_changes(old: &Person, new: &Person) -> bool {
    fn differs<T: PartialEq>(old: &Option<T>, new: &Option<T>) -> bool {
        new.is_some() && old != new
    }
    differs(&old.username, &new.username)
        || differs(&old.email, &new.email)
        || differs(&old.gender, &new.gender)
        || differs(&old.language, &new.language)
        || differs(&old.account, &new.account)
        || differs(&old.main_photo, &new.main_photo)
        || differs(&old.business, &new.business)
}

/// Stores the claims of a person's token if it is newer than the stored description and changes it, and waits until
/// they can be read. An older token never replaces a newer one, so two tokens that alternate are stored once.
pub(crate) async fn store_token_profile(
    api: &CommandState,
    user: &UserId,
    issued_at: Option<i64>,
    person: &Person,
    deadline: Instant,
) -> Result<(), Error> {
    let Some(issued_at) = issued_at.filter(|_| *person != Person::default()) else { return Ok(()) };
    if api.caches.profile_issued_at.get(user).is_some_and(|newest| issued_at <= newest) {
        return Ok(());
    }
    let channel = Channel::User(user.clone());
    let shard = channel.shard(api.shards);
    if let Some((known_at, known)) = read_stored_profile(api, shard, user).await?
        && (known_at.is_some_and(|at| issued_at <= at) || !has_changes(&known, person))
    {
        api.caches.profile_issued_at.insert(user.clone(), known_at.unwrap_or(issued_at).max(issued_at));
        return Ok(());
    }
    let change = person.clone().into();
    let event = Event::Profile(Profile { user: user.clone(), issued_at, change });
    let id = MsgId::new(user, &channel, EventName::Profile, &issued_at.to_string());
    let request = RequestContext::new(None, deadline);
    let write = WriteRequest { channel: &channel, event, id, headers: vec![] };
    let written = match log_write::append(api, &request, write).await {
        Ok(written) => Some(written),
        // Another token of the same second was stored first and stays.
        Err(error) if error.code == ErrorCode::KeyReused => None,
        Err(error) => return Err(error),
    };
    if let Some(written) = &written {
        api.wait_until_position_applied(written.position).await;
    }
    api.caches.profile_issued_at.insert(user.clone(), issued_at);
    if let Some(WrittenEvent { event, is_new: true, .. }) = written {
        contacts::publish_to_contacts(api, user, event).await;
    }
    Ok(())
}

/// Returns the stored description of a person and when it was issued, in seconds since 1970. The time is `None` if it
/// is further ahead than any clock may be: then it does not keep newer descriptions from being stored.
async fn read_stored_profile(
    api: &CommandState,
    shard: Shard,
    user: &UserId,
) -> Result<Option<(Option<i64>, Person)>, Error> {
    let stored = people::read_profile(&api.pool, shard, user).await?;
    Ok(stored.map(|(at, person)| (Some(at).filter(|at| *at <= Profile::issued_at_max()), person)))
}

/// Returns the description of a person; an empty one if none is stored. Only the person and admins get the mail
/// address and the balance.
pub(crate) async fn show(api: &CommandState, caller: &Caller, user: &UserId) -> Result<PersonDetails, Error> {
    let known = read_people(api, std::slice::from_ref(user)).await?.remove(user);
    let mut known = known.unwrap_or_else(|| PersonDetails::unknown(user));
    if caller.user != *user && !caller.is_admin {
        (known.person.email, known.person.account) = (None, None);
    }
    Ok(known)
}

/// Returns these people with all that is known of them.
pub(crate) async fn read_people(
    api: &CommandState,
    users: &[UserId],
) -> Result<HashMap<UserId, PersonDetails>, Error> {
    Ok(people::read_people(&api.pool, api.shards, users).await?)
}

/// Stores the host application's description of a person; a field that it does not name keeps its value. It replaces
/// the claims of tokens issued before now, even by a clock that is ahead; a token issued later replaces it. Returns
/// the person, and whether Postgres has the description.
pub(crate) async fn update_profile(
    api: &CommandState,
    caller: &Caller,
    user: &UserId,
    change: PersonChange,
    request: &RequestContext<'_>,
) -> Result<(PersonDetails, bool), Error> {
    if !caller.is_admin {
        return Err(Error::forbidden());
    }
    text::person(&change)?;
    let channel = Channel::User(user.clone());
    // The clock that issued a stored token may be ahead. If a token that is not applied yet is newer than this
    // description, the description would be ignored.
    if !api.wait_until_events_applied(&channel, &[EventName::Profile]).await? {
        return Err(Error::unavailable("The profile", &"the last description is not applied yet"));
    }
    let known_at = read_stored_profile(api, channel.shard(api.shards), user).await?.and_then(|(at, _)| at);
    let issued_at = (Timestamp::now().unix_ms() / 1_000).max(known_at.unwrap_or(0));
    let profile = Event::Profile(Profile { user: user.clone(), issued_at, change });
    let (written, applied) = idempotent_write::write_one(api, caller, &channel, profile, request).await?;
    if written.is_new {
        contacts::publish_to_contacts(api, user, written.event).await;
    }
    Ok((show(api, caller, user).await?, applied))
}

/// Returns whether a person has a socket open, and which rooms they are in, of those that the caller may join.
pub(crate) async fn presence_of(
    api: &CommandState,
    caller: &Caller,
    user: &UserId,
) -> Result<(bool, Vec<RoomId>), Error> {
    let is_online = presence::is_online(&api.pool, api.shards, user).await?;
    Ok((is_online, room_lists::list_rooms_of_person(&api.pool, api.shards, caller, user).await?))
}
