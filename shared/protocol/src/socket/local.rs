//! Defines actions that a fan-out node answers itself: those about the socket alone, and those never stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{LeftRoom, NoFields, RoomFrame};
use crate::{id::UserId, subject::Channel};

crate::actions! {
    /// The local actions.
    pub enum LocalAction {
        /// Answered at once.
        Ping(NoFields) = "ping" => 200 NoFields,
        /// Follows a channel no more.
        Unsubscribe(UnsubscribeFrame) = "unsubscribe" => 200 UnsubscribeFrame,
        /// Is in a room no more.
        LeaveRoom(RoomFrame) = "leave_room" => 200 LeftRoom,
        /// Tells who is in a room that you write; it is not stored.
        Typing(RoomFrame) = "typing" => 200 NoFields,
        /// Sends data to every socket of a person with whom you share a room; it is not stored.
        Signal(SignalFrame) = "signal" => 200 NoFields,
        /// A newer token of yours: the socket lives as long as it counts.
        Authenticate(AuthenticateFrame) = "authenticate" => 200 NoFields,
    }
}

/// `unsubscribe`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct UnsubscribeFrame {
    /// One that the socket follows.
    pub channel: Channel,
}

/// `signal`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SignalFrame {
    /// To whom.
    pub user: UserId,
    /// What.
    #[schemars(with = "Value")]
    pub data: Box<RawValue>,
}

/// `authenticate`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AuthenticateFrame {
    /// The token.
    pub token: String,
}
