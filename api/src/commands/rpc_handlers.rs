//! Answers the questions of fan-out nodes about the people on their sockets.

use protocol::{
    caller::Caller,
    error::Error,
    id::UserId,
    rpc::{
        AccessGrant, ChannelCallers, ConfirmReply, ParticipantEntry, ParticipantKey, ParticipantsReply,
        ParticipantsRequest,
    },
};
use tokio::time::Instant;

use super::teams;
use crate::{
    access::RoomAccess,
    commands::state::CommandState,
    page::{self, Page, PageEntry},
    queries::presence,
};

/// Maximum entries in a page of participants.
const PARTICIPANTS_PAGE: i64 = 5_000;

impl PageEntry for ParticipantEntry {}

/// Returns the callers who may no longer be in the room, or follow the team. Reads Postgres; never answers from the
/// cache.
pub(crate) async fn confirm_access(
    api: &CommandState,
    ChannelCallers { room, team, callers }: ChannelCallers,
) -> Result<ConfirmReply, Error> {
    if let Some(team) = team {
        let (team, grant) = teams::read_team_grant(api, team, &callers).await?;
        return Ok(confirm_reply(callers, false, grant, |caller| team.includes(caller)));
    }
    let people: Vec<&UserId> = callers.iter().map(|caller| &caller.user).collect();
    let access = api.access.load(room, &people, Instant::now()).await?;
    let closed = access.room.is_closed;
    Ok(confirm_reply(callers, closed, access.grant(), |caller| !closed && access.can_join(caller)))
}

fn confirm_reply(
    mut callers: Vec<Caller>,
    closed: bool,
    grant: AccessGrant,
    may_stay: impl Fn(&Caller) -> bool,
) -> ConfirmReply {
    callers.retain(|caller| !may_stay(caller));
    let out = callers.iter().map(|caller| caller.user.clone()).collect();
    ConfirmReply { out, callers_out: Some(callers), closed, grant }
}

/// Lists who is in a room: one page, or all if the fan-out node is of a version without pages.
pub(crate) async fn list_participants(
    api: &CommandState,
    request: ParticipantsRequest,
) -> Result<ParticipantsReply, Error> {
    let ParticipantsRequest { room, after, is_paged, .. } = request;
    if !is_paged {
        return Ok(presence::list_participants(&api.pool, api.shards, room, None, i64::MAX).await?);
    }
    let read = presence::list_participants(&api.pool, api.shards, room, after, PARTICIPANTS_PAGE + 1).await?;
    let max_bytes = page::reply_max_bytes(api.log.nats_client.max_payload());
    let page = Page::of(read.present, PARTICIPANTS_PAGE).fit(max_bytes)?;
    let key =
        |last: &ParticipantEntry| ParticipantKey { user: last.user.clone(), incarnation: last.incarnation };
    Ok(ParticipantsReply { next: page.last_if_more().map(key), present: page.entries, as_of: read.as_of })
}

/// Allows a signal between two people if both may join a room that both have been in. A room that one of them has
/// created for the other is not enough: the other has not agreed to it.
///
/// # Errors
/// Fails with 403 if they have no such room.
pub(crate) async fn allow_signal(api: &CommandState, caller: &Caller, user: &UserId) -> Result<(), Error> {
    let other = Caller { user: user.clone(), is_admin: false, org_id: None };
    let people = [&caller.user, user];
    let may =
        |access: &RoomAccess| !access.room.is_closed && access.can_join(caller) && access.can_join(&other);
    let rooms = presence::list_rooms_in_common(&api.pool, api.shards, &caller.user, user).await?;
    for room in presence::list_rooms_visited_by_both(&api.pool, api.shards, &rooms, people).await? {
        if may(&api.access.room_access(room, &people, may).await?) {
            return Ok(());
        }
    }
    Err(Error::forbidden())
}
