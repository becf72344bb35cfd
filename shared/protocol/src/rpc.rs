//! Defines the requests of fanout to api, as JSON over the broker's request-reply.
//!
//! fanout forwards a socket's frame unchanged; api decides, and answers with the one effect that the frame has on the
//! socket.
//!
//! What must hold: after `expires_at` api does nothing, since fanout has given up by then.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    caller::Caller,
    clock::Timestamp,
    error::Error,
    event::Person,
    id::{RoomId, TeamId, UserId},
    subject::Channel,
};

/// How long fanout waits for an answer, including retries, in milliseconds.
pub const DEADLINE_MS: i64 = 5_000;

/// When a request made now expires, in milliseconds since 1970.
#[must_use]
pub fn expiry() -> i64 {
    Timestamp::now().unix_ms() + DEADLINE_MS
}

/// How long a request may still run; `None` once it has expired.
#[must_use]
pub fn time_left(expires_at: i64) -> Option<std::time::Duration> {
    let left_ms = u64::try_from(expires_at.saturating_sub(Timestamp::now().unix_ms())).ok()?;
    (left_ms > 0).then(|| std::time::Duration::from_millis(left_ms))
}

/// The answer to any of the requests below.
pub type RpcResult<T> = Result<T, Error>;

/// The sort of a socket: it determines what its frames mean, and what it is pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// `/ws/`, and the address of a topic.
    #[default]
    Native,
    /// `/ws/chat/`: the two people of a match.
    Match,
    /// `/ws/admin-chat/`: admins, who are in every match room.
    MatchAdmin,
}

/// One action of a socket.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ActionRequest {
    /// The person who acts.
    pub caller: Caller,
    /// The sort of the socket.
    #[serde(default)]
    pub surface: Surface,
    /// The action's name, as in the frame.
    pub action: String,
    /// The whole frame, as the client sent it.
    #[schemars(with = "serde_json::Value")]
    pub frame: Box<RawValue>,
    /// The rooms that the socket has joined, and has neither left nor been removed from.
    pub rooms: Vec<RoomId>,
    /// The ones of `rooms` that belong to two people.
    #[serde(default)]
    pub pairs: Vec<RoomId>,
    /// Unique key of this frame, by which api recognises fanout's retries.
    pub key: String,
    /// Request id, by which the frame is found in the logs of both services.
    pub request: String,
    /// When fanout gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// The answer to the socket, and what happens to the socket.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ActionReply {
    /// `response_status`.
    pub status: u16,
    /// `data`; null for an error.
    #[schemars(with = "serde_json::Value")]
    pub data: Option<Box<RawValue>>,
    /// `errors`; empty for a success.
    pub errors: Vec<String>,
    /// What fanout does before it answers.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_or_unknown_effect")]
    pub effect: Option<SocketEffect>,
}

/// Reads an effect; one that only a later version knows becomes [`SocketEffect::Unknown`].
fn known_or_unknown_effect<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketEffect>, D::Error> {
    let effect = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(effect.map(|effect| serde_json::from_value(effect).unwrap_or(SocketEffect::Unknown)))
}

/// What an action does to the socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SocketEffect {
    /// The socket follows a channel from now on. Events after `since` are pushed first.
    Subscribe {
        /// The channel.
        channel: Channel,
        /// Whether the person is now a participant of the room.
        participant: bool,
        /// The last event the client has.
        since: Option<u64>,
        /// The epoch in which the client received that event.
        epoch: Option<u64>,
        /// The right by which it follows the channel, if that is a room's or a team's.
        grant: Option<AccessGrant>,
    },
    /// The person leaves a room on this socket, which also stops following the room.
    Leave {
        /// The room.
        room: RoomId,
    },
    /// The push of this event is the answer, at the event's place in the order of the room.
    Appended {
        /// The event's room.
        room: RoomId,
        /// The event's sequence in the room's shard.
        seq: u64,
    },
    /// An effect that only a later version knows.
    Unknown,
}

/// The right by which a socket follows a room or a team, and as of which event. An event that ends it is later in the
/// log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessGrant {
    /// Everyone has this right: only a change of the room itself ends it.
    pub public: bool,
    /// The room belongs to two people: each is pushed what the other has read.
    #[serde(default)]
    pub pair: bool,
    /// The last event of the channel's shard that the answer takes into account.
    pub as_of: u64,
    /// For a room: the membership of a team that gives the right.
    pub team: Option<TeamGrant>,
    /// The last event up to `as_of` that a resume of the channel would repeat; 0 if there is none. If it is unknown, it
    /// is `as_of`.
    pub last_event: u64,
}

/// A right that ends with the membership of a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TeamGrant {
    /// The team.
    pub team: TeamId,
    /// The last event of the team's shard that the answer takes into account.
    pub as_of: u64,
}

/// Asks whether people may still be in a room, or follow a team.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConfirmRequest {
    /// The room that they are in; ignored if `team` is given.
    pub room: RoomId,
    /// The team that they follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamId>,
    /// The people, at most [`CONFIRM_CALLERS_MAX`].
    pub callers: Vec<Caller>,
    /// When fanout gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// Maximum callers of a [`ConfirmRequest`].
pub const CONFIRM_CALLERS_MAX: usize = 1_000;

/// Says which of the people may not.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConfirmReply {
    /// The people who may not: everyone for whom at least one of the callers may not.
    pub out: Vec<UserId>,
    /// The callers who may not, since a person may be an admin on only one of their sockets. An older api leaves it
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers_out: Option<Vec<Caller>>,
    /// Whether the room is closed: then nobody may be in it.
    #[serde(default)]
    pub closed: bool,
    /// The right of the others.
    pub grant: AccessGrant,
}

/// Asks whether people may still be in several rooms, or follow several teams. The answer has one [`ConfirmReply`] or
/// error for each channel, in their order.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConfirmChannelsRequest {
    /// At most [`CONFIRM_CHANNELS_MAX`], with at most [`CONFIRM_CALLERS_MAX`] callers together.
    pub channels: Vec<ChannelCallers>,
    /// When the asker gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// People who follow a room or a team.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ChannelCallers {
    /// The room. Has no meaning where a team is given.
    pub room: RoomId,
    /// The team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamId>,
    /// The people.
    pub callers: Vec<Caller>,
}

/// Maximum channels of a [`ConfirmChannelsRequest`].
pub const CONFIRM_CHANNELS_MAX: usize = 100;

/// Asks who is in a room.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantsRequest {
    /// The room.
    pub room: RoomId,
    /// Whether the answer may be a page; otherwise it names everyone at once.
    #[serde(default)]
    pub is_paged: bool,
    /// The page begins after this participant, in the order of user (by bytes) and incarnation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ParticipantKey>,
    /// When fanout gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// A position in the list of a room's participants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantKey {
    /// The person.
    pub user: UserId,
    /// The process that holds their sockets.
    pub incarnation: u64,
}

/// The participants of a room, as of an event of its shard.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantsReply {
    /// The people that each process has reported as present.
    pub present: Vec<ParticipantEntry>,
    /// The last event that is taken into account.
    pub as_of: u64,
    /// Where the next page begins; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ParticipantKey>,
}

/// The last report of one process about one person who is present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantEntry {
    /// The person.
    pub user: UserId,
    /// The process that holds their sockets.
    pub incarnation: u64,
    /// The process's counter: the highest is the newest.
    pub counter: u64,
}

/// Asks whether one person may send signals to another.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignalRequest {
    /// The person who sends.
    pub caller: Caller,
    /// The recipient.
    pub user: UserId,
    /// When fanout gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// Reports that a person has connected with a token.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HelloRequest {
    /// The person.
    pub user: UserId,
    /// When the token was issued, in seconds since 1970.
    pub issued_at: Option<i64>,
    /// What the token says about them.
    pub person: Person,
    /// When fanout gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// Reports who has come to a node and who has left it. The answer has a result for each change, in their order.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PresenceRequest {
    /// The node's process.
    pub incarnation: u64,
    /// The changes, at most [`PRESENCE_CHANGES_MAX`], each of another person or another room.
    pub changes: Vec<PresenceChange>,
    /// When fanout gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// Maximum changes of a [`PresenceRequest`].
pub const PRESENCE_CHANGES_MAX: usize = 256;

/// A person has entered a room or come online on a node, or is no longer there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresenceChange {
    /// The room; `None` if the change is about being online.
    pub room: Option<RoomId>,
    /// The person.
    pub user: UserId,
    /// Whether they have come, rather than left.
    pub joined: bool,
    /// The node's counter: the highest is the newest.
    pub counter: u64,
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn reply_of_a_later_version_is_read_as_far_as_known() {
        let reply = |effect: &str| {
            let text = format!(
                r#"{{"Ok":{{"status":200,"data":{{"a":1}},"errors":[],"later":1,"effect":{effect}}}}}"#
            );
            let reply: RpcResult<ActionReply> = serde_json::from_str(&text).expect("an answer");
            reply.expect("no error").effect
        };
        assert_eq!(reply(r#"{"leave":{"room":7,"later":1}}"#), Some(SocketEffect::Leave { room: RoomId(7) }));
        assert_eq!(reply(r#"{"hide":{"room":7}}"#), Some(SocketEffect::Unknown));
        assert_eq!(reply(r#""hide""#), Some(SocketEffect::Unknown));
        assert_eq!(reply("null"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_refused(bytes in vec(any::<u8>(), 0..100), more in ".*") {
            let request = serde_json::json!({ "caller": { "user": more, "is_admin": more }, "action": more });
            for bytes in [bytes, request.to_string().into_bytes()] {
                let _ = serde_json::from_slice::<ActionRequest>(&bytes);
                let _ = serde_json::from_slice::<RpcResult<ActionReply>>(&bytes);
                let _ = serde_json::from_slice::<ConfirmRequest>(&bytes);
                let _ = serde_json::from_slice::<RpcResult<ConfirmReply>>(&bytes);
                let _ = serde_json::from_slice::<ConfirmChannelsRequest>(&bytes);
                let _ = serde_json::from_slice::<RpcResult<Vec<RpcResult<ConfirmReply>>>>(&bytes);
                let _ = serde_json::from_slice::<HelloRequest>(&bytes);
                let _ = serde_json::from_slice::<PresenceRequest>(&bytes);
            }
        }

        #[test]
        fn any_expiry_has_time_left_or_none(expires_at in any::<i64>()) {
            let left = time_left(expires_at);
            prop_assert!(left.is_none_or(|left| expires_at > 0 && left.as_millis() <= expires_at.unsigned_abs().into()));
        }
    }
}
