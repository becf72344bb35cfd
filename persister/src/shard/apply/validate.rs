//! Checks whether a decoded event can be applied: its ids fit the schema, and it is in the channel that it names.

use protocol::{event::Event, id::MAX_ID, subject::Channel};

/// Requires that the event's ids can be stored, and that the event was appended to the channel that it names.
pub(crate) fn require_valid(channel: &Channel, event: &Event) -> Result<(), String> {
    let named_channel = match event {
        Event::ChatMessage(payload) => Channel::Room(payload.room),
        Event::MessageEdit(payload) => {
            require_id_in_range(payload.message_id.0)?;
            Channel::Room(payload.room)
        }
        Event::MessageDelete(payload) => {
            payload.messages_ids.iter().try_for_each(|id| require_id_in_range(id.0))?;
            Channel::Room(payload.room)
        }
        Event::MessageRead(payload) => {
            require_id_in_range(payload.message_id.0)?;
            Channel::Room(payload.room)
        }
        Event::ParticipantJoin(payload) | Event::ParticipantLeave(payload) => Channel::Room(payload.room),
        Event::MemberAdd(payload) | Event::MemberRemove(payload) => Channel::Room(payload.room),
        Event::RoomUpdate(payload) => Channel::Room(payload.room),
        Event::Chatroom(room) | Event::RoomMade(room) => {
            room.team.map_or(Ok(()), |team| require_id_in_range(team.0))?;
            Channel::System
        }
        Event::TeamMade(_) => Channel::System,
        Event::TeamMemberAdd(payload) | Event::TeamMemberRemove(payload) => Channel::Team(payload.team),
        Event::Profile(payload) => Channel::User(payload.user.clone()),
        Event::Invitation(payload) => {
            require_id_in_range(payload.room.0)?;
            Channel::User(payload.user.clone())
        }
        Event::InvitationAnswer(payload) => {
            require_id_in_range(payload.invitation)?;
            Channel::User(payload.user.clone())
        }
        Event::RoomSelect(payload) => {
            require_id_in_range(payload.current.0)?;
            Channel::User(payload.user.clone())
        }
        Event::Camera(payload) => Channel::User(payload.user.clone()),
        Event::Online(payload) | Event::Offline(payload) => Channel::User(payload.user.clone()),
    };
    require_same_channel(channel, &named_channel)
}

fn require_same_channel(channel: &Channel, named_channel: &Channel) -> Result<(), String> {
    if channel == named_channel {
        Ok(())
    } else {
        Err(format!("it belongs to {named_channel}, but was appended to {channel}"))
    }
}

fn require_id_in_range(id: u64) -> Result<(), String> {
    if id <= MAX_ID { Ok(()) } else { Err(format!("the id {id} is out of range")) }
}
