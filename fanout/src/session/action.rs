//! Sends a socket's actions to api, and applies api's decisions to the socket.
//!
//! Actions that concern only the socket, or that are never stored, are in `local_actions`.

use std::{future::Future, pin::Pin, sync::Arc};

use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    event::live,
    id::TeamId,
    rpc::{ActionReply, ActionRequest, SocketEffect, Surface, expiry},
    socket::push::UnsubscribedPush,
    subject::Channel,
};
use serde_json::value::RawValue;
use service::metric_names as names;

use super::{
    SessionState,
    envelope::SocketRequest,
    frame_scope, local_actions,
    subscriptions::{
        Joined, Left, SubscribeTarget, remove_subscription, unsubscribe_in_background, unwatch_team,
    },
};
use crate::outbox::{Outbox, close::CloseReason};
use crate::{encode::native, node::Node, shard::push_waiter::PushOutcome};

/// The changes that a finished action makes to its session.
#[derive(Debug, Default)]
pub(crate) struct ActionChanges {
    pub(super) joined: Option<Joined>,
    pub(super) left_channels: Vec<Left>,
    /// A team whose watch was begun for a room that the socket then could not follow.
    pub(super) unwatched_team: Option<TeamId>,
    pub(super) local: local_actions::LocalChange,
    /// The error with which the action was refused.
    pub(super) refused: Option<Error>,
}

/// An action under way.
pub(crate) type RunningAction = Pin<Box<dyn Future<Output = ActionChanges> + Send>>;

/// What an action under way needs of its session.
pub(super) struct ActionContext {
    pub(super) node: Arc<Node>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) caller: Caller,
    pub(super) socket_id: u64,
    pub(super) frame_number: u64,
}

/// Begins the action of a frame; `None` if it is answered already. If `rate_check` is an error, the action is refused
/// with it.
pub(crate) fn begin(
    node: &Arc<Node>,
    state: &SessionState,
    outbox: &Arc<Outbox>,
    text: &str,
    rate_check: Result<(), Error>,
) -> Option<RunningAction> {
    let (request, raw) = match SocketRequest::parse(text) {
        Ok(read) => read,
        Err(refusal) => {
            outbox.push(refusal);
            return None;
        }
    };
    let frame = raw.get();
    if let Err(error) = rate_check
        .and_then(|()| frame_scope::require_channel_below_limit(&node.limits, state, &request.action, frame))
    {
        outbox.push(request.refusal_frame(error.code.status(), &error.detail));
        return None;
    }
    let context = ActionContext {
        node: node.clone(),
        outbox: outbox.clone(),
        caller: state.caller.clone(),
        socket_id: state.socket_id,
        frame_number: state.frames_read,
    };
    if state.surface == Surface::Native
        && let Some(action) = local_actions::LocalAction::named(&request.action)
    {
        return local_actions::begin(action, context, state, &request, frame);
    }
    let (rooms, pairs) = frame_scope::rooms_for_api(state, frame);
    let action_request = ActionRequest {
        caller: state.caller.clone(),
        action: request.action.clone(),
        surface: state.surface,
        rooms,
        pairs,
        key: format!("{:016x}:{}:{}", node.process_id, state.socket_id, state.frames_read),
        request: format!("{:08x}-{}-{}", node.process_id >> 32, state.socket_id, state.frames_read),
        frame: raw.to_owned(),
        expires_at: expiry(),
    };
    Some(Box::pin(async move { context.decide(request, &action_request).await }))
}

impl ActionContext {
    /// Has api decide, applies the effect to the socket, and answers.
    async fn decide(self, request: SocketRequest, action_request: &ActionRequest) -> ActionChanges {
        match self.node.api.action(action_request).await {
            Ok(reply) => self.apply(request, action_request, reply).await,
            Err(error) => {
                self.outbox.push(request.refusal_frame(error.code.status(), &error.detail));
                ActionChanges { refused: Some(error), ..ActionChanges::default() }
            }
        }
    }

    /// Applies the effect that api's reply has on the socket, and answers.
    pub(super) async fn apply(
        self,
        request: SocketRequest,
        action_request: &ActionRequest,
        reply: ActionReply,
    ) -> ActionChanges {
        let answer = |reply: &ActionReply| {
            let data = reply.data.as_deref().map(RawValue::get);
            self.outbox.push_answer(request.answer_frame(reply.status, &reply.errors, data));
        };
        let channel_to_leave = match reply.effect.clone() {
            Some(SocketEffect::Subscribe { channel, participant, since, epoch, grant }) => {
                // Match sockets are in one room at a time.
                let is_in_one = action_request.surface != Surface::Native;
                let others =
                    action_request.rooms.iter().filter(|_| is_in_one).map(|room| Channel::Room(*room));
                let others = others.filter(|other| *other != channel).collect();
                let target = SubscribeTarget { channel, is_participant: participant, since, epoch, grant };
                return self.subscribe(request, &reply, target, others).await;
            }
            Some(SocketEffect::Leave { room }) => Some(Channel::Room(room)),
            Some(SocketEffect::Appended { room, seq }) => {
                match self.node.wait_until_pushed(&Channel::Room(room), self.socket_id, seq).await {
                    PushOutcome::Pushed => return ActionChanges::default(),
                    PushOutcome::NotSubscribed => None,
                    PushOutcome::Unknown => {
                        // The push may still follow, so an answer here might be the second. After a resume the client
                        // has the event exactly once.
                        self.outbox.close(CloseReason::Heal);
                        return ActionChanges::default();
                    }
                }
            }
            Some(SocketEffect::Unknown) => {
                let code = ErrorCode::Unavailable;
                let text =
                    "This node does not know yet what the action does to a socket. Try again on a new one.";
                self.outbox.push(request.answer_frame(code.status(), &[text.to_owned()], None));
                return ActionChanges::default();
            }
            None => None,
        };
        let left_channels = match channel_to_leave {
            Some(channel) => vec![self.unsubscribe(channel).await],
            None => vec![],
        };
        answer(&reply);
        ActionChanges { left_channels, refused: refusal(&reply), ..ActionChanges::default() }
    }
}

/// The error with which api has refused an action, if it has.
fn refusal(reply: &ActionReply) -> Option<Error> {
    let code = match reply.status {
        ..400 => return None,
        503 => ErrorCode::Unavailable,
        status => *ErrorCode::ALL.iter().find(|code| code.status() == status).unwrap_or(&ErrorCode::Internal),
    };
    Some(Error::new(code, reply.errors.join(" ")))
}

/// Applies the changes of a finished action to the session's state, and to presence.
pub(crate) fn apply_changes(node: &Arc<Node>, state: &mut SessionState, changes: ActionChanges) {
    changes.local.apply(state);
    for Left { channel } in changes.left_channels {
        remove_subscription(node, state, &channel);
    }
    if let Some(joined) = changes.joined {
        if let (Channel::Room(room), true) = (&joined.channel, joined.is_pair) {
            state.pair_rooms.insert(*room);
        }
        if let (Channel::Room(room), true) = (&joined.channel, joined.is_participant)
            && state.rooms.insert(*room)
        {
            node.presence.enter(Some(*room), state.caller.user.clone());
        }
        if let (Channel::Room(room), Some(team)) = (&joined.channel, joined.team) {
            state.team_rooms.insert(*room, (team, joined.frame_number));
        }
        state.subscriptions.insert(joined.channel, joined.frame_number);
    }
    if let Some(team) = changes.unwatched_team {
        unwatch_team(node, state, team);
    }
}

/// Applies the end of a right: the socket no longer follows the channel, nor the rooms that it followed as a member of
/// the team, as far as frames up to `frame_number` asked for them. Subscriptions by later frames stay.
pub(crate) fn apply_eviction(
    node: &Arc<Node>,
    state: &mut SessionState,
    outbox: &Outbox,
    channel: &Channel,
    frame_number: u64,
) {
    let mut evicted_channels: Vec<Channel> = Vec::new();
    if let Channel::Team(team) = channel {
        let rooms = state
            .team_rooms
            .iter()
            .filter(|(_, (granted, asked_in))| granted == team && *asked_in <= frame_number);
        evicted_channels.extend(rooms.map(|(room, _)| Channel::Room(*room)));
    }
    if state.subscriptions.get(channel) == Some(&frame_number) {
        evicted_channels.push(channel.clone());
    }
    for evicted in evicted_channels {
        metrics::counter!(names::EVICTIONS_TOTAL, "cause" => "log").increment(1);
        if state.surface == Surface::Native {
            let frame = native::unstored_push_frame(
                &evicted,
                live::UNSUBSCRIBED,
                &local_actions::json(&UnsubscribedPush { reason: "forbidden" }).into_bytes(),
            );
            outbox.push(frame);
        }
        remove_subscription(node, state, &evicted);
        // The channel's shard has removed the socket from that channel already, but not from the team's rooms.
        if evicted != *channel {
            unsubscribe_in_background(node, state, evicted, false);
        }
    }
}

/// Ends all subscriptions of a closed socket, and begins the grace of its person in each room.
pub(crate) async fn unsubscribe_from_all(node: &Node, state: &mut SessionState) {
    for room in std::mem::take(&mut state.rooms) {
        node.presence.socket_closed(Some(room), state.caller.user.clone());
    }
    for (team, _) in std::mem::take(&mut state.team_rooms).into_values() {
        node.unsubscribe(Channel::Team(team), state.socket_id, state.frames_read, true).await;
    }
    for channel in std::mem::take(&mut state.subscriptions).into_keys() {
        node.unsubscribe(channel, state.socket_id, state.frames_read, false).await;
    }
}
