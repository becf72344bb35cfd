//! Defines wall-clock time as events carry it. Order is by id alone; a timestamp only informs.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::{
    OffsetDateTime, UtcDateTime, format_description::BorrowedFormatItem,
    format_description::well_known::Rfc3339, macros::format_description,
};

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// A moment in UTC, in microseconds, as Postgres keeps it: `2026-11-21T08:51:26.593514Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(UtcDateTime);

impl Timestamp {
    /// The present moment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now() -> Self {
        Self::truncated(UtcDateTime::now())
    }

    fn truncated(moment: UtcDateTime) -> Self {
        let micros = moment.microsecond() * 1_000;
        Self(moment.replace_nanosecond(micros).unwrap_or(moment))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn unix_us(self) -> i64 {
        i64::try_from(self.0.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(self) -> i64 {
        i64::try_from(self.0.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(moment: OffsetDateTime) -> Self {
        Self::truncated(moment.to_utc())
    }
}

impl From<Timestamp> for OffsetDateTime {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0.into()
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(FORMAT).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let moment = OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)?;
        // Both Postgres and RFC 3339 can represent these years.
        let moment = moment.checked_to_utc().filter(|moment| (0..=9999).contains(&moment.year()));
        moment.map(Self::truncated).ok_or_else(|| D::Error::custom("a year out of range"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Moments with every offset, including the first and the last that can be written.
    fn moments() -> impl Strategy<Value = String> {
        let year = prop_oneof![0..10_000_i32, Just(0), Just(9_999)];
        let day = prop_oneof![Just("01-01"), Just("12-31"), Just("02-29"), Just("13-01")];
        let time = prop_oneof![Just("00:00:00"), Just("23:59:59.999999999"), Just("23:59:60")];
        (year, day, time, "[+-][0-9]{2}:[0-9]{2}|Z")
            .prop_map(|(year, day, time, offset)| format!("{year:04}-{day}T{time}{offset}"))
    }

    #[test]
    fn timestamp_out_of_range_in_utc_is_refused() {
        for text in ["9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00+00:01"] {
            assert!(serde_json::from_value::<Timestamp>(text.into()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_timestamp_is_refused_or_round_trips(text in prop_oneof![moments(), ".*"]) {
            if let Ok(moment) = serde_json::from_value::<Timestamp>(text.into()) {
                let written = serde_json::to_value(moment).expect("text");
                prop_assert_eq!(serde_json::from_value::<Timestamp>(written).expect("our own form"), moment);
            }
        }
    }

    #[test]
    fn timestamp_has_six_fraction_digits() {
        let text = "\"2026-11-21T08:51:26.000000Z\"";
        let moment: Timestamp = serde_json::from_str("\"2026-11-21T09:51:26+01:00\"").expect("RFC 3339");
        assert_eq!(serde_json::to_string(&moment).expect("text"), text);
        let again: Timestamp = serde_json::from_str(text).expect("our own form");
        assert_eq!(again, moment);
    }
}
