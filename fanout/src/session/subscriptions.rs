//! Begins and ends a socket's subscriptions to channels.
//!
//! What must hold: a subscription that fails leaves no watch behind, and changes none of the socket's subscriptions,
//! unless the socket has left its room for it already. A match socket, which is in one room at a time, is answered
//! after the last push of the room that it leaves.

use std::sync::Arc;

use protocol::{
    error::{Error, ErrorCode},
    id::TeamId,
    rpc::{AccessGrant, ActionReply},
    subject::Channel,
};
use tokio::sync::oneshot;

use super::{
    SessionState,
    action::{ActionChanges, ActionContext},
    envelope::SocketRequest,
};
use crate::{
    encode::PushFormat,
    node::Node,
    shard::subscribe::{Admission, AnswerFn, SubscribeRequest},
};

/// A channel that the socket has begun to follow.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) channel: Channel,
    /// Whether the person is a participant of the room.
    pub(super) is_participant: bool,
    /// Whether the room belongs to two people.
    pub(super) is_pair: bool,
    /// The team whose membership gives the right to the room.
    pub(super) team: Option<TeamId>,
    pub(super) frame_number: u64,
}

/// A channel that the socket has stopped following.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) channel: Channel,
}

/// A channel that the socket is to follow.
pub(super) struct SubscribeTarget {
    pub(super) channel: Channel,
    pub(super) is_participant: bool,
    /// The last event that the client has.
    pub(super) since: Option<u64>,
    /// The epoch in which the client received it.
    pub(super) epoch: Option<u64>,
    pub(super) grant: Option<AccessGrant>,
}

/// Why a subscription failed.
enum SubscribeError {
    /// The right has ended since api granted it.
    AccessEnded,
    /// The channel can't be opened now.
    Unavailable,
}

impl ActionContext {
    /// Ends the subscription to a channel. After this resolves, nothing more of the channel is pushed, so an answer can
    /// be pushed after its last event.
    pub(super) async fn unsubscribe(&self, channel: Channel) -> Left {
        self.node.unsubscribe(channel.clone(), self.socket_id, self.frame_number, false).await;
        Left { channel }
    }

    /// Follows a channel instead of `others`, answers, and returns the changes.
    pub(super) async fn subscribe(
        self,
        request: SocketRequest,
        reply: &ActionReply,
        target: SubscribeTarget,
        others: Vec<Channel>,
    ) -> ActionChanges {
        let SubscribeTarget { channel, is_participant: participant, grant, .. } = &target;
        let (channel, team) = (channel.clone(), grant.and_then(|grant| grant.team));
        let mut changes = ActionChanges::default();
        let answer = match self.outbox.format() {
            PushFormat::Native | PushFormat::Deflated => {
                request.clone().native_subscribe_answer(reply, *participant)
            }
            PushFormat::Match => request.clone().match_join_answer(reply),
        };
        let failed = match self.admit_in_place_of(&target, answer, others, &mut changes.left_channels).await {
            Ok(()) => {
                changes.joined = Some(Joined {
                    channel,
                    is_participant: *participant,
                    is_pair: grant.is_some_and(|grant| grant.pair),
                    team: team.map(|team| team.team),
                    frame_number: self.frame_number,
                });
                return changes;
            }
            Err(SubscribeError::AccessEnded) => Error::not_found(),
            Err(SubscribeError::Unavailable) => {
                Error::new(ErrorCode::Unavailable, "The channel can't be followed now. Try again.")
            }
        };
        self.outbox.push(request.refusal_frame(failed.code.status(), &failed.detail));
        changes.unwatched_team = team.map(|team| team.team);
        changes.refused = Some(failed);
        changes
    }

    /// Follows a channel, and leaves `others` once access to it is granted. Adds to `left_channels` each one that was
    /// left, even if the subscription fails after that.
    async fn admit_in_place_of(
        &self,
        target: &SubscribeTarget,
        answer: AnswerFn,
        others: Vec<Channel>,
        left_channels: &mut Vec<Left>,
    ) -> Result<(), SubscribeError> {
        let SubscribeTarget { channel, grant, since, epoch, .. } = target;
        if let Some(team) = grant.and_then(|grant| grant.team) {
            // The right to the room ends with the membership of the team, so the team's removals are watched too.
            let right =
                AccessGrant { public: false, pair: false, as_of: team.as_of, team: None, last_event: 0 };
            self.watch_access(&Channel::Team(team.team), Some(right)).await?;
        }
        if others.is_empty() {
            return self.admit(channel, *grant, Some(answer), (*since, *epoch)).await;
        }
        // The watch shows that the new channel can be followed. Until then the others are followed as before.
        self.watch_access(channel, *grant).await?;
        for other in others {
            left_channels.push(self.unsubscribe(other).await);
        }
        let admitted = self.admit(channel, *grant, Some(answer), (*since, *epoch)).await;
        self.node.unsubscribe(channel.clone(), self.socket_id, self.frame_number, true).await;
        admitted
    }

    /// Watches the right to a channel: pushes nothing, and evicts the socket when the right ends.
    async fn watch_access(
        &self,
        channel: &Channel,
        grant: Option<AccessGrant>,
    ) -> Result<(), SubscribeError> {
        self.admit(channel, grant, None, (None, None)).await
    }

    /// Asks the channel's shard to admit the socket, as a subscriber if there is an `answer`, otherwise as a watcher.
    async fn admit(
        &self,
        channel: &Channel,
        grant: Option<AccessGrant>,
        answer: Option<AnswerFn>,
        (since, epoch): (Option<u64>, Option<u64>),
    ) -> Result<(), SubscribeError> {
        let (admitted, admission) = oneshot::channel();
        let request = SubscribeRequest {
            socket_id: self.socket_id,
            frame_number: self.frame_number,
            caller: self.caller.clone(),
            outbox: self.outbox.clone(),
            since,
            epoch,
            grant,
            answer,
            admitted,
        };
        self.node.subscribe(channel.clone(), request).await;
        match admission.await {
            Ok(Admission::Admitted) => Ok(()),
            Ok(Admission::AccessEnded) => Err(SubscribeError::AccessEnded),
            Err(_) => Err(SubscribeError::Unavailable),
        }
    }
}

/// Removes a channel from the session's state, and makes the person leave if it is a room that they participate in.
pub(super) fn remove_subscription(node: &Arc<Node>, state: &mut SessionState, channel: &Channel) {
    if let Channel::Room(room) = channel {
        state.pair_rooms.remove(room);
        if state.rooms.remove(room) {
            node.presence.leave(Some(*room), state.caller.user.clone());
        }
        if let Some((team, _)) = state.team_rooms.remove(room) {
            unwatch_team(node, state, team);
        }
    }
    state.subscriptions.remove(channel);
}

/// Ends the watch on a team, unless the socket still follows another room as a member of it.
pub(super) fn unwatch_team(node: &Arc<Node>, state: &SessionState, team: TeamId) {
    if !state.team_rooms.values().any(|(other, _)| *other == team) {
        unsubscribe_in_background(node, state, Channel::Team(team), true);
    }
}

/// Ends a subscription or watch that frames up to now have asked for, in a task of its own.
pub(super) fn unsubscribe_in_background(
    node: &Arc<Node>,
    state: &SessionState,
    channel: Channel,
    is_watcher: bool,
) {
    let (node, socket_id, frame_number) = (node.clone(), state.socket_id, state.frames_read);
    tokio::spawn(async move { node.unsubscribe(channel, socket_id, frame_number, is_watcher).await });
}

#[cfg(test)]
mod tests {
    use protocol::{
        event::Person,
        id::{RoomId, ShardCount},
        rpc::{ActionRequest, SocketEffect, Surface, TeamGrant, expiry},
    };
    use serde_json::json;
    use service::token::Identity;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        bench,
        session::{PendingSession, Session, action},
        shard::ShardCommand,
    };

    const ADMITTED: Option<Admission> = Some(Admission::Admitted);

    /// A node whose shard decides about subscribers in the order of `admits`, where `None` is a channel that can't be
    /// opened, and a log of the commands that the shard gets.
    async fn node(admits: &'static [Option<Admission>]) -> (Arc<Node>, mpsc::UnboundedReceiver<String>) {
        let (commands, mut received) = mpsc::channel(8);
        let (lines, log) = mpsc::unbounded_channel();
        let mut admits = admits.iter().copied();
        tokio::spawn(async move {
            while let Some(command) = received.recv().await {
                let line = match command {
                    ShardCommand::Subscribe { channel, request } => {
                        let kind = if request.answer.is_some() { "subscribe" } else { "watch" };
                        if let Some(Some(admitted)) = admits.next() {
                            let _ = request.admitted.send(admitted);
                        }
                        format!("{kind} {channel}")
                    }
                    ShardCommand::Unsubscribe { channel, is_watcher, done, .. } => {
                        let _ = done.send(());
                        format!("{} {channel}", if is_watcher { "unwatch" } else { "unsubscribe" })
                    }
                    _ => continue,
                };
                let _ = lines.send(line);
            }
        });
        let node = bench::node(ShardCount::new(1).expect("1")).await;
        let mut node = Arc::into_inner(node).expect("nobody else has it");
        node.shard_tasks = vec![commands.clone(), commands];
        (Arc::new(node), log)
    }

    fn session(node: &Arc<Node>, surface: Surface) -> Box<Session> {
        let identity = Identity {
            caller: bench::caller(1),
            issued_at: None,
            expires_at_ms: i64::MAX,
            person: Person::default(),
        };
        PendingSession::new(node, identity, surface, false).expect("there is room").begin(node.clone())
    }

    /// Makes the socket join a room that api grants, by membership of `team` if there is one. Returns the status of the
    /// refusal, if there is one.
    async fn join(session: &mut Session, room: u64, team: Option<u64>) -> Option<u16> {
        session.state.frames_read += 1;
        let frame = json!({ "action": "join_room", "room_pk": room, "request_id": 1 }).to_string();
        let Ok((request, raw)) = SocketRequest::parse(&frame) else { panic!("{frame}") };
        let (state, node) = (&mut session.state, &session.node);
        let context = ActionContext {
            node: node.clone(),
            outbox: session.outbox.clone(),
            caller: state.caller.clone(),
            socket_id: state.socket_id,
            frame_number: state.frames_read,
        };
        let action_request = ActionRequest {
            caller: state.caller.clone(),
            surface: state.surface,
            action: "join_room".to_owned(),
            frame: raw.to_owned(),
            rooms: state.rooms.iter().copied().collect(),
            pairs: vec![],
            key: String::new(),
            request: String::new(),
            expires_at: expiry(),
        };
        let team = team.map(|team| TeamGrant { team: TeamId(team), as_of: 1 });
        let grant = AccessGrant { public: false, pair: false, as_of: 1, team, last_event: 0 };
        let effect = SocketEffect::Subscribe {
            channel: Channel::Room(RoomId(room)),
            participant: true,
            since: None,
            epoch: None,
            grant: Some(grant),
        };
        let reply = ActionReply { status: 200, data: None, errors: vec![], effect: Some(effect) };
        let changes = context.apply(request, &action_request, reply).await;
        let refused = changes.refused.as_ref().map(|error| error.code.status());
        action::apply_changes(node, state, changes);
        refused
    }

    fn rooms(session: &Session) -> Vec<u64> {
        assert!(
            session
                .state
                .rooms
                .iter()
                .all(|room| { session.state.subscriptions.contains_key(&Channel::Room(*room)) })
        );
        session.state.rooms.iter().map(|room| room.0).collect()
    }

    /// Checks the next commands that the shard gets.
    async fn expect_commands(log: &mut mpsc::UnboundedReceiver<String>, lines: &[&str]) {
        for line in lines {
            assert_eq!(log.recv().await.expect("the shard lives"), *line);
        }
    }

    #[tokio::test]
    async fn switch_of_rooms_is_answered_after_the_old_room_is_left() {
        let (node, mut log) = node(&[ADMITTED; 3]).await;
        let mut session = session(&node, Surface::Match);
        assert_eq!(join(&mut session, 1, None).await, None);
        assert_eq!(join(&mut session, 2, None).await, None);
        assert_eq!(rooms(&session), [2]);
        expect_commands(
            &mut log,
            &["subscribe room-1", "watch room-2", "unsubscribe room-1", "subscribe room-2", "unwatch room-2"],
        )
        .await;
    }

    #[tokio::test]
    async fn switch_to_an_unavailable_room_keeps_the_old_one() {
        let (node, mut log) = node(&[ADMITTED, None, Some(Admission::AccessEnded)]).await;
        let mut session = session(&node, Surface::Match);
        assert_eq!(join(&mut session, 1, None).await, None);
        assert_eq!(join(&mut session, 2, None).await, Some(503));
        assert_eq!(join(&mut session, 2, None).await, Some(404));
        assert_eq!(rooms(&session), [1]);
        expect_commands(&mut log, &["subscribe room-1", "watch room-2", "watch room-2"]).await;
    }

    #[tokio::test]
    async fn switch_that_fails_after_the_old_room_is_left_ends_in_no_room() {
        let (node, _log) = node(&[ADMITTED, ADMITTED, Some(Admission::AccessEnded)]).await;
        let mut session = session(&node, Surface::Match);
        assert_eq!(join(&mut session, 1, None).await, None);
        assert_eq!(join(&mut session, 2, None).await, Some(404));
        assert_eq!(rooms(&session), [0_u64; 0]);
    }

    #[tokio::test]
    async fn team_is_not_watched_for_an_unavailable_room() {
        let (node, mut log) = node(&[ADMITTED, None]).await;
        let mut session = session(&node, Surface::Native);
        assert_eq!(join(&mut session, 1, Some(7)).await, Some(503));
        assert_eq!(rooms(&session), [0_u64; 0]);
        expect_commands(&mut log, &["watch team-7", "subscribe room-1", "unwatch team-7"]).await;
    }

    #[tokio::test]
    async fn team_is_watched_while_one_of_its_rooms_is_followed() {
        let (node, mut log) = node(&[ADMITTED, ADMITTED, ADMITTED, None, ADMITTED]).await;
        let mut session = session(&node, Surface::Native);
        assert_eq!(join(&mut session, 1, Some(7)).await, None);
        assert_eq!(join(&mut session, 2, Some(7)).await, Some(503));
        assert_eq!(join(&mut session, 3, None).await, None);
        let first =
            ["watch team-7", "subscribe room-1", "watch team-7", "subscribe room-2", "subscribe room-3"];
        expect_commands(&mut log, &first).await;
        session.abandon().await;
        expect_commands(&mut log, &["unwatch team-7"]).await;
    }
}
