//! The actions that api decides, each with its frame and its answer; and the answers that no route has.

use protocol::{
    id::{MessageId, RoomId, UserId},
    socket::{RoomFrame, SubscriptionPosition},
    subject::Channel,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Invitation, Message, Page, Room, frame};

protocol::actions! {
    /// The actions of native sockets, but those that a fan-out node answers itself.
    pub(crate) enum Action {
        /// Follows a channel.
        Subscribe(frame::Subscribe) = "subscribe" => 200 Followed,
        /// Is in a room, and follows it.
        JoinRoom(frame::JoinRoom) = "join_room" => 200 Joined,
        /// Sends a message.
        CreateMessage(frame::CreateMessage) = "create_message" => 201 Message,
        /// Changes a message's text, by its author.
        EditMessage(frame::EditMessage) = "edit_message" => 200 Changed,
        /// Deletes messages: all or none.
        DeleteMessages(frame::DeleteMessages) = "delete_messages" => 200 Deleted,
        /// Whether a topic stands in that category.
        TopicInfo(frame::TopicInfo) = "topic_info" => 200 Topic,
        /// A part of a room's history.
        History(frame::History) = "history" => 200 Page<Message>,
        /// Says up to where you have read.
        MarkRead(frame::MarkRead) = "mark_read" => 200 Read,
        /// Asks a person into a room.
        Invite(frame::Invite) = "invite" => 201 Invitation,
        /// A room.
        CurrentRoomInfo(RoomFrame) = "current_room_info" => 200 Room,
        /// The rooms that you may enter: an array of the newest, or a page where `limit` or `cursor` is given.
        List(frame::List) = "list" => 200 Listed,
    }
}

/// Rooms, in the form that was asked for.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::dialects::native) enum Listed {
    All(Vec<Room>),
    Page(Page<Room>),
}

/// What a socket follows. Who is there, and its position, are the fan-out node's to say.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Followed {
    pub(in crate::dialects::native) channel: Channel,
    /// Of a room: null where they are too many to name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) participants: Option<Option<Vec<UserId>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) count: Option<u64>,
    #[serde(flatten)]
    pub(in crate::dialects::native) position: Option<SubscriptionPosition>,
}

/// A room that a socket is in. Its position is the fan-out node's to say.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Joined {
    #[serde(flatten)]
    pub(in crate::dialects::native) room: Room,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) position: Option<SubscriptionPosition>,
}

/// A message's new text.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ChangedText")]
pub(in crate::dialects::native) struct Changed {
    pub(in crate::dialects::native) room_id: RoomId,
    pub(in crate::dialects::native) message_id: MessageId,
    pub(in crate::dialects::native) message_text: String,
}

/// Messages that are gone.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Deleted {
    pub(in crate::dialects::native) room_id: RoomId,
    pub(in crate::dialects::native) messages_ids: Vec<MessageId>,
}

/// A topic.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Topic {
    pub(in crate::dialects::native) room: RoomId,
    pub(in crate::dialects::native) category: String,
}

/// A mark.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Read {
    pub(in crate::dialects::native) room: RoomId,
    pub(in crate::dialects::native) message_id: MessageId,
}
