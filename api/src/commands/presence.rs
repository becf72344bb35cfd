//! Who is in a room: told by the node that holds their sockets.

use shared::{
    error::Error,
    event::{Event, Participant, header},
    log::{Append, MsgId},
    rpc::PresenceRequest,
    subject::Channel,
};
use tokio::time::Instant;

use crate::state::Shared;

/// Appends a join or a leave. The node's counter makes each one its own.
pub(crate) async fn tell(api: &Shared, request: PresenceRequest, deadline: Instant) -> Result<(), Error> {
    let channel = Channel::Room(request.room);
    let participant = Participant { user: request.user.clone(), room: request.room };
    let event = if request.joined {
        Event::ParticipantJoin(participant)
    } else {
        Event::ParticipantLeave(participant)
    };
    let incarnation = request.incarnation.to_string();
    let id = MsgId::new(&request.user, &channel, event.name(), &format!("{incarnation}:{}", request.counter));
    let headers = vec![(header::INCARNATION, incarnation), (header::COUNTER, request.counter.to_string())];
    api.append(Append { channel: &channel, event: &event, key: None, id, headers }, deadline).await?;
    Ok(())
}
