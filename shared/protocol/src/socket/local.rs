//! Defines actions that a fan-out node answers itself: those about the socket alone, and those never stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{LeftRoom, NoFields, RoomFrame};
use crate::{id::UserId, subject::Channel};

crate::actions! {
    /// The local actions.
    pub enum LocalAction {
        /// Checks the connection: answered at once.
        Ping(NoFields) = "ping" => 200 NoFields,
        /// Stops following a channel.
        Unsubscribe(UnsubscribeFrame) = "unsubscribe" => 200 UnsubscribeFrame,
        /// Leaves a room.
        LeaveRoom(RoomFrame) = "leave_room" => 200 LeftRoom,
        /// Tells the people in a room that you are typing; it is not stored.
        Typing(RoomFrame) = "typing" => 200 NoFields,
        /// Sends data to every socket of a person with whom you share a room; it is not stored.
        Signal(SignalFrame) = "signal" => 200 NoFields,
        /// Replaces the socket's token by a newer one of yours. The socket may stay open until that one expires.
        Authenticate(AuthenticateFrame) = "authenticate" => 200 NoFields,
    }
}

/// `unsubscribe`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct UnsubscribeFrame {
    /// A channel that the socket follows.
    pub channel: Channel,
}

/// `signal`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SignalFrame {
    /// The recipient.
    pub user: UserId,
    /// The data.
    #[schemars(with = "Value")]
    pub data: Box<RawValue>,
}

/// `authenticate`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AuthenticateFrame {
    /// The token.
    pub token: String,
}
