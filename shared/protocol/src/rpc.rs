//! Defines what fanout asks of api, as JSON over the broker's request and reply.
//!
//! fanout forwards a socket's frame as it came; api decides, and answers with the one effect the
//! frame has on the socket. What must hold: past `expires_at` api does nothing, since the asker
//! has given up by then.

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

/// How long an asker waits for all of its tries, in milliseconds.
pub const DEADLINE_MS: i64 = 5_000;

/// When a request made now expires, in milliseconds since 1970.
#[must_use]
pub fn expiry() -> i64 {
    Timestamp::now().unix_ms() + DEADLINE_MS
}

/// How long a request may still run; `None` once it has expired.
#[must_use]
pub fn time_left(expires_at: i64) -> Option<std::time::Duration> {
    let left = u64::try_from(expires_at.saturating_sub(Timestamp::now().unix_ms())).ok()?;
    (left > 0).then(|| std::time::Duration::from_millis(left))
}

/// The answer to any of the requests below.
pub type RpcResult<T> = Result<T, Error>;

/// Which sort of socket asks: it decides what its frames mean, and what it is pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// `/ws/`, and a topic's own address.
    #[default]
    Native,
    /// `/ws/chat/`: the two of a match.
    Match,
    /// `/ws/admin-chat/`: admins, in every match room.
    MatchAdmin,
}

/// One action of a socket.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ActionRequest {
    /// Who acts.
    pub caller: Caller,
    /// On which sort of socket.
    #[serde(default)]
    pub surface: Surface,
    /// The action's name, as it stands in the frame.
    pub action: String,
    /// The whole frame, as the client sent it.
    #[schemars(with = "serde_json::Value")]
    pub frame: Box<RawValue>,
    /// The rooms the socket is in: it was let in and has not been put out since.
    pub rooms: Vec<RoomId>,
    /// Those of them that are of two.
    #[serde(default)]
    pub pairs: Vec<RoomId>,
    /// Names this frame among all frames ever, for retries of our own.
    pub key: String,
    /// Finds the frame in the logs of both services.
    pub request: String,
    /// When the asker gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// What the socket is answered, and what happens to it.
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

/// Reads an effect; one of a later version is [`SocketEffect::Unknown`].
fn known_or_unknown_effect<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketEffect>, D::Error> {
    let effect = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(effect.map(|effect| serde_json::from_value(effect).unwrap_or(SocketEffect::Unknown)))
}

/// What an action does to the socket that asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SocketEffect {
    /// It follows a channel from now on, and what came after `since` is pushed first.
    Subscribe {
        /// The channel.
        channel: Channel,
        /// Whether the person is in the room as a participant now.
        participant: bool,
        /// The last event the client has.
        since: Option<u64>,
        /// The epoch in which it got that event.
        epoch: Option<u64>,
        /// By what right, where the channel is a room's or a team's.
        grant: Option<AccessGrant>,
    },
    /// The person leaves a room on this socket; it does not follow the room any more either.
    Leave {
        /// The room.
        room: RoomId,
    },
    /// The push of this event is the answer, at its place in the order.
    Appended {
        /// The room it is in.
        room: RoomId,
        /// Its place in the room's shard.
        seq: u64,
    },
    /// One that only a later version knows.
    Unknown,
}

/// By what right a socket follows a room or a team, and as of when: what ends it comes later in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessGrant {
    /// Everyone may: nothing ends it but the room's own change.
    pub public: bool,
    /// The room is that of two people: each is told what the other has read.
    #[serde(default)]
    pub pair: bool,
    /// The last event of the channel's shard that the answer has seen.
    pub as_of: u64,
    /// Of a room: by belonging to a team.
    pub team: Option<TeamGrant>,
    /// The last event up to `as_of` that a resume of the channel would repeat; 0 for none. Where that is not
    /// known it is `as_of`.
    pub last_event: u64,
}

/// A right that ends with belonging to a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TeamGrant {
    /// The team.
    pub team: TeamId,
    /// The last event of the team's shard that the answer has seen.
    pub as_of: u64,
}

/// May these people still be in a room, or follow a team?
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConfirmRequest {
    /// Where they are; without meaning where a team is asked about.
    pub room: RoomId,
    /// The team that they follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamId>,
    /// Who is asked about: at most [`CONFIRM_CALLERS_MAX`].
    pub callers: Vec<Caller>,
    /// When the asker gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// The most people asked about at once.
pub const CONFIRM_CALLERS_MAX: usize = 1_000;

/// Who of them may.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConfirmReply {
    /// Those who may not be there: everyone of whose callers at least one may not.
    pub out: Vec<UserId>,
    /// Which of the callers may not, since one person may be an admin on one socket alone. An older api does
    /// not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers_out: Option<Vec<Caller>>,
    /// The room is closed: nobody may be there.
    #[serde(default)]
    pub closed: bool,
    /// By what right the others are.
    pub grant: AccessGrant,
}

/// May these people still be in these rooms, or follow these teams? The answer has one [`ConfirmReply`] or error for
/// each channel, in their order.
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
    /// The room; without meaning where a team is asked about.
    pub room: RoomId,
    /// The team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamId>,
    /// The people.
    pub callers: Vec<Caller>,
}

/// Maximum channels of a [`ConfirmChannelsRequest`].
pub const CONFIRM_CHANNELS_MAX: usize = 100;

/// Who is in a room?
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantsRequest {
    /// The room.
    pub room: RoomId,
    /// Whether the asker reads pages; to one that does not, all are named at once.
    #[serde(default)]
    pub is_paged: bool,
    /// Where the page begins: after this one, in the order of user (by bytes) and incarnation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ParticipantKey>,
    /// When the asker gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// A place in the list of a room's participants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantKey {
    /// Who.
    pub user: UserId,
    /// By which process.
    pub incarnation: u64,
}

/// Who is in a room, up to an event of its shard.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantsReply {
    /// What each process has said of its own.
    pub present: Vec<ParticipantEntry>,
    /// The last event that is counted in.
    pub as_of: u64,
    /// Where the next page begins; none after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ParticipantKey>,
}

/// The last word of one process on one person who is present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantEntry {
    /// Who.
    pub user: UserId,
    /// The process.
    pub incarnation: u64,
    /// Its counter: the highest is true.
    pub counter: u64,
}

/// May one person send signals to another?
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignalRequest {
    /// Who sends.
    pub caller: Caller,
    /// To whom.
    pub user: UserId,
    /// When the asker gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// A person has connected with this token.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HelloRequest {
    /// Who.
    pub user: UserId,
    /// When the token was issued, in seconds since 1970.
    pub issued_at: Option<i64>,
    /// What the token says of them.
    pub person: Person,
    /// When the asker gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// Who has come to a node, and who has left it. The answer has one for each, in their order.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PresenceRequest {
    /// The node's process.
    pub incarnation: u64,
    /// At most [`PRESENCE_CHANGES_MAX`], of different people or places.
    pub changes: Vec<PresenceChange>,
    /// When the asker gives up, in milliseconds since 1970.
    pub expires_at: i64,
}

/// The most changes told at once.
pub const PRESENCE_CHANGES_MAX: usize = 256;

/// A person is first in a room or online on a node, or is so no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresenceChange {
    /// Where; without a room it is about being online.
    pub room: Option<RoomId>,
    /// Who.
    pub user: UserId,
    /// In, or out.
    pub joined: bool,
    /// The node's counter: the highest is true.
    pub counter: u64,
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn answer_of_a_later_version_is_read_as_far_as_it_is_known() {
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
