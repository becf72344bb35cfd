//! What a fan-out node asks about its sockets' people.

use shared::{
    error::Error,
    id::{RoomId, UserId},
    rpc::{Confirmed, Participants},
    rules::Caller,
};
use tokio::time::Instant;

use crate::{
    queries::{facts::Facts, presence},
    state::Shared,
};

/// Who of these may not be in the room any more. Nothing kept is answered from.
pub(crate) async fn confirm(api: &Shared, room: RoomId, callers: Vec<Caller>) -> Result<Confirmed, Error> {
    let facts = api.rights.read(room, Instant::now()).await?;
    let may_stay = |caller: &Caller| !facts.closed && facts.may_enter(caller);
    let out = callers.into_iter().filter(|caller| !may_stay(caller)).map(|caller| caller.user).collect();
    Ok(Confirmed { out, grant: facts.grant() })
}

/// Who is in a room.
pub(crate) async fn participants(api: &Shared, room: RoomId) -> Result<Participants, Error> {
    presence::participants(&api.pool, api.shards, room).await
}

/// Both are people of one room that both may enter; else neither may signal to the other.
pub(crate) async fn signal(api: &Shared, caller: &Caller, user: &UserId) -> Result<(), Error> {
    let other = Caller { user: user.clone(), is_admin: false, org_id: None };
    let may = |facts: &Facts| !facts.closed && facts.may_enter(caller) && facts.may_enter(&other);
    for room in presence::in_common(&api.pool, &caller.user, user).await? {
        if may(&*api.rights.facts(room, may).await?) {
            return Ok(());
        }
    }
    Err(Error::forbidden())
}
