//! Defines the ids of people, rooms, teams, messages and shards.
//!
//! Ids of rooms, teams and messages are sequences of a stream: they begin at 1, and are below 2^53, so that every JSON
//! reader represents them exactly. A user id is text that the host application assigns.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// The largest id: the largest integer that every JSON reader represents exactly.
pub const MAX_ID: u64 = (1 << 53) - 1;

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Reads a canonical decimal: no sign, no leading zero, at most [`MAX_ID`].
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let is_canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
                match text.parse() {
                    Ok(id) if is_canonical && id <= MAX_ID => Ok(Self(id)),
                    _ => Err(InvalidId),
                }
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "integer", "minimum": 1, "maximum": MAX_ID })
            }
        }
    };
}

numeric_id! {
    /// A room: the sequence of its creation in the system stream.
    RoomId
}
numeric_id! {
    /// A team: the sequence of its creation in the system stream.
    TeamId
}
numeric_id! {
    /// A message: its sequence in its room's shard. It is unique together with the room's id.
    MessageId
}

/// The text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id")]
pub struct InvalidId;

/// A person, as the host application names them: 1 to 64 letters, digits and [`UserId::MARKS`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The longest user id, in bytes.
    pub const MAX_LEN: usize = 64;
    /// Allowed characters besides letters and digits: all that a mail address may have without quotes (RFC 5322,
    /// 3.2.3), and the separators that identity providers put between their name and theirs.
    pub const MARKS: &str = "_.@:|+!#$%&'*/=?^`{}~-";
    /// Prefix of the ids of people without a token. No token may name such an id.
    pub const VISITOR: &str = "visitor:";

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id for dialects that write ids as numbers: a canonical decimal as a number, anything else as text.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        let number = self.0.parse::<u64>().ok();
        let exact_number = number.filter(|number| *number <= MAX_ID && number.to_string() == *self.0);
        exact_number.map_or_else(|| self.as_str().into(), Into::into)
    }
}

impl FromStr for UserId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || Self::MARKS.as_bytes().contains(&b);
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId)
        }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UserId {
    /// Accepts text, or a number, which is converted to text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = UserId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a user id: 1 to 64 of letters, digits and {}", UserId::MARKS)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<UserId, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<UserId, E> {
                Ok(UserId(number.to_string().into()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for UserId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UserId".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text =
            json_schema!({ "type": "string", "pattern": format!("^[A-Za-z0-9{}]{{1,64}}$", UserId::MARKS) });
        if generator.contract().is_serialize() {
            return text;
        }
        json_schema!({ "anyOf": [text, { "type": "integer", "minimum": 0, "maximum": u64::MAX }] })
    }
}

/// One stream of the log: the system stream, or one of the numbered shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(i16);

impl Shard {
    /// The system stream, which has the creations of rooms and teams.
    pub const SYSTEM: Self = Self(-1);

    /// The shard with this number, as Postgres stores it: -1 is the system stream.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        if number >= -1 { Some(Self(number)) } else { None }
    }

    /// Its number, as Postgres stores it: -1 is the system stream.
    #[must_use]
    pub const fn number(self) -> i16 {
        self.0
    }

    /// Its index in lists of all shards: the system stream has 0, shard 0 has 1.
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0 + 1).expect("a shard's number is at least -1")
    }
}

impl fmt::Display for Shard {
    /// Writes the shard as in subjects and labels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::SYSTEM { f.write_str("system") } else { self.0.fmt(f) }
    }
}

impl FromStr for Shard {
    type Err = InvalidId;

    fn from_str(token: &str) -> Result<Self, InvalidId> {
        if token == "system" {
            return Ok(Self::SYSTEM);
        }
        let shard = token.parse().map(Self).map_err(|_| InvalidId)?;
        // Canonical: no sign, no leading zero.
        if shard.0 >= 0 && shard.to_string() == token { Ok(shard) } else { Err(InvalidId) }
    }
}

/// The number of a deployment's numbered shards, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardCount(u16);

impl ShardCount {
    /// Maximum number of shards of a deployment.
    pub const MAX: u16 = 1024;

    /// `None` unless the count is from 1 to [`ShardCount::MAX`].
    #[must_use]
    pub const fn new(count: u16) -> Option<Self> {
        if count >= 1 && count <= Self::MAX { Some(Self(count)) } else { None }
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// All shards, the system stream first.
    pub fn all(self) -> impl Iterator<Item = Shard> {
        (-1..i16::try_from(self.0).expect("at most 1024 shards")).map(Shard)
    }

    /// The shard of a number that is evenly distributed already, such as a room's id.
    pub(crate) fn shard_of_number(self, number: u64) -> Shard {
        Shard(i16::try_from(number % u64::from(self.0)).expect("at most 1024 shards"))
    }

    /// The shard of a text, by the 32-bit FNV-1a hash that the broker's own partition function uses.
    pub(crate) fn shard_of_text(self, text: &str) -> Shard {
        let hash = text
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        self.shard_of_number(u64::from(hash))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_id_that_is_read_round_trips(text in prop_oneof![".*", "[0-9]{1,20}", "[ -~]{0,70}"]) {
            if let Ok(id) = text.parse::<MessageId>() {
                prop_assert_eq!(id.to_string(), text.clone());
            }
            if let Ok(shard) = text.parse::<Shard>() {
                prop_assert_eq!(shard.to_string(), text.clone());
            }
            if let Ok(user) = text.parse::<UserId>() {
                prop_assert_eq!(user.as_str(), text);
                prop_assert_eq!(serde_json::from_value::<UserId>(user.to_value()).expect("an id"), user);
            }
        }

        #[test]
        fn any_number_is_a_user_id_or_refused(number in any::<i64>()) {
            let user = serde_json::from_value::<UserId>(number.into());
            prop_assert_eq!(user.is_ok(), number >= 0);
        }
    }

    #[test]
    fn ids_are_canonical_numbers() {
        assert_eq!("42".parse(), Ok(RoomId(42)));
        for bad in ["", "0", "042", "+1", "-1", "1e3", "9007199254740992", "99999999999999999999"] {
            assert_eq!(bad.parse::<RoomId>(), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn user_id_is_plain_text_or_a_number() {
        let user: UserId = serde_json::from_str("7").expect("a number");
        assert_eq!(user.as_str(), "7");
        let ids = [
            "bob.smith@example-host:1_2",
            "auth0|507f1f77bcf86cd799439011",
            "google-oauth2|103547991597142817347",
            "a+b@example.com",
            "o'brien&sons@example.com",
            "!#$%&'*+/=?^_`{|}~-@example.com",
        ];
        for id in ids {
            assert!(id.parse::<UserId>().is_ok(), "{id}");
        }
        for bad in [
            "",
            "bob smith",
            "bob\u{0}",
            "björn",
            "a\"b@c",
            "a\\b",
            "a,b",
            "a;b",
            "(a)",
            "<a>",
            "[a]",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
        for number in ["0", "175928847299117063", "18446744073709551615"] {
            let user: UserId = serde_json::from_str(number).expect("a number");
            assert_eq!(user.as_str(), number);
            let is_exact = number.len() < 16;
            assert_eq!(
                user.to_value().is_number(),
                is_exact,
                "{number}: JSON readers round integers above 2^53"
            );
        }
        // A larger number would be rounded by the JSON reader here, and become another text.
        for bad in ["-1", "1.5", "7.0", "1e3", "18446744073709551616", "null", "[]", "true"] {
            assert!(serde_json::from_str::<UserId>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shards_are_numbered_from_the_system_stream() {
        let shards: Vec<String> =
            ShardCount::new(2).expect("2").all().map(|s| format!("{s} {}", s.index())).collect();
        assert_eq!(shards, ["system 0", "0 1", "1 2"]);
        assert_eq!("system".parse(), Ok(Shard::SYSTEM));
        assert_eq!("-1".parse::<Shard>(), Err(InvalidId));
    }
}
