//! Invites people to rooms, and stores their answers.
//!
//! What must hold: a membership is stored before the acceptance that grants it. A request that failed between the two
//! is completed by a repeated one, and no accepted invitation lacks its membership. A removed person can't return by
//! an invitation made before the removal.

use crate::append::MsgId;
use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::{Error, ErrorCode},
    event::{self, Event, EventName, InvitationAnswer, Member, RoomKind, TeamMember},
    id::{RoomId, UserId},
    subject::Channel,
};

use super::{
    idempotent_write::{self, IdempotentWrite},
    log_write::WrittenEvent,
    members,
    request_context::RequestContext,
    require_manage, require_open, teams,
};
use crate::{
    access::membership::Membership,
    commands::state::CommandState,
    page::Page,
    queries::invitations::{self, StoredInvitation},
};

/// Invites a person to a room. If an unanswered invitation exists, returns that one. Also returns whether Postgres
/// has it.
pub(crate) async fn invite(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    user: UserId,
    request: &RequestContext<'_>,
) -> Result<(StoredInvitation, bool), Error> {
    let snapshot = require_manage(api, room, caller).await?.room;
    if snapshot.kind.is_pair() {
        return Err(Error::new(ErrorCode::Conflict, "Nobody else can enter a room of two."));
    }
    api.limits.count_invitation(caller, &user)?;
    // Two concurrent requests may still store two invitations: a removal declines all of them.
    require_invitations_applied(api, &user).await?;
    if let Some(open) =
        invitations::list_unanswered_into(&api.pool, api.shards, &user, &Channel::Room(room)).await?.pop()
    {
        return Ok((open, true));
    }
    let invitation = event::Invitation {
        room,
        room_name: snapshot.name.clone(),
        user: user.clone(),
        by: caller.user.clone(),
        created_at: Timestamp::now(),
    };
    let channel = Channel::User(user);
    let event = Event::Invitation(invitation);
    let (WrittenEvent { position, event, .. }, applied) =
        idempotent_write::write_one(api, caller, &channel, event, request).await?;
    let Event::Invitation(invitation) = event else {
        return Err(Error::internal(&"the event stored for an invitation is of another kind"));
    };
    Ok((StoredInvitation { id: position.seq, invitation, accepted: None }, applied))
}

/// Waits up to one second until Postgres has every acknowledged invitation and answer of a person; false if it still
/// lacks one.
async fn wait_until_invitations_applied(api: &CommandState, user: &UserId) -> Result<bool, Error> {
    let events = [EventName::Invitation, EventName::InvitationAnswer];
    api.wait_until_events_applied(&Channel::User(user.clone()), &events).await
}

/// Like [`wait_until_invitations_applied`], but fails if Postgres lacks one: whether an invitation is open is not
/// known then.
async fn require_invitations_applied(api: &CommandState, user: &UserId) -> Result<(), Error> {
    if wait_until_invitations_applied(api, user).await? {
        return Ok(());
    }
    Err(Error::unavailable("The invitation", &"it is not applied yet"))
}

/// Lists the caller's unanswered invitations, newest first.
pub(crate) async fn list(
    api: &CommandState,
    caller: &Caller,
    before: Option<u64>,
    limit: i64,
) -> Result<Page<StoredInvitation>, Error> {
    wait_until_invitations_applied(api, &caller.user).await?;
    Page::read(limit, async |limit| {
        invitations::list_unanswered(&api.pool, api.shards, &caller.user, before, limit).await
    })
    .await
}

/// Requires an invitation of the caller's; answers 404 if there is none.
async fn require_own_invitation(
    api: &CommandState,
    caller: &Caller,
    id: u64,
) -> Result<StoredInvitation, Error> {
    require_invitations_applied(api, &caller.user).await?;
    invitations::find(&api.pool, api.shards, &caller.user, id).await?.ok_or_else(Error::not_found)
}

/// Stores the caller's answer to an invitation. Returns the invitation, and whether Postgres has the answer.
pub(crate) async fn answer(
    api: &CommandState,
    caller: &Caller,
    id: u64,
    accepted: bool,
    request: &RequestContext<'_>,
) -> Result<(StoredInvitation, bool), Error> {
    let mut invitation = require_own_invitation(api, caller, id).await?;
    match invitation.accepted {
        Some(earlier) if earlier == accepted => return Ok((invitation, true)),
        Some(_) => {
            let detail = "This invitation was answered the other way, or has ended by a removal.";
            return Err(Error::new(ErrorCode::Conflict, detail));
        }
        None => {}
    }
    let channel = Channel::User(caller.user.clone());
    let key = format!("{id}:{accepted}");
    // The message ids derive from the invitation, whatever key the client gave.
    let request = &RequestContext { idempotency_key: Some(&key), ..request.clone() };
    let mut write = IdempotentWrite::new(api, &caller.user, &channel, EventName::InvitationAnswer, request);
    if accepted {
        admit_invited(api, &mut write, &invitation.invitation).await?;
    }
    let answer = InvitationAnswer {
        invitation: id,
        user: caller.user.clone(),
        room: invitation.invitation.room,
        accepted,
    };
    // The acceptance has this message id whether or not a membership was appended before it: a repeated request may
    // find the person a member already.
    let id = if accepted { write.first_id().derived(1) } else { write.first_id() };
    write.append_with_id(&channel, Event::InvitationAnswer(answer), id).await?;
    invitation.accepted = Some(accepted);
    Ok((invitation, write.wait_until_applied().await))
}

/// Appends the membership that an accepted invitation grants, in the inviter's name; nothing if the person is a
/// member.
async fn admit_invited(
    api: &CommandState,
    write: &mut IdempotentWrite<'_>,
    invitation: &event::Invitation,
) -> Result<(), Error> {
    let snapshot = api.access.room_access(invitation.room, &[], |access| !access.room.is_closed).await?.room;
    require_open(&snapshot)?;
    let (user, by) = (invitation.user.clone(), invitation.by.clone());
    match (snapshot.kind, snapshot.team) {
        (RoomKind::Private, _) => {
            if members::membership(api, snapshot.id, &user).await? == Membership::Member {
                return Ok(());
            }
            let event = Event::MemberAdd(Member { user, room: snapshot.id, by });
            write.append(&Channel::Room(snapshot.id), event).await?;
        }
        (RoomKind::Team, Some(team)) => {
            if teams::membership(api, team, &user).await? == Membership::Member {
                return Ok(());
            }
            let event = Event::TeamMemberAdd(TeamMember { team, user, by });
            write.append(&Channel::Team(team), event).await?;
        }
        // Open rooms need no membership, and rooms of two people take no other members.
        _ => {}
    }
    Ok(())
}

/// Removes a person from a room or a team by `event`, unless `is_out`, and declines their unanswered invitations to
/// it. Returns whether Postgres has all of it.
pub(super) async fn remove_and_decline(
    api: &CommandState,
    caller: &Caller,
    from: &Channel,
    event: Event,
    user: &UserId,
    is_out: bool,
    request: &RequestContext<'_>,
) -> Result<bool, Error> {
    let mut write = IdempotentWrite::new(api, &caller.user, from, event.name(), request);
    if !is_out {
        write.append(from, event).await?;
    }
    require_invitations_applied(api, user).await?;
    let channel = Channel::User(user.clone());
    for open in invitations::list_unanswered_into(&api.pool, api.shards, user, from).await? {
        // The message id derives from the invitation: a repeated request may find fewer of them open.
        let key = format!("{}:removed", open.id);
        let id = MsgId::new(&caller.user, &channel, EventName::InvitationAnswer, &key);
        let (invitation, room) = (open.id, open.invitation.room);
        let no = InvitationAnswer { invitation, user: user.clone(), room, accepted: false };
        write.append_with_id(&channel, Event::InvitationAnswer(no), id).await?;
    }
    Ok(write.wait_until_applied().await)
}
