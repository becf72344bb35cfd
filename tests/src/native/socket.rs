//! Subscribes, joins and sends messages by a socket.

use std::fmt::Display;

use serde_json::json;

use super::{RoomView, Subscription, decode, id};
use crate::client::Socket;

impl Socket {
    /// Follows a channel from now on.
    pub async fn subscribe(&mut self, channel: &str) -> Subscription {
        decode(&self.act_ok("subscribe", json!({ "channel": channel })).await)
    }

    /// Follows a room from now on.
    pub async fn subscribe_room(&mut self, room: impl Display) -> Subscription {
        self.subscribe(&format!("room-{room}")).await
    }

    /// Follows a channel from the event after `since` of this epoch.
    pub async fn resume(&mut self, channel: &str, since: u64, epoch: u64) -> Subscription {
        let frame = json!({ "channel": channel, "since": since, "epoch": epoch });
        decode(&self.act_ok("subscribe", frame).await)
    }

    /// Joins a room as a participant, and follows it.
    pub async fn join_room(&mut self, room: u64) -> RoomView {
        decode(&self.act_ok("join_room", json!({ "room_pk": room })).await)
    }

    /// Leaves a room.
    pub async fn leave_room(&mut self, room: u64) {
        self.act_ok("leave_room", json!({ "room_pk": room })).await;
    }

    /// Sends a message to the room that the socket is in, and returns the message's id.
    pub async fn send_message(&mut self, text: &str) -> u64 {
        id(&self.act_ok("create_message", json!({ "msg_text": text })).await)
    }

    /// Sends a message to a room, and returns the message's id.
    pub async fn send_message_to(&mut self, room: u64, text: &str) -> u64 {
        id(&self.act_ok("create_message", json!({ "room_pk": room, "msg_text": text })).await)
    }
}
