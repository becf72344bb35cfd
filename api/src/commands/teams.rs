//! Creates, shows and lists teams, and changes their members.

use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::Error,
    event::{Event, EventName, Team as TeamEvent, TeamMember},
    id::{Shard, TeamId, UserId},
    rpc::AccessGrant,
    subject::Channel,
    text,
};

use super::{
    idempotent_write::{self, IdempotentWrite},
    invitations,
    log_write::WrittenEvent,
    request_context::RequestContext,
};
use crate::{
    access::{RetryBudget, membership::Membership},
    commands::state::CommandState,
    database::APPLIED_TIMEOUT,
    page::Page,
    queries::{
        members::{self, Members},
        teams::{self, TeamSnapshot, TeamView},
    },
};

/// Creates a team with these members. Returns it, and whether Postgres has all of it.
pub(crate) async fn create(
    api: &CommandState,
    caller: &Caller,
    name: String,
    mut users: Vec<UserId>,
    request: &RequestContext<'_>,
) -> Result<(TeamView, bool), Error> {
    text::required_text("name", &name, text::NAME_MAX)?;
    if users.len() > text::ROOM_USERS_MAX {
        let detail = format!("users: must name at most {} people.", text::ROOM_USERS_MAX);
        return Err(Error::bad_request(detail));
    }
    users.sort();
    users.dedup();
    let created = TeamEvent { name, users, user: caller.user.clone(), created_at: Timestamp::now() };
    let mut write = IdempotentWrite::new(api, &caller.user, &Channel::System, EventName::TeamMade, request);
    let WrittenEvent { position, event, .. } =
        write.append(&Channel::System, Event::TeamMade(created)).await?;
    let Event::TeamMade(created) = event else {
        return Err(Error::internal(&"the event stored for a new team is of another kind"));
    };
    let team = TeamId(position.seq);
    for user in &created.users {
        let member = TeamMember { team, user: user.clone(), by: caller.user.clone() };
        write.append(&Channel::Team(team), Event::TeamMemberAdd(member)).await?;
    }
    let applied = write.wait_until_applied().await;
    let TeamEvent { name, users, user: creator, created_at } = created;
    let users = Members::from_users(users);
    Ok((TeamView { id: team, name, creator, users, created_at }, applied))
}

/// Reads a team from Postgres, including every control event of it that this node has received, and which of the
/// `asked` people are members.
async fn read_team(api: &CommandState, id: TeamId, members: &[&UserId]) -> Result<TeamSnapshot, Error> {
    let mut is_made = false;
    let mut tries = RetryBudget::within(APPLIED_TIMEOUT);
    loop {
        if let Some(found) = teams::read_snapshot(&api.pool, api.shards, id, members).await? {
            if api.access.is_fresh_for_team(id, found.as_of, &mut tries).await? {
                return Ok(found);
            }
            continue;
        }
        if is_made {
            return Err(Error::not_found());
        }
        is_made = true;
        let created = log::get_event(&api.log.jetstream, Shard::SYSTEM, id.0, &[EventName::TeamMade]).await?;
        if created.is_some() && !api.wait_until_applied(Shard::SYSTEM, id.0).await {
            return Err(Error::unavailable("The team", &"it is not applied yet"));
        }
        // Now Postgres has it; or it had it already when the log was trimmed; or there is no such team.
    }
}

fn may_manage(team: &TeamView, caller: &Caller) -> bool {
    caller.is_admin || team.creator == caller.user
}

impl TeamSnapshot {
    /// Returns whether the caller, one of the people asked about, is a member of the team or manages it.
    pub(super) fn includes(&self, caller: &Caller) -> bool {
        may_manage(&self.team, caller) || self.members.contains(&caller.user)
    }
}

/// Reads a team with these callers, and the grant by which its members among them follow its channel.
pub(super) async fn read_team_grant(
    api: &CommandState,
    id: TeamId,
    callers: &[Caller],
) -> Result<(TeamSnapshot, AccessGrant), Error> {
    let members: Vec<&UserId> = callers.iter().map(|caller| &caller.user).collect();
    let found = read_team(api, id, &members).await?;
    let grant =
        AccessGrant { public: false, pair: false, as_of: found.as_of, team: None, last_event: found.as_of };
    Ok((found, grant))
}

/// Returns the grant by which the caller follows a team's channel; answers 404 to non-members.
pub(crate) async fn require_grant(
    api: &CommandState,
    caller: &Caller,
    id: TeamId,
) -> Result<AccessGrant, Error> {
    let (found, grant) = read_team_grant(api, id, std::slice::from_ref(caller)).await?;
    if found.includes(caller) { Ok(grant) } else { Err(Error::not_found()) }
}

/// Reads a team of the caller's; answers 404 to non-members.
pub(crate) async fn show(api: &CommandState, caller: &Caller, id: TeamId) -> Result<TeamView, Error> {
    let found = read_team(api, id, &[&caller.user]).await?;
    if found.includes(caller) { Ok(found.team) } else { Err(Error::not_found()) }
}

/// Returns up to `limit` members of a team of the caller's, with ids greater than `after`, in order of id.
pub(crate) async fn list_members(
    api: &CommandState,
    caller: &Caller,
    id: TeamId,
    after: Option<&UserId>,
    limit: i64,
) -> Result<Page<UserId>, Error> {
    show(api, caller, id).await?;
    Page::read(limit, async |limit| members::list_team_members(&api.pool, api.shards, id, after, limit).await)
        .await
}

/// Requires that the caller may change the team; answers 404 to non-members, 403 to members.
pub(crate) async fn require_manage(api: &CommandState, id: TeamId, caller: &Caller) -> Result<(), Error> {
    let team = show(api, caller, id).await?;
    if may_manage(&team, caller) { Ok(()) } else { Err(Error::forbidden()) }
}

/// Lists the caller's teams, newest first; an admin's list has all teams.
pub(crate) async fn list(
    api: &CommandState,
    caller: &Caller,
    before: Option<TeamId>,
    limit: i64,
) -> Result<Page<TeamView>, Error> {
    Page::read(limit, async |limit| teams::list(&api.pool, api.shards, caller, before, limit).await).await
}

/// Returns whether a person is a member of the team; waits up to one second until Postgres has all acknowledged
/// events.
pub(super) async fn membership(api: &CommandState, id: TeamId, user: &UserId) -> Result<Membership, Error> {
    let events = [EventName::TeamMemberAdd, EventName::TeamMemberRemove];
    if !api.wait_until_events_applied(&Channel::Team(id), &events).await? {
        return Ok(Membership::Unknown);
    }
    Ok(read_team(api, id, &[user]).await?.members.contains(user).into())
}

/// Adds a member to the team. Returns whether Postgres has it.
pub(crate) async fn add(
    api: &CommandState,
    caller: &Caller,
    id: TeamId,
    user: UserId,
    request: &RequestContext<'_>,
) -> Result<bool, Error> {
    require_manage(api, id, caller).await?;
    if membership(api, id, &user).await? == Membership::Member {
        return Ok(true);
    }
    let event = Event::TeamMemberAdd(TeamMember { team: id, user, by: caller.user.clone() });
    Ok(idempotent_write::write_one(api, caller, &Channel::Team(id), event, request).await?.1)
}

/// Removes a member from the team; all members may remove themselves. Returns whether Postgres has it.
pub(crate) async fn remove(
    api: &CommandState,
    caller: &Caller,
    id: TeamId,
    user: UserId,
    request: &RequestContext<'_>,
) -> Result<bool, Error> {
    if user == caller.user {
        show(api, caller, id).await?;
    } else {
        require_manage(api, id, caller).await?;
    }
    let event = Event::TeamMemberRemove(TeamMember { team: id, user: user.clone(), by: caller.user.clone() });
    let is_out = membership(api, id, &user).await? == Membership::NotAMember;
    invitations::remove_and_decline(api, caller, &Channel::Team(id), event, &user, is_out, request).await
}
