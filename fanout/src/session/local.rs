//! Actions that no api node need decide: what concerns the socket alone, and what is never stored.
//!
//! `signal` alone asks api first, whether the two may: a yes is kept for a minute.

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
    State,
    action::{Applied, Asker, Underway},
    envelope::Request,
    expires,
};

/// Between two `typing` that a socket may send on: more often helps nobody.
const TYPING: Duration = Duration::from_secs(1);
/// How long a yes to signals counts.
const SIGNALS: Duration = Duration::from_secs(60);
/// The longest data of a signal: many times what a description of a call needs.
const SIGNAL_MAX_BYTES: usize = 16 << 10;
/// People that a socket is remembered to be allowed to signal.
const SIGNALLED: usize = 64;

/// What a local action changes of its session.
#[derive(Debug, Default)]
pub(super) struct Change {
    typed: Option<Instant>,
    may_signal: Option<UserId>,
    token: Option<(Caller, Instant)>,
}

impl Change {
    pub(super) fn settle(self, state: &mut State) {
        state.typed = self.typed.or(state.typed);
        if let Some(user) = self.may_signal {
            state.may_signal.retain(|_, since| since.elapsed() < SIGNALS);
            if state.may_signal.len() < SIGNALLED {
                state.may_signal.insert(user, Instant::now());
            }
        }
        if let Some((caller, expires)) = self.token {
            if caller != state.caller {
                // By its old rights it was allowed to.
                state.may_signal.clear();
            }
            state.caller = caller;
            state.expires = expires;
        }
    }
}

/// People whom a socket may signal, since when.
pub(super) type MaySignal = HashMap<UserId, Instant>;

fn read<T: DeserializeOwned>(frame: &str) -> Result<T, String> {
    serde_json::from_str(frame).map_err(|error| {
        let reason = error.to_string();
        format!("{}.", reason.split(" at line ").next().unwrap_or(""))
    })
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("text keys and no failing serializer")
}

/// Begins one; `None` where it is answered already.
pub(super) fn begin(
    action: LocalAction,
    asker: Asker,
    state: &State,
    request: &Request,
    frame: &str,
) -> Option<Underway> {
    let outbox = asker.outbox.clone();
    let begun = match action {
        LocalAction::Ping => {
            outbox.push(request.answer(200, &[], Some("{}")));
            Ok(None)
        }
        LocalAction::Unsubscribe => unsubscribe(asker, state, request, frame).map(Some),
        LocalAction::LeaveRoom => leave(asker, state, request, frame).map(Some),
        LocalAction::Typing => typing(asker, state, request, frame),
        LocalAction::Signal => signal(asker, state, request, frame).map(Some),
        LocalAction::Authenticate => authenticate(asker, state, request, frame).map(Some),
    };
    match begun {
        Ok(underway) => underway,
        Err((status, detail)) => {
            outbox.push(request.refuse(status, &detail));
            None
        }
    }
}

type Refusal = (u16, String);

fn unsubscribe(asker: Asker, state: &State, request: &Request, frame: &str) -> Result<Underway, Refusal> {
    let asked = read::<UnsubscribeFrame>(frame).ok();
    let Some(channel) = asked.map(|asked| asked.channel).filter(|c| state.channels.contains_key(c)) else {
        return Err((400, "channel: must be one that this socket follows.".to_owned()));
    };
    let (data, request) = (json(&UnsubscribeFrame { channel: channel.clone() }), request.clone());
    Ok(asker.out_of(channel, request, data))
}

fn leave(asker: Asker, state: &State, request: &Request, frame: &str) -> Result<Underway, Refusal> {
    let room = room(state, frame)?;
    Ok(asker.out_of(Channel::Room(room), request.clone(), json(&LeftRoom::of(room))))
}

/// The room that an action names, or the only one that the socket is in.
fn room(state: &State, frame: &str) -> Result<RoomId, Refusal> {
    let asked = read::<RoomFrame>(frame).map_err(|detail| (400, detail))?;
    let only = (state.rooms.len() == 1).then(|| state.rooms.iter().next().copied()).flatten();
    let room = asked.room_pk.or(only).filter(|room| state.rooms.contains(room));
    room.ok_or_else(|| (400, "room_pk: must be a room that this socket is in.".to_owned()))
}

fn typing(asker: Asker, state: &State, request: &Request, frame: &str) -> Result<Option<Underway>, Refusal> {
    let room = room(state, frame)?;
    asker.outbox.push(request.answer(200, &[], Some("{}")));
    if state.typed.is_some_and(|typed| typed.elapsed() < TYPING) {
        return Ok(None);
    }
    let subject = Channel::Room(room).unstored_subject(asker.node.shards, live::TYPING);
    let payload = json(&push::TypingPush { user: &asker.caller.user, room });
    Ok(Some(Box::pin(async move {
        asker.publish(subject, payload).await;
        let local = Change { typed: Some(Instant::now()), ..Change::default() };
        Applied { local, ..Applied::default() }
    })))
}

fn signal(asker: Asker, state: &State, request: &Request, frame: &str) -> Result<Underway, Refusal> {
    let SignalFrame { user, data } = read::<SignalFrame>(frame).map_err(|detail| (400, detail))?;
    if data.get().len() > SIGNAL_MAX_BYTES {
        return Err((400, format!("data: must have at most {SIGNAL_MAX_BYTES} bytes.")));
    }
    let counted = asker.node.limits.signal(&asker.caller, &user);
    counted.map_err(|error| (error.code.status(), error.detail))?;
    let is_known = state.may_signal.get(&user).is_some_and(|since| since.elapsed() < SIGNALS);
    let request = request.clone();
    Ok(Box::pin(async move {
        if !is_known {
            let ask =
                SignalRequest { caller: asker.caller.clone(), user: user.clone(), expires_at: expiry() };
            if let Err(error) = asker.node.ask.signal(&ask).await {
                asker.outbox.push(request.refuse(error.code.status(), &error.detail));
                return Applied::default();
            }
        }
        let subject = Channel::User(user.clone()).unstored_subject(asker.node.shards, live::SIGNAL);
        let payload = json(&push::SignalPush { user: &asker.caller.user, data: &data });
        asker.publish(subject, payload).await;
        asker.outbox.push(request.answer(200, &[], Some("{}")));
        let local = Change { may_signal: Some(user).filter(|_| !is_known), ..Change::default() };
        Applied { local, ..Applied::default() }
    }))
}

/// A newer token of the same person: the socket lives as long as it does, and what it says of the person is stored.
/// Where it grants other rights, api is asked whether the socket may go on following what it does.
fn authenticate(asker: Asker, state: &State, request: &Request, frame: &str) -> Result<Underway, Refusal> {
    let AuthenticateFrame { token } = read::<AuthenticateFrame>(frame).map_err(|detail| (400, detail))?;
    let identity = asker.node.verifier.verify(&token).map_err(|error| (401, error.to_string()))?;
    if identity.caller.user != asker.caller.user {
        return Err((403, "The token is another person's.".to_owned()));
    }
    let until = expires(&identity);
    let mut channels = Vec::new();
    if identity.caller != asker.caller {
        channels.extend(state.channels.keys().cloned());
        channels.extend(state.teams.values().map(|(team, _)| Channel::Team(*team)));
    }
    let request = request.clone();
    Ok(Box::pin(async move {
        if let Err(error) = asker.node.ask.hello(&identity).await {
            asker.outbox.push(request.refuse(error.code.status(), &error.detail));
            return Applied::default();
        }
        for channel in channels {
            asker.node.change_caller(channel, asker.connection, identity.caller.clone()).await;
        }
        asker.outbox.push(request.answer(200, &[], Some("{}")));
        let local = Change { token: Some((identity.caller, until)), ..Change::default() };
        Applied { local, ..Applied::default() }
    }))
}

impl Asker {
    /// Follows a channel no more, and answers after the last of it.
    fn out_of(self, channel: Channel, request: Request, data: String) -> Underway {
        Box::pin(async move {
            let left = vec![self.unfollow(channel).await];
            self.outbox.push(request.answer(200, &[], Some(&data)));
            Applied { left, ..Applied::default() }
        })
    }

    async fn publish(&self, subject: String, payload: String) {
        if let Err(error) = self.node.client.publish(subject, payload.into()).await {
            tracing::debug!(%error, "what is never stored was lost");
        }
    }
}
