//! Stores what tokens and the host application say of people, and reads it.

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
    commands::state::ApiState,
    queries::{
        people::{self, PersonDetails},
        presence, room_lists,
    },
};

/// What `new` changes of `old`: an absent claim changes nothing.
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

/// Stores what a token says of its person, where it is newer than what is stored, and waits until
/// it can be read. Two tokens of one person that alternate change nothing after the newer one.
pub(crate) async fn store_token_profile(
    api: &ApiState,
    user: &UserId,
    issued_at: Option<i64>,
    person: &Person,
    deadline: Instant,
) -> Result<(), Error> {
    let Some(issued_at) = issued_at.filter(|_| *person != Person::default()) else { return Ok(()) };
    if api.profile_issued_at.get(user).is_some_and(|newest| issued_at <= newest) {
        return Ok(());
    }
    let channel = Channel::User(user.clone());
    let shard = channel.shard(api.shards);
    if let Some((known_at, known)) = read_stored_profile(api, shard, user).await?
        && (known_at.is_some_and(|at| issued_at <= at) || !has_changes(&known, person))
    {
        api.profile_issued_at.insert(user.clone(), known_at.unwrap_or(issued_at).max(issued_at));
        return Ok(());
    }
    let change = person.clone().into();
    let event = Event::Profile(Profile { user: user.clone(), issued_at, change });
    let id = MsgId::new(user, &channel, EventName::Profile, &issued_at.to_string());
    let request = RequestContext::new(None, deadline);
    let write = WriteRequest { channel: &channel, event, id, headers: vec![] };
    let written = match log_write::append(api, &request, write).await {
        Ok(written) => Some(written),
        // Another token of the same second: the first one counts.
        Err(error) if error.code == ErrorCode::KeyReused => None,
        Err(error) => return Err(error),
    };
    if let Some(written) = &written {
        api.wait_until_position_applied(written.position).await;
    }
    api.profile_issued_at.insert(user.clone(), issued_at);
    if let Some(WrittenEvent { event, is_new: true, .. }) = written {
        contacts::publish_to_contacts(api, user, event).await;
    }
    Ok(())
}

/// When the stored description of a person was issued, and what it says. The moment is `None` where it is too far ahead
/// to be true: then it keeps nothing newer from being stored.
async fn read_stored_profile(
    api: &ApiState,
    shard: Shard,
    user: &UserId,
) -> Result<Option<(Option<i64>, Person)>, Error> {
    let stored = people::read_profile(&api.pool, shard, user).await?;
    Ok(stored.map(|(at, person)| (Some(at).filter(|at| *at <= Profile::issued_at_max()), person)))
}

/// The description of a person; an empty one where nobody has described them yet. The mail address and the balance are
/// shown to the person and to admins only.
pub(crate) async fn show(api: &ApiState, caller: &Caller, user: &UserId) -> Result<PersonDetails, Error> {
    let known = read_people(api, std::slice::from_ref(user)).await?.remove(user);
    let mut known = known.unwrap_or_else(|| PersonDetails::unknown(user));
    if caller.user != *user && !caller.is_admin {
        (known.person.email, known.person.account) = (None, None);
    }
    Ok(known)
}

/// People, with all that is known of them.
pub(crate) async fn read_people(
    api: &ApiState,
    users: &[UserId],
) -> Result<HashMap<UserId, PersonDetails>, Error> {
    people::read_people(&api.pool, api.shards, users).await
}

/// Stores the host application's description of a person; a field that it does not name keeps its value. It replaces
/// what tokens issued before now have said, also where their clock was ahead; a token issued later replaces it. Answers
/// the person, and whether Postgres has the description.
pub(crate) async fn update_profile(
    api: &ApiState,
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
    // A token may have been issued by a clock that is ahead. One that is not applied yet could make this description
    // count for nothing.
    if !api.wait_until_events_applied(&channel, &[EventName::Profile]).await? {
        return Err(Error::unavailable("The person", &"the last description is not applied yet"));
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

/// Whether a person has a socket open, and in which rooms they are, of those that the caller may enter.
pub(crate) async fn presence_of(
    api: &ApiState,
    caller: &Caller,
    user: &UserId,
) -> Result<(bool, Vec<RoomId>), Error> {
    let is_online = presence::is_online(&api.pool, api.shards, user).await?;
    Ok((is_online, room_lists::list_rooms_of_person(&api.pool, api.shards, caller, user).await?))
}
