//! People: what tokens say of them.

use shared::{
    error::Error,
    event::{Event, EventName, Person, Profile},
    id::UserId,
    log::{Append, MsgId},
    subject::Channel,
};
use tokio::time::Instant;

use crate::{
    queries::people,
    state::{APPEND, Shared},
};

/// What `new` changes of `old`: an absent claim changes nothing.
fn changes(old: &Person, new: &Person) -> bool {
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
pub(crate) async fn learn(
    api: &Shared,
    user: &UserId,
    issued_at: Option<i64>,
    person: &Person,
) -> Result<(), Error> {
    let Some(issued_at) = issued_at.filter(|_| *person != Person::default()) else { return Ok(()) };
    let is_known = |(known_at, known): &(i64, Person)| issued_at <= *known_at || !changes(known, person);
    if api.profiles.get(user).as_ref().is_some_and(is_known) {
        return Ok(());
    }
    let channel = Channel::User(user.clone());
    let shard = channel.shard(api.shards);
    let known = people::person(&api.pool, shard, user).await?;
    if let Some(known) = known.filter(is_known) {
        api.profiles.insert(user.clone(), known);
        return Ok(());
    }
    let event = Event::Profile(Profile { user: user.clone(), issued_at, person: person.clone() });
    let id = MsgId::new(user, &channel, EventName::Profile, &issued_at.to_string());
    let append = Append::new(&channel, &event, id);
    let appended = api.append(append, Instant::now() + APPEND).await?;
    api.is_applied(shard, appended.seq).await;
    api.profiles.insert(user.clone(), (issued_at, person.clone()));
    Ok(())
}
