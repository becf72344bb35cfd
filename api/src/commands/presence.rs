//! Appends joins and leaves as reported by the fan-out node that holds the sockets.

use crate::append::MsgId;
use protocol::{
    error::Error,
    event::{Event, Online, Participant, header},
    rpc::PresenceChange,
    subject::Channel,
};

use super::{
    log_write::{self, WriteRequest},
    request_context::RequestContext,
};
use crate::commands::state::CommandState;

/// Appends one presence change of a person. The message id is made from the node's incarnation and counter, so each
/// change is stored once.
pub(crate) async fn append_presence_change(
    api: &CommandState,
    incarnation: u64,
    change: PresenceChange,
    request: &RequestContext<'_>,
) -> Result<(), Error> {
    let PresenceChange { room, user, joined, counter } = change;
    let (channel, event) = match (room, joined) {
        (Some(room), true) => {
            (Channel::Room(room), Event::ParticipantJoin(Participant { user: user.clone(), room }))
        }
        (Some(room), false) => {
            (Channel::Room(room), Event::ParticipantLeave(Participant { user: user.clone(), room }))
        }
        (None, true) => (Channel::User(user.clone()), Event::Online(Online { user: user.clone() })),
        (None, false) => (Channel::User(user.clone()), Event::Offline(Online { user: user.clone() })),
    };
    let id = MsgId::new(&user, &channel, event.name(), &format!("{incarnation}:{counter}"));
    let headers =
        vec![(header::INCARNATION, incarnation.to_string()), (header::COUNTER, counter.to_string())];
    log_write::append(api, request, WriteRequest { channel: &channel, event, id, headers }).await.map(drop)
}
