//! Handles actions that api does not decide: those that concern only the socket, and those that are never stored.
//!
//! `signal` asks api first whether the sender may signal the recipient, and remembers a yes for a minute.
//! `authenticate` has api store what the token says about its person.

use std::{collections::HashMap, time::Duration};

pub(super) use protocol::socket::local::LocalAction;
use protocol::{
    caller::Caller,
    event::live,
    id::{RoomId, UserId},
    rpc::{SignalRequest, expiry},
    socket::{
        LeftRoom, RoomFrame,
        local::{AuthenticateFrame, SignalFrame, UnsubscribeFrame},
        push,
    },
    subject::Channel,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{
    SessionState,
    action::{ActionChanges, ActionContext, RunningAction},
    envelope::SocketRequest,
    token_expiry,
};

/// Minimum interval between two `typing` events of a socket. Actions in between are answered and not published.
const TYPING_INTERVAL: Duration = Duration::from_secs(1);
/// How long api's permission to signal a person counts.
const SIGNAL_PERMISSION_LIFETIME: Duration = Duration::from_secs(60);
/// Maximum bytes of a signal's data: many times the size of a session description of a call.
const SIGNAL_MAX_BYTES: usize = 16 << 10;
/// Maximum permissions to signal people that a socket remembers.
const SIGNAL_PERMISSIONS_MAX: usize = 64;

/// The changes that a local action makes to its session.
#[derive(Debug, Default)]
pub(super) struct LocalChange {
    typing_at: Option<Instant>,
    allowed_signals_to: Option<UserId>,
    new_caller: Option<(Caller, Instant)>,
}

impl LocalChange {
    pub(super) fn apply(self, state: &mut SessionState) {
        state.last_typing_at = self.typing_at.or(state.last_typing_at);
        if let Some(user) = self.allowed_signals_to {
            state.signal_permissions.retain(|_, since| since.elapsed() < SIGNAL_PERMISSION_LIFETIME);
            if state.signal_permissions.len() < SIGNAL_PERMISSIONS_MAX {
                state.signal_permissions.insert(user, Instant::now());
            }
        }
        if let Some((caller, expires)) = self.new_caller {
            if caller != state.caller {
                // The old caller has these permissions, which the new one may not have.
                state.signal_permissions.clear();
            }
            state.caller = caller;
            state.expires_at = expires;
        }
    }
}

/// People whom a socket may signal, with the time of api's permission.
pub(super) type SignalPermissions = HashMap<UserId, Instant>;

fn parse<T: DeserializeOwned>(frame: &str) -> Result<T, String> {
    serde_json::from_str(frame).map_err(|error| {
        let reason = error.to_string();
        format!("{}.", reason.split(" at line ").next().unwrap_or(""))
    })
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("text keys and no failing serializer")
}

/// Begins a local action; `None` if it is answered already.
pub(super) fn begin(
    action: LocalAction,
    context: ActionContext,
    state: &SessionState,
    request: &SocketRequest,
    frame: &str,
) -> Option<RunningAction> {
    let outbox = context.outbox.clone();
    let result = match action {
        LocalAction::Ping => {
            outbox.push(request.answer_frame(200, &[], Some("{}")));
            Ok(None)
        }
        LocalAction::Unsubscribe => unsubscribe(context, state, request, frame).map(Some),
        LocalAction::LeaveRoom => leave_room(context, state, request, frame).map(Some),
        LocalAction::Typing => typing(context, state, request, frame),
        LocalAction::Signal => signal(context, state, request, frame).map(Some),
        LocalAction::Authenticate => authenticate(context, state, request, frame).map(Some),
    };
    match result {
        Ok(running_action) => running_action,
        Err((status, detail)) => {
            outbox.push(request.refusal_frame(status, &detail));
            None
        }
    }
}

type Refusal = (u16, String);

fn unsubscribe(
    context: ActionContext,
    state: &SessionState,
    request: &SocketRequest,
    frame: &str,
) -> Result<RunningAction, Refusal> {
    let frame = parse::<UnsubscribeFrame>(frame).ok();
    let Some(channel) = frame.map(|frame| frame.channel).filter(|c| state.subscriptions.contains_key(c))
    else {
        return Err((400, "channel: must be one that this socket follows.".to_owned()));
    };
    let (data, request) = (json(&UnsubscribeFrame { channel: channel.clone() }), request.clone());
    Ok(context.unsubscribe_and_answer(channel, request, data))
}

fn leave_room(
    context: ActionContext,
    state: &SessionState,
    request: &SocketRequest,
    frame: &str,
) -> Result<RunningAction, Refusal> {
    let room = room(state, frame)?;
    Ok(context.unsubscribe_and_answer(Channel::Room(room), request.clone(), json(&LeftRoom::of(room))))
}

/// The room that a frame names, or the only one that the socket is in.
fn room(state: &SessionState, frame: &str) -> Result<RoomId, Refusal> {
    let frame = parse::<RoomFrame>(frame).map_err(|detail| (400, detail))?;
    let only = (state.rooms.len() == 1).then(|| state.rooms.iter().next().copied()).flatten();
    let room = frame.room_pk.or(only).filter(|room| state.rooms.contains(room));
    room.ok_or_else(|| (400, "room_pk: must be a room that this socket is in.".to_owned()))
}

fn typing(
    context: ActionContext,
    state: &SessionState,
    request: &SocketRequest,
    frame: &str,
) -> Result<Option<RunningAction>, Refusal> {
    let room = room(state, frame)?;
    context.outbox.push(request.answer_frame(200, &[], Some("{}")));
    if state.last_typing_at.is_some_and(|typed| typed.elapsed() < TYPING_INTERVAL) {
        return Ok(None);
    }
    let subject = Channel::Room(room).unstored_subject(context.node.shards, live::TYPING);
    let payload = json(&push::TypingPush { user: &context.caller.user, room });
    Ok(Some(Box::pin(async move {
        context.publish(subject, payload).await;
        let local = LocalChange { typing_at: Some(Instant::now()), ..LocalChange::default() };
        ActionChanges { local, ..ActionChanges::default() }
    })))
}

fn signal(
    context: ActionContext,
    state: &SessionState,
    request: &SocketRequest,
    frame: &str,
) -> Result<RunningAction, Refusal> {
    let SignalFrame { user, data } = parse::<SignalFrame>(frame).map_err(|detail| (400, detail))?;
    if data.get().len() > SIGNAL_MAX_BYTES {
        return Err((400, format!("data: must have at most {SIGNAL_MAX_BYTES} bytes.")));
    }
    let counted = context.node.limits.count_signal(&context.caller, &user);
    counted.map_err(|error| (error.code.status(), error.detail))?;
    let is_known =
        state.signal_permissions.get(&user).is_some_and(|since| since.elapsed() < SIGNAL_PERMISSION_LIFETIME);
    let request = request.clone();
    Ok(Box::pin(async move {
        if !is_known {
            let signal_request =
                SignalRequest { caller: context.caller.clone(), user: user.clone(), expires_at: expiry() };
            if let Err(error) = context.node.api.require_signal(&signal_request).await {
                context.outbox.push(request.refusal_frame(error.code.status(), &error.detail));
                return ActionChanges::default();
            }
        }
        let subject = Channel::User(user.clone()).unstored_subject(context.node.shards, live::SIGNAL);
        let payload = json(&push::SignalPush { user: &context.caller.user, data: &data });
        context.publish(subject, payload).await;
        context.outbox.push(request.answer_frame(200, &[], Some("{}")));
        let local =
            LocalChange { allowed_signals_to: Some(user).filter(|_| !is_known), ..LocalChange::default() };
        ActionChanges { local, ..ActionChanges::default() }
    }))
}

/// Takes a new token of the same person: the socket stays open until this token expires, and api stores what the token
/// says about the person. If it changes the person's rights, the shards ask api whether the socket may go on following
/// its channels.
fn authenticate(
    context: ActionContext,
    state: &SessionState,
    request: &SocketRequest,
    frame: &str,
) -> Result<RunningAction, Refusal> {
    let AuthenticateFrame { token } = parse::<AuthenticateFrame>(frame).map_err(|detail| (400, detail))?;
    let identity = context.node.verifier.identify(&token).map_err(|error| (401, error.to_string()))?;
    if identity.caller.user != context.caller.user {
        return Err((403, "The token is another person's.".to_owned()));
    }
    let until = token_expiry(&identity);
    let mut channels = Vec::new();
    if identity.caller != context.caller {
        channels.extend(state.subscriptions.keys().cloned());
        channels.extend(state.team_rooms.values().map(|(team, _)| Channel::Team(*team)));
    }
    let request = request.clone();
    Ok(Box::pin(async move {
        if let Err(error) = context.node.api.store_person(&identity).await {
            context.outbox.push(request.refusal_frame(error.code.status(), &error.detail));
            return ActionChanges::default();
        }
        for channel in channels {
            context.node.change_caller(channel, context.socket_id, identity.caller.clone()).await;
        }
        context.outbox.push(request.answer_frame(200, &[], Some("{}")));
        let local =
            LocalChange { new_caller: Some((identity.caller.clone(), until)), ..LocalChange::default() };
        ActionChanges { local, ..ActionChanges::default() }
    }))
}

impl ActionContext {
    /// Stops following a channel, and answers after its last push.
    fn unsubscribe_and_answer(self, channel: Channel, request: SocketRequest, data: String) -> RunningAction {
        Box::pin(async move {
            let left_channels = vec![self.unsubscribe(channel).await];
            self.outbox.push(request.answer_frame(200, &[], Some(&data)));
            ActionChanges { left_channels, ..ActionChanges::default() }
        })
    }

    async fn publish(&self, subject: String, payload: String) {
        if let Err(error) = self.node.unstored_client.publish(subject, payload.into()).await {
            tracing::debug!(%error, "a typing or signal event was not published: it is lost");
        }
    }
}
