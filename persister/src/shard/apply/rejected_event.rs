//! Describes an event as the table `rejected_event` keeps it: whole, so that a later version can apply it.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use log::StoredEvent;
use protocol::id::Shard;
use time::OffsetDateTime;

use crate::database::to_i64;

/// Why an event is in `rejected_event`: the column `cause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RejectionCause {
    /// This version does not know its subject, its name or its values; a later one may.
    Unreadable,
    /// Postgres refuses its data, or repeatedly fails or times out because of it.
    Refused,
    /// It was appended to a log that had lost events, and another event has its id.
    IdTaken,
    /// It changes what was created by an event that is in `rejected_event` itself.
    DependsOnRejected,
    /// It was applied, except for fields that this version does not know.
    UnknownFields,
}

impl RejectionCause {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
            Self::IdTaken => "id-taken",
            Self::DependsOnRejected => "waits",
            Self::UnknownFields => "unknown-fields",
        }
    }
}

/// An event that is not applied, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RejectedEvent {
    pub(crate) seq: i64,
    pub(crate) subject: String,
    pub(crate) payload: Vec<u8>,
    /// One `name: value` on each line.
    pub(crate) headers: String,
    pub(crate) stored_at: OffsetDateTime,
    pub(crate) cause: RejectionCause,
    pub(crate) reason: String,
}

impl RejectedEvent {
    pub(crate) fn new(stored: &StoredEvent, cause: RejectionCause, reason: &str) -> Self {
        let mut headers: Vec<String> = stored
            .headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}: {value}")))
            .collect();
        headers.sort_unstable();
        // Postgres can't hold U+0000 in a text.
        let without_nul = |text: &str| text.replace('\0', "\u{fffd}");
        Self {
            seq: to_i64(stored.seq),
            subject: without_nul(&stored.subject),
            payload: stored.payload.to_vec(),
            headers: without_nul(&headers.join("\n")),
            stored_at: stored.time,
            cause,
            reason: without_nul(reason),
        }
    }
}

/// Restores the event as it was read from the log, except for its time, which is not needed to apply it.
pub(crate) fn to_stored_event(
    shard: Shard,
    seq: u64,
    subject: String,
    headers: &str,
    payload: Vec<u8>,
) -> StoredEvent {
    let mut header_map = HeaderMap::new();
    for line in headers.lines() {
        // A line of another form is skipped: decoding fails later if the header is needed.
        let Some((name, value)) = line.split_once(": ") else { continue };
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            header_map.append(name, value);
        }
    }
    StoredEvent {
        shard,
        seq,
        subject,
        headers: header_map,
        payload: Bytes::from(payload),
        time: OffsetDateTime::UNIX_EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_event_round_trips() {
        let mut headers = HeaderMap::new();
        headers.append("Roomcast-Counter", "4");
        headers.append("Roomcast-Counter", "5");
        headers.append("Roomcast-Client-Request", r#""a: b""#);
        let shard = Shard::from_number(2).expect("a shard");
        let event = StoredEvent {
            shard,
            seq: 7,
            subject: "chat.2.room.42.from-the-future".to_owned(),
            headers,
            payload: Bytes::from_static(b"\xff{}"),
            time: OffsetDateTime::UNIX_EPOCH,
        };
        let rejected = RejectedEvent::new(&event, RejectionCause::Unreadable, "unknown");
        let restored = to_stored_event(shard, 7, rejected.subject, &rejected.headers, rejected.payload);
        assert_eq!((&restored.subject, &restored.payload), (&event.subject, &event.payload));
        assert_eq!(restored.headers, event.headers);
    }
}
