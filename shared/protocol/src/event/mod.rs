//! Defines the events of the log: one type for each, and the table of their names.
//!
//! A payload is pushed to native clients unchanged, so what only services need is in headers. Unknown fields are
//! ignored, so that several versions can run side by side.
//!
//! What must hold: every event that can be decoded can be written to Postgres.

mod message;
mod person;
mod room;
mod team;
mod unknown_fields;

pub use message::{ChatMessage, MessageDelete, MessageDetail, MessageEdit, MessageRead};
pub use person::{Camera, Invitation, InvitationAnswer, Online, Person, PersonChange, Profile, RoomSelect};
pub use room::{Member, Participant, Room, RoomDetail, RoomKind, RoomUpdate};
pub use team::{Team, TeamMember};

use bytes::Bytes;
use schemars::SchemaGenerator;

use crate::json::SchemaFn;

macro_rules! events {
    ($(#[doc = $doc:literal] $variant:ident($payload:ty) = $name:literal,)*) => {
        /// An event, decoded.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event {
            $(#[doc = $doc] $variant($payload),)*
        }

        /// The name of an event, as in subjects and pushes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventName {
            $(#[doc = $doc] $variant,)*
        }

        impl EventName {
            /// All names.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What the event means.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }

            /// Makes the JSON schema of its payload.
            #[must_use]
            pub const fn payload_schema(self) -> SchemaFn {
                match self { $(Self::$variant => SchemaGenerator::subschema_for::<$payload>,)* }
            }
        }

        impl Event {
            /// The event's name.
            #[must_use]
            pub const fn name(&self) -> EventName {
                match self { $(Self::$variant(_) => EventName::$variant,)* }
            }

            /// Decodes a stored payload.
            ///
            /// # Errors
            /// When the payload does not match the event's type.
            pub fn decode(name: EventName, payload: &[u8]) -> serde_json::Result<Self> {
                match name { $(EventName::$variant => serde_json::from_slice(payload).map(Self::$variant),)* }
            }

            fn write_to(&self, writer: impl std::io::Write) -> serde_json::Result<()> {
                match self { $(Self::$variant(payload) => serde_json::to_writer(writer, payload),)* }
            }

            /// Encodes the payload to be stored.
            #[must_use]
            pub fn encode(&self) -> Bytes {
                match self { $(Self::$variant(payload) => serde_json::to_vec(payload),)* }
                    .expect("an event has text keys and no failing serializer")
                    .into()
            }
        }
    };
}

events! {
    /// A message was sent to a room.
    ChatMessage(ChatMessage) = "chat-message",
    /// A message's author changed its text.
    MessageEdit(MessageEdit) = "message-edit",
    /// Messages of a room were deleted.
    MessageDelete(MessageDelete) = "message-delete",
    /// A person has read a room up to a message.
    MessageRead(MessageRead) = "message-read",
    /// A person entered a room.
    ParticipantJoin(Participant) = "participant-join",
    /// A person left a room.
    ParticipantLeave(Participant) = "participant-leave",
    /// A person may enter a room from now on.
    MemberAdd(Member) = "member-add",
    /// A person may not enter a room any more.
    MemberRemove(Member) = "member-remove",
    /// A room changed: another name, made private, closed.
    RoomUpdate(RoomUpdate) = "room-update",
    /// A new public room, pushed to everyone who follows `system`.
    Chatroom(Room) = "chatroom",
    /// Any other new room; it is never pushed.
    RoomMade(Room) = "room-made",
    /// A new team.
    TeamMade(Team) = "team-made",
    /// A person belongs to a team from now on.
    TeamMemberAdd(TeamMember) = "team-member-add",
    /// A person does not belong to a team any more.
    TeamMemberRemove(TeamMember) = "team-member-remove",
    /// A person is invited into a room; pushed to all sockets of the person.
    Invitation(Invitation) = "invitation",
    /// An invitation was accepted or declined, or ended by the person's removal.
    InvitationAnswer(InvitationAnswer) = "invitation-answer",
    /// A person switched to another of their rooms of two people.
    RoomSelect(RoomSelect) = "room-select",
    /// A person's camera is on, or off.
    Camera(Camera) = "camera",
    /// A person has a socket open on a node.
    Online(Online) = "online",
    /// A person has no socket open on that node any more.
    Offline(Online) = "offline",
    /// What the host application says about a person.
    Profile(Profile) = "profile",
}

impl EventName {
    /// The event with this name, if this version knows it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.as_str() == name)
    }

    /// Whether sockets that follow its channel receive it.
    #[must_use]
    pub const fn is_pushed(self) -> bool {
        !matches!(self, Self::RoomMade | Self::TeamMade)
    }

    /// Whether it creates a thing whose id is the event's sequence, which is then inserted into the push.
    #[must_use]
    pub const fn adds_id_to_push(self) -> bool {
        matches!(self, Self::Chatroom | Self::Invitation)
    }
}

impl std::fmt::Display for EventName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names of pushes that are never stored, and of stored events that have copies which are not stored.
pub mod live {
    /// A person is typing in a room.
    pub const TYPING: &str = "typing";
    /// A person sends data to another, to set up a call.
    pub const SIGNAL: &str = "signal";
    /// How many people joined and left a big room. It has no subject: each node counts for itself.
    pub const PRESENCE: &str = "presence";
    /// A socket's right to follow a channel has ended. It has no subject either.
    pub const UNSUBSCRIBED: &str = "unsubscribed";
    /// Up to where a socket has received everything. It belongs to no channel.
    pub const POSITION: &str = "position";
    /// Events that are stored once, in a person's own channel, and whose copies for the person's contacts are not
    /// stored.
    pub const COPIED: [super::EventName; 2] = [super::EventName::Camera, super::EventName::Profile];
}

/// Headers of stored events, which only services need. No name ends in the name of a header of the broker's own, since
/// nats-server 2.9 would take it for that one.
pub mod header {
    /// The incarnation of the process that holds the participant's sockets.
    pub const INCARNATION: &str = "Roomcast-Incarnation";
    /// The process's counter for the participant in the room: the highest is the newest.
    pub const COUNTER: &str = "Roomcast-Counter";
    /// When api appended it, in microseconds since 1970, to measure how long delivery takes.
    pub const APPENDED: &str = "Roomcast-Appended";
    /// The id that a match socket gave to the request that caused the event: a JSON scalar in ASCII.
    pub const REQUEST_ID: &str = "Roomcast-Client-Request";
    /// For a thing that must be unique: how many closed ones with the same key came before it.
    pub const GENERATION: &str = "Roomcast-Generation";
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};
    use serde_json::Value;

    use super::*;

    /// The stored form of every event, one line each: `name payload`. A change here is a change of
    /// what is in every log, and must still read what was written before.
    const GOLDEN: &str = include_str!("golden.txt");

    #[test]
    fn golden_events_round_trip() {
        for event in EventName::ALL {
            assert!(GOLDEN.lines().any(|l| l.starts_with(&format!("{event} "))), "{event} is missing");
        }
        for line in GOLDEN.lines() {
            let (name, payload) = line.split_once(' ').expect("a name and a payload");
            let event = EventName::parse(name).expect("a known event");
            let decoded = Event::decode(event, payload.as_bytes()).expect("a payload of its form");
            assert_eq!(decoded.name(), event);
            assert_eq!(std::str::from_utf8(&decoded.encode()).expect("UTF-8"), payload);
        }
    }

    #[test]
    fn unknown_event_fields_are_ignored() {
        let payload = br#"{"room":42,"user":"7","since_when":"later"}"#;
        assert!(Event::decode(EventName::ParticipantJoin, payload).is_ok());
    }

    /// Values that a field may have.
    fn field_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            vec(any::<u64>(), 0..3).prop_map(Value::from),
            vec(".*", 0..3).prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_event_or_refused(bytes in vec(any::<u8>(), 0..100), name in ".*") {
            for event in EventName::ALL {
                let _ = Event::decode(*event, &bytes);
            }
            prop_assert!(EventName::parse(&name).is_none_or(|event| event.as_str() == name));
        }

        #[test]
        fn any_event_that_is_read_round_trips(
            line in any::<Index>(),
            field_index in any::<Index>(),
            value in field_value(),
        ) {
            let lines: Vec<&str> = GOLDEN.lines().collect();
            let (name, payload) = line.get(&lines).split_once(' ').expect("a name and a payload");
            let event = EventName::parse(name).expect("a known event");
            let mut payload: serde_json::Map<String, Value> = serde_json::from_str(payload).expect("an object");
            let names: Vec<String> = payload.keys().cloned().collect();
            payload.insert(field_index.get(&names).clone(), value);
            if let Ok(decoded) = Event::decode(event, Value::Object(payload).to_string().as_bytes()) {
                prop_assert_eq!(Event::decode(event, &decoded.encode()).expect("our own form"), decoded);
            }
        }
    }
}
