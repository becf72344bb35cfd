//! Creates rooms of two people, one for each pair and kind.

use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::Error,
    event::{Event, EventName, Room as RoomEvent, RoomKind},
    id::UserId,
    subject::Channel,
    text,
};

use super::{
    idempotent_write::IdempotentWrite,
    request_context::RequestContext,
    rooms::view_of_new_room,
    unique_rooms::{self, UniqueRoom},
};
use crate::{
    commands::state::CommandState,
    queries::rooms::{self, RoomView},
};

/// The open room of a pair.
pub(crate) struct PairRoom {
    pub(crate) room: RoomView,
    /// Whether this request created it.
    pub(crate) is_new: bool,
    /// Whether Postgres has it.
    pub(crate) is_applied: bool,
}

/// Creates a match room for two people, unless they have an open one. Only the host application, an admin, may call
/// it.
pub(crate) async fn create_match(
    api: &CommandState,
    caller: &Caller,
    name: String,
    mut users: Vec<UserId>,
    request: &RequestContext<'_>,
) -> Result<PairRoom, Error> {
    if !caller.is_admin {
        return Err(Error::forbidden());
    }
    text::optional_text("name", &name, text::NAME_MAX)?;
    users.sort();
    let Ok([one, other]) = <[UserId; 2]>::try_from(users) else { return Err(not_two_people_error()) };
    if one == other {
        return Err(not_two_people_error());
    }
    let name = if name.trim().is_empty() { format!("{one}, {other}") } else { name };
    let pair = PairRequest { kind: RoomKind::Match, name, creator: caller.user.clone(), two: [one, other] };
    let UniqueRoom { room: id, new_room: created, is_new, is_applied: applied } =
        get_or_create(api, caller, pair, request).await?;
    let room = match created {
        Some(created) if !applied => view_of_new_room(id, created),
        _ => rooms::read(&api.pool, api.shards, id, &caller.user).await?.ok_or_else(Error::not_found)?,
    };
    Ok(PairRoom { room, is_new, is_applied: applied })
}

/// A room of two people to create.
pub(super) struct PairRequest {
    pub(super) kind: RoomKind,
    pub(super) name: String,
    pub(super) creator: UserId,
    /// The two people, in order of id.
    pub(super) two: [UserId; 2],
}

/// Returns the pair's open room of that kind, created if there is none.
pub(super) async fn get_or_create(
    api: &CommandState,
    caller: &Caller,
    pair: PairRequest,
    request: &RequestContext<'_>,
) -> Result<UniqueRoom, Error> {
    let PairRequest { kind, name, creator, two } = pair;
    let key = pair_key(kind.as_str(), &two[0], &two[1]);
    let now = Timestamp::now();
    let created = RoomEvent {
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
    let write = IdempotentWrite::new(api, &caller.user, &Channel::System, EventName::Chatroom, request);
    unique_rooms::get_or_create(api, write, &key, Event::RoomMade(created)).await
}

fn not_two_people_error() -> Error {
    Error::bad_request("users: must name two people.")
}

/// Returns the unique key of a pair's room: it does not depend on the order of the two.
pub(crate) fn pair_key(kind: &str, one: &UserId, other: &UserId) -> String {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    unique_rooms::unique_key(&[kind, first.as_str(), second.as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_has_one_key_and_no_other_pair_has_it() {
        let user = |id: &str| -> UserId { id.parse().expect("an id") };
        assert_eq!(pair_key("match", &user("a"), &user("b")), pair_key("match", &user("b"), &user("a")));
        assert_ne!(pair_key("match", &user("a"), &user("bc")), pair_key("match", &user("ab"), &user("c")));
        assert_ne!(pair_key("match", &user("a"), &user("b")), pair_key("direct", &user("a"), &user("b")));
    }
}
