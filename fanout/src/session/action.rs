//! Actions of a socket: api decides each, and this applies what it decides.
//!
//! What concerns the socket alone, and what is never stored, is in `local`.

use std::{future::Future, pin::Pin, sync::Arc};

use serde_json::value::RawValue;
use shared::{
    event::live,
    id::TeamId,
    metric_names as names,
    rpc::{ActionReply, ActionRequest, Effect, Grant, Surface, expiry},
    rules::Caller,
    socket::push::Unsubscribed,
    subject::Channel,
};
use tokio::sync::oneshot;

use super::{State, close::CloseReason, envelope::Request, local, outbox::Outbox};
use crate::{
    hub::follower::{Answer, Follower},
    node::Node,
    render::{Form, native},
};

/// What an action has changed for its socket.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(super) followed: Option<Now>,
    pub(super) left: Option<Left>,
    pub(super) local: local::Change,
}

/// The socket follows a channel now.
#[derive(Debug)]
pub(super) struct Now {
    channel: Channel,
    /// Its person is a participant through it.
    participant: bool,
    /// The room is one of two.
    pair: bool,
    team: Option<TeamId>,
    frame: u64,
}

/// The socket follows a channel no more.
#[derive(Debug)]
pub(super) struct Left(Channel);

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

/// Begins an action; `None` where it is answered already.
pub(crate) fn begin(node: &Arc<Node>, state: &State, outbox: &Arc<Outbox>, text: &str) -> Option<Underway> {
    let (request, raw) = match Request::read(text) {
        Ok(read) => read,
        Err(refusal) => {
            outbox.push(refusal);
            return None;
        }
    };
    let asker = Asker {
        node: node.clone(),
        outbox: outbox.clone(),
        caller: state.caller.clone(),
        connection: state.connection,
        frame: state.frames,
    };
    if state.surface == Surface::Native
        && let Some(action) = local::Action::named(&request.action)
    {
        return local::begin(action, asker, state, &request, raw.get());
    }
    let ask = ActionRequest {
        caller: state.caller.clone(),
        action: request.action.clone(),
        surface: state.surface,
        rooms: state.rooms.iter().copied().collect(),
        pairs: state.pairs.iter().copied().collect(),
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
        let reply = match self.node.ask.action(ask).await {
            Ok(reply) => reply,
            Err(error) => {
                self.outbox.push(request.answer(error.code.status(), &[error.detail], None));
                return Applied::default();
            }
        };
        let answer = |reply: &ActionReply| {
            let data = reply.data.as_deref().map(RawValue::get);
            self.outbox.push(request.answer(reply.status, &reply.errors, data));
        };
        let left = match reply.effect.clone() {
            Some(Effect::Subscribe { channel, participant, since, epoch, grant }) => {
                if ask.surface != Surface::Native {
                    // One room at a time: the next one's answer comes after the last of this one's pushes.
                    for room in ask.rooms.iter().filter(|room| channel != Channel::Room(**room)) {
                        self.node.unfollow(Channel::Room(*room), self.connection, self.frame, false).await;
                    }
                }
                return self.follow(request, &reply, channel, participant, (since, epoch), grant).await;
            }
            Some(Effect::Leave { room }) => Some(Channel::Room(room)),
            Some(Effect::Appended { room, seq }) => {
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
            None => None,
        };
        let left = match left {
            Some(channel) => Some(self.unfollow(channel).await),
            None => None,
        };
        answer(&reply);
        Applied { left, ..Applied::default() }
    }

    /// Nothing more of the channel is pushed: so its answer is the last of it.
    pub(super) async fn unfollow(&self, channel: Channel) -> Left {
        self.node.unfollow(channel.clone(), self.connection, self.frame, false).await;
        Left(channel)
    }

    async fn follow(
        self,
        request: Request,
        reply: &ActionReply,
        channel: Channel,
        participant: bool,
        (since, epoch): (Option<u64>, Option<u64>),
        grant: Option<Grant>,
    ) -> Applied {
        let follower = |answer, done, since, epoch, grant| Follower {
            connection: self.connection,
            frame: self.frame,
            caller: self.caller.clone(),
            outbox: self.outbox.clone(),
            since,
            epoch,
            grant,
            answer,
            done,
        };
        let follow = async |channel: &Channel, answer: Option<Answer>, since, epoch, grant| {
            let (done, followed) = oneshot::channel();
            let follower = follower(answer, done, since, epoch, grant);
            self.node.follow(channel.clone(), follower).await;
            followed.await.ok()
        };
        let team = grant.and_then(|grant| grant.team);
        let mut stands = Some(true);
        if let Some(team) = team {
            // Who belongs to the team no more may not be here either.
            let right = Grant { public: false, pair: false, as_of: team.as_of, team: None, last_event: 0 };
            stands = follow(&Channel::Team(team.team), None, None, None, Some(right)).await;
        }
        if stands == Some(true) {
            let answer = match self.outbox.form() {
                Form::Native | Form::Deflated => request.clone().following(reply),
                Form::Match => request.clone().plain(reply),
            };
            let answer = Some(answer);
            stands = follow(&channel, answer, since, epoch, grant).await;
        }
        let followed = match stands {
            Some(true) => {
                let team = team.map(|team| team.team);
                let pair = grant.is_some_and(|grant| grant.pair);
                Some(Now { channel, participant, pair, team, frame: self.frame })
            }
            Some(false) => {
                self.outbox.push(request.refuse(404, "Not found."));
                None
            }
            None => {
                self.outbox.push(request.refuse(503, "The channel can't be followed now. Try again."));
                None
            }
        };
        Applied { followed, ..Applied::default() }
    }
}

/// Makes what an action has changed part of the session's state.
pub(crate) fn settle(node: &Arc<Node>, state: &mut State, applied: Applied) {
    applied.local.settle(state);
    if let Some(now) = applied.followed {
        if state.surface != Surface::Native {
            let others = state.rooms.iter().map(|room| Channel::Room(*room));
            for channel in others.filter(|channel| *channel != now.channel).collect::<Vec<_>>() {
                forget(node, state, &channel);
            }
        }
        if let (Channel::Room(room), true) = (&now.channel, now.pair) {
            state.pairs.insert(*room);
        }
        if let (Channel::Room(room), true) = (&now.channel, now.participant)
            && state.rooms.insert(*room)
        {
            node.presence.enter(Some(*room), state.caller.user.clone());
        }
        if let (Channel::Room(room), Some(team)) = (&now.channel, now.team) {
            state.teams.insert(*room, (team, now.frame));
        }
        state.channels.insert(now.channel, now.frame);
    }
    if let Some(Left(channel)) = applied.left {
        forget(node, state, &channel);
    }
}

/// The socket follows a channel no more, and its person has left the room.
fn forget(node: &Arc<Node>, state: &mut State, channel: &Channel) {
    if let Channel::Room(room) = channel {
        state.pairs.remove(room);
        if state.rooms.remove(room) {
            node.presence.leave(Some(*room), state.caller.user.clone());
        }
        if let Some((team, _)) = state.teams.remove(room)
            && !state.teams.values().any(|(other, _)| *other == team)
        {
            unfollow(node, state, Channel::Team(team), true);
        }
    }
    state.channels.remove(channel);
}

/// Ends, beside the session, what its frames up to now have asked for.
fn unfollow(node: &Arc<Node>, state: &State, channel: Channel, guard: bool) {
    let (node, connection, frame) = (node.clone(), state.connection, state.frames);
    tokio::spawn(async move { node.unfollow(channel, connection, frame, guard).await });
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
    for channel in out {
        metrics::counter!(names::EVICTIONS_TOTAL, "cause" => "log").increment(1);
        if state.surface == Surface::Native {
            let frame = native::push_unstored(
                &channel,
                live::UNSUBSCRIBED,
                &local::json(&Unsubscribed { reason: "forbidden" }).into_bytes(),
            );
            outbox.push(frame);
        }
        forget(node, state, &channel);
        // A team's rooms are left by their sockets themselves.
        unfollow(node, state, channel, false);
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
