//! Lists the actions that api executes, each with its frame and its answer, and defines the answers that no REST
//! route has. Doc comments are published in `asyncapi.json`.

use protocol::{
    id::{MessageId, RoomId, UserId},
    socket::{RoomFrame, SubscriptionPosition},
    subject::Channel,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Invitation, Message, Page, Room, frame};

protocol::actions! {
    /// The actions of native sockets, except those that a fan-out node answers itself.
    pub(crate) enum Action {
        /// Follows a channel.
        Subscribe(frame::Subscribe) = "subscribe" => 200 Followed,
        /// Joins a room as a participant, and follows it.
        JoinRoom(frame::JoinRoom) = "join_room" => 200 Joined,
        /// Sends a message.
        CreateMessage(frame::CreateMessage) = "create_message" => 201 Message,
        /// Changes the text of a message of yours.
        EditMessage(frame::EditMessage) = "edit_message" => 200 Changed,
        /// Deletes messages: all or none.
        DeleteMessages(frame::DeleteMessages) = "delete_messages" => 200 Deleted,
        /// Confirms that a topic belongs to a category.
        TopicInfo(frame::TopicInfo) = "topic_info" => 200 Topic,
        /// Reads a part of a room's history.
        History(frame::History) = "history" => 200 Page<Message>,
        /// Marks a room as read up to a message.
        MarkRead(frame::MarkRead) = "mark_read" => 200 Read,
        /// Invites a person to a room.
        Invite(frame::Invite) = "invite" => 201 Invitation,
        /// Describes a room.
        CurrentRoomInfo(RoomFrame) = "current_room_info" => 200 Room,
        /// Lists the rooms that you may enter: an array of the newest, or a page if `limit` or `cursor` is given.
        List(frame::List) = "list" => 200 Listed,
    }
}

/// Rooms, as an array or as a page.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::dialects::native) enum Listed {
    All(Vec<Room>),
    Page(Page<Room>),
}

/// A channel that a socket follows. The fan-out node fills in participants and position.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Followed {
    pub(in crate::dialects::native) channel: Channel,
    /// Only for a room: the people in it; null if they are too many to list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) participants: Option<Option<Vec<UserId>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) count: Option<u64>,
    #[serde(flatten)]
    pub(in crate::dialects::native) position: Option<SubscriptionPosition>,
}

/// A room that a socket is in. The fan-out node fills in the position.
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

/// Messages that were deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Deleted {
    pub(in crate::dialects::native) room_id: RoomId,
    pub(in crate::dialects::native) messages_ids: Vec<MessageId>,
}

/// A topic and its category.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Topic {
    pub(in crate::dialects::native) room: RoomId,
    pub(in crate::dialects::native) category: String,
}

/// A read mark.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Read {
    pub(in crate::dialects::native) room: RoomId,
    pub(in crate::dialects::native) message_id: MessageId,
}
