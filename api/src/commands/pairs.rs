//! Rooms of two, of which there is one for each pair.

use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::Error,
    event::{Event, EventName, Room as Made, RoomKind},
    id::UserId,
    subject::Channel,
    text,
};

use super::{
    control::Control,
    request::Request,
    rooms::as_made,
    unique::{self, Holder},
};
use crate::{
    commands::state::Shared,
    queries::rooms::{self, Room},
};

/// The room of a pair.
pub(crate) struct Paired {
    pub(crate) room: Room,
    /// This request made it.
    pub(crate) is_new: bool,
    /// Whether Postgres has it.
    pub(crate) applied: bool,
}

/// Gives two people a room, where they have none that is open: the host application does, when they match.
pub(crate) async fn make_match(
    api: &Shared,
    caller: &Caller,
    name: String,
    mut users: Vec<UserId>,
    request: &Request<'_>,
) -> Result<Paired, Error> {
    if !caller.is_admin {
        return Err(Error::forbidden());
    }
    text::optional_line("name", &name, text::NAME_MAX)?;
    users.sort();
    let Ok([one, other]) = <[UserId; 2]>::try_from(users) else { return Err(not_two()) };
    if one == other {
        return Err(not_two());
    }
    let name = if name.trim().is_empty() { format!("{one}, {other}") } else { name };
    let pair = Pair { kind: RoomKind::Match, name, creator: caller.user.clone(), two: [one, other] };
    let Holder { room: id, made, is_new, applied } = hold(api, caller, pair, request).await?;
    let room = match made {
        Some(made) if !applied => as_made(id, made),
        _ => rooms::room(&api.pool, api.shards, id, &caller.user).await?.ok_or_else(Error::not_found)?,
    };
    Ok(Paired { room, is_new, applied })
}

/// A room of two to make.
pub(super) struct Pair {
    pub(super) kind: RoomKind,
    pub(super) name: String,
    pub(super) creator: UserId,
    /// In the order of their ids.
    pub(super) two: [UserId; 2],
}

/// The pair's open room; made where there is none.
pub(super) async fn hold(
    api: &Shared,
    caller: &Caller,
    pair: Pair,
    request: &Request<'_>,
) -> Result<Holder, Error> {
    let Pair { kind, name, creator, two } = pair;
    let key = key(kind.as_str(), &two[0], &two[1]);
    let now = Timestamp::now();
    let made = Made {
        request_type: None,
        name,
        description: None,
        private: true,
        users: two.into(),
        participants: vec![],
        team: None,
        user: creator,
        kind,
        active: true,
        created_at: now,
        activity: now,
        unread: 0,
        detail: None,
    };
    let control = Control::new(api, &caller.user, &Channel::System, EventName::Chatroom, request);
    unique::hold(api, control, &key, Event::RoomMade(made)).await
}

fn not_two() -> Error {
    Error::bad_request("users: must name two people.")
}

/// What names the room of a pair among all: the same for both orders.
pub(crate) fn key(kind: &str, one: &UserId, other: &UserId) -> String {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    unique::key_of(&[kind, first.as_str(), second.as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_key_and_no_other_pair_has_it() {
        let user = |id: &str| -> UserId { id.parse().expect("an id") };
        assert_eq!(key("match", &user("a"), &user("b")), key("match", &user("b"), &user("a")));
        assert_ne!(key("match", &user("a"), &user("bc")), key("match", &user("ab"), &user("c")));
        assert_ne!(key("match", &user("a"), &user("b")), key("direct", &user("a"), &user("b")));
    }
}
