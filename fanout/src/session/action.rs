//! Actions of a socket: api decides each, and this applies what it decides.
//!
//! What concerns the socket alone, and what is never stored, is in `local`.

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
    State,
    close::CloseReason,
    concerned,
    envelope::Request,
    follow::{Joined, Left, Target, forget, unfollow, unguard},
    local,
    outbox::Outbox,
};
use crate::{node::Node, render::native};

/// What an action has changed for its socket.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(super) followed: Option<Joined>,
    pub(super) left: Vec<Left>,
    /// A team that is guarded for a room which is not followed.
    pub(super) unguarded: Option<TeamId>,
    pub(super) local: local::Change,
    /// Why it changed nothing.
    pub(super) refused: Option<Error>,
}

/// An action on its way.
pub(crate) type Underway = Pin<Box<dyn Future<Output = Applied> + Send>>;

/// The socket that asks, for as long as an action is under way.
pub(super) struct Asker {
    pub(super) node: Arc<Node>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) caller: Caller,
    pub(super) connection: u64,
    pub(super) frame: u64,
}

/// Begins an action; `None` where it is answered already. Where `counted` says that it is one too many, nothing of
/// it is done.
pub(crate) fn begin(
    node: &Arc<Node>,
    state: &State,
    outbox: &Arc<Outbox>,
    text: &str,
    counted: Result<(), Error>,
) -> Option<Underway> {
    let (request, raw) = match Request::read(text) {
        Ok(read) => read,
        Err(refusal) => {
            outbox.push(refusal);
            return None;
        }
    };
    let frame = raw.get();
    if let Err(error) =
        counted.and_then(|()| concerned::new_channel(&node.limits, state, &request.action, frame))
    {
        outbox.push(request.refuse(error.code.status(), &error.detail));
        return None;
    }
    let asker = Asker {
        node: node.clone(),
        outbox: outbox.clone(),
        caller: state.caller.clone(),
        connection: state.connection,
        frame: state.frames,
    };
    if state.surface == Surface::Native
        && let Some(action) = local::LocalAction::named(&request.action)
    {
        return local::begin(action, asker, state, &request, frame);
    }
    let (rooms, pairs) = concerned::rooms(state, frame);
    let ask = ActionRequest {
        caller: state.caller.clone(),
        action: request.action.clone(),
        surface: state.surface,
        rooms,
        pairs,
        key: format!("{:016x}:{}:{}", node.process, state.connection, state.frames),
        request: format!("{:08x}-{}-{}", node.process >> 32, state.connection, state.frames),
        frame: raw.to_owned(),
        expires_at: expiry(),
    };
    Some(Box::pin(async move { asker.decide(request, &ask).await }))
}

impl Asker {
    /// Has api decide, applies the effect, answers.
    async fn decide(self, request: Request, ask: &ActionRequest) -> Applied {
        match self.node.ask.action(ask).await {
            Ok(reply) => self.apply(request, ask, reply).await,
            Err(error) => {
                self.outbox.push(request.refuse(error.code.status(), &error.detail));
                Applied { refused: Some(error), ..Applied::default() }
            }
        }
    }

    pub(super) async fn apply(self, request: Request, ask: &ActionRequest, reply: ActionReply) -> Applied {
        let answer = |reply: &ActionReply| {
            let data = reply.data.as_deref().map(RawValue::get);
            self.outbox.push_answer(request.answer(reply.status, &reply.errors, data));
        };
        let left = match reply.effect.clone() {
            Some(SocketEffect::Subscribe { channel, participant, since, epoch, grant }) => {
                // Some sockets are in one room at a time.
                let is_in_one = ask.surface != Surface::Native;
                let others = ask.rooms.iter().filter(|_| is_in_one).map(|room| Channel::Room(*room));
                let others = others.filter(|other| *other != channel).collect();
                let target = Target { channel, participant, since, epoch, grant };
                return self.follow(request, &reply, target, others).await;
            }
            Some(SocketEffect::Leave { room }) => Some(Channel::Room(room)),
            Some(SocketEffect::Appended { room, seq }) => {
                match self.node.pushed(&Channel::Room(room), self.connection, seq).await {
                    Some(true) => return Applied::default(),
                    Some(false) => None,
                    None => {
                        // It may come yet: only one that comes back can be sure to be told once.
                        self.outbox.close(CloseReason::Heal);
                        return Applied::default();
                    }
                }
            }
            Some(SocketEffect::Unknown) => {
                let code = ErrorCode::Unavailable;
                let text =
                    "This node does not know yet what the action does to a socket. Try again on a new one.";
                self.outbox.push(request.answer(code.status(), &[text.to_owned()], None));
                return Applied::default();
            }
            None => None,
        };
        let left = match left {
            Some(channel) => vec![self.unfollow(channel).await],
            None => vec![],
        };
        answer(&reply);
        Applied { left, refused: refusal(&reply), ..Applied::default() }
    }
}

/// Why api has refused an action.
fn refusal(reply: &ActionReply) -> Option<Error> {
    let code = match reply.status {
        ..400 => return None,
        503 => ErrorCode::Unavailable,
        status => *ErrorCode::ALL.iter().find(|code| code.status() == status).unwrap_or(&ErrorCode::Internal),
    };
    Some(Error::new(code, reply.errors.join(" ")))
}

/// Makes what an action has changed part of the session's state.
pub(crate) fn settle(node: &Arc<Node>, state: &mut State, applied: Applied) {
    applied.local.settle(state);
    for Left { channel } in applied.left {
        forget(node, state, &channel);
    }
    if let Some(joined) = applied.followed {
        if let (Channel::Room(room), true) = (&joined.channel, joined.pair) {
            state.pairs.insert(*room);
        }
        if let (Channel::Room(room), true) = (&joined.channel, joined.participant)
            && state.rooms.insert(*room)
        {
            node.presence.enter(Some(*room), state.caller.user.clone());
        }
        if let (Channel::Room(room), Some(team)) = (&joined.channel, joined.team) {
            state.teams.insert(*room, (team, joined.frame));
        }
        state.channels.insert(joined.channel, joined.frame);
    }
    if let Some(team) = applied.unguarded {
        unguard(node, state, team);
    }
}

/// A right has ended: the socket is out of the channel, or of the team's rooms, by that frame's
/// asking. What it has asked for since stands.
pub(crate) fn evicted(node: &Arc<Node>, state: &mut State, outbox: &Outbox, channel: &Channel, frame: u64) {
    let mut out: Vec<Channel> = Vec::new();
    if let Channel::Team(team) = channel {
        let rooms = state.teams.iter().filter(|(_, (granted, by))| granted == team && *by <= frame);
        out.extend(rooms.map(|(room, _)| Channel::Room(*room)));
    }
    if state.channels.get(channel) == Some(&frame) {
        out.push(channel.clone());
    }
    for evicted in out {
        metrics::counter!(names::EVICTIONS_TOTAL, "cause" => "log").increment(1);
        if state.surface == Surface::Native {
            let frame = native::push_unstored(
                &evicted,
                live::UNSUBSCRIBED,
                &local::json(&UnsubscribedPush { reason: "forbidden" }).into_bytes(),
            );
            outbox.push(frame);
        }
        forget(node, state, &evicted);
        // Its own task has put it out of the channel; a team's rooms are left by their sockets themselves.
        if evicted != *channel {
            unfollow(node, state, evicted, false);
        }
    }
}

/// The socket is closed: it follows nothing any more, and its person may come back.
pub(crate) async fn leave_everything(node: &Node, state: &mut State) {
    for room in std::mem::take(&mut state.rooms) {
        node.presence.lose(Some(room), state.caller.user.clone());
    }
    for (team, _) in std::mem::take(&mut state.teams).into_values() {
        node.unfollow(Channel::Team(team), state.connection, state.frames, true).await;
    }
    for channel in std::mem::take(&mut state.channels).into_keys() {
        node.unfollow(channel, state.connection, state.frames, false).await;
    }
}
