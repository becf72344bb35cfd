//! Actions that a fan-out node answers itself: what concerns the socket alone, and what is never stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{Empty, Left, OfRoom};
use crate::{id::UserId, subject::Channel};

crate::actions! {
    /// The local actions.
    pub enum Action {
        /// Answered at once.
        Ping(Empty) = "ping" => 200 Empty,
        /// Follows a channel no more.
        Unsubscribe(Unsubscribe) = "unsubscribe" => 200 Unsubscribe,
        /// Is in a room no more.
        LeaveRoom(OfRoom) = "leave_room" => 200 Left,
        /// Tells who is in a room that you write; it is not stored.
        Typing(OfRoom) = "typing" => 200 Empty,
        /// Sends data to every socket of a person with whom you share a room; it is not stored.
        Signal(Signal) = "signal" => 200 Empty,
        /// A newer token of yours: the socket lives as long as it counts.
        Authenticate(Authenticate) = "authenticate" => 200 Empty,
    }
}

/// `unsubscribe`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Unsubscribe {
    /// One that the socket follows.
    pub channel: Channel,
}

/// `signal`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Signal {
    /// To whom.
    pub user: UserId,
    /// What.
    #[schemars(with = "Value")]
    pub data: Box<RawValue>,
}

/// `authenticate`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Authenticate {
    /// The token.
    pub token: String,
}
