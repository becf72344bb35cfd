//! Tests that every event that can be decoded can be applied to Postgres: golden events with random changes after which
//! they can still be decoded.

use std::collections::HashMap;

use async_nats::{HeaderMap, jetstream::Context};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestCaseError, TestRunner},
};
use protocol::{
    event::{Event, EventName, header},
    id::{MAX_ID, RoomId, Shard, ShardCount, TeamId, UserId},
    subject::Channel,
};
use serde_json::{Value, json};
use service::nats::BrokerUser;
use sqlx::PgPool;
use tests::{cluster::Cluster, eventually};

use super::start;

const GOLDEN: &str = include_str!("../../../shared/protocol/src/event/golden.txt");

/// An event to append.
#[derive(Clone, Debug)]
struct Sample {
    name: EventName,
    payload: Value,
    incarnation: u64,
    counter: i64,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        prop::collection::vec(any::<char>(), 0..40).prop_map(|letters| letters.into_iter().collect()),
        "[a-zA-Z0-9_.@:|+!#$%&'*/=?^`{}~-]{1,64}",
        prop::sample::select(vec![
            "\0",
            "a\0b",
            "\u{fffe}\u{ffff}",
            "\u{202e}\u{200d}\u{feff}",
            "👩‍👩‍👧‍👦",
            "e\u{301}\u{301}",
            "'; --",
            "\\u0000",
            "{}",
            "\r\n\t",
        ])
        .prop_map(str::to_owned),
        (1_usize..20_000).prop_map(|length| "\u{10ffff}".repeat(length)),
        // Long texts that do not compress are too large for an index.
        prop::collection::vec(any::<char>(), 2_000..4_000)
            .prop_map(|letters| letters.into_iter().filter(|letter| *letter != '\0').collect()),
        prop::sample::select(vec![
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "1582-10-10T00:00:00+23:59",
            "2000-02-29T23:59:59.9-23:59",
            "1969-12-31T23:59:59.9999999Z",
        ])
        .prop_map(str::to_owned),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (1..1_000_u64).prop_map(Value::from),
        prop::sample::select(vec![0, 1, MAX_ID, MAX_ID + 1, i64::MAX.unsigned_abs(), u64::MAX])
            .prop_map(Value::from),
    ]
}

/// The value of an event to replace, and the text, number and flag of which one replaces it, depending on its type.
type Change = (Index, String, Value, bool);

fn sample() -> impl Strategy<Value = Sample> {
    let changes = prop::collection::vec((any::<Index>(), text(), number(), any::<bool>()), 0..6);
    (any::<Index>(), changes, any::<u64>(), 0..=i64::MAX).prop_map(|(line, changes, incarnation, counter)| {
        let lines: Vec<&str> = GOLDEN.lines().chain(MORE).collect();
        let (name, payload) = line.get(&lines).split_once(' ').expect("a name and a payload");
        let name = EventName::parse(name).expect("a known event");
        let mut payload = serde_json::from_str(payload).expect("valid JSON");
        for change in changes {
            let changed = changed(&payload, change);
            if Event::decode(name, changed.to_string().as_bytes()).is_ok() {
                payload = changed;
            }
        }
        Sample { name, payload, incarnation, counter }
    })
}

/// Events with every field of a profile, and with the detail of a room of each kind: the golden events have only some.
const MORE: [&str; 3] = [
    r#"profile {"user":"7","issued_at":1,"username":"a","email":"b","gender":"c","language":"d","account":"e","main_photo":"f","business":true}"#,
    r#"room-made {"name":"a","description":"b","private":true,"users":["7","8"],"participants":["7"],"team":3,"user":"7","kind":"topic","active":true,"created_at":"2026-11-21T08:51:26.593514Z","activity":"2026-11-21T08:51:26.593514Z","unread":1,"detail":{"topic":{"category":"films","img":"a"}}}"#,
    r#"room-made {"name":"a","description":"b","private":true,"users":[],"participants":[],"team":null,"user":"7","kind":"support","active":true,"created_at":"2026-11-21T08:51:26.593514Z","activity":"2026-11-21T08:51:26.593514Z","unread":1,"detail":{"support":{"secret":"a","visitor":"b","org_id":"c","portfolio_name":"d","product_name":"e","event_id":"f","ordinal":1}}}"#,
];

/// Collects the JSON pointers of all values of a payload, nested ones included.
fn pointers(value: &Value, parent: &str, into: &mut Vec<String>) {
    let mut add_entry = |key: &str, value: &Value| {
        let pointer = format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"));
        pointers(value, &pointer, into);
        into.push(pointer);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| add_entry(key, value)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| add_entry(&index.to_string(), value));
        }
        _ => {}
    }
}

fn changed(payload: &Value, (which, text, number, flag): Change) -> Value {
    let mut changed = payload.clone();
    let mut all = Vec::new();
    pointers(payload, "", &mut all);
    let pointer: &String = which.get(&all);
    let value = changed.pointer_mut(pointer).expect("the pointer is one of this payload");
    *value = match &*value {
        Value::String(_) => Value::from(text),
        Value::Number(_) => number,
        Value::Bool(_) => Value::from(flag),
        Value::Null if flag => Value::from(text),
        Value::Null => number,
        Value::Array(old) if old.iter().any(Value::is_number) => json!([number, number]),
        Value::Array(_) => json!([text]),
        Value::Object(_) => json!({ text: number }),
    };
    changed
}

impl Sample {
    /// The channel to which api appends such an event.
    fn channel(&self) -> Channel {
        let number = |key: &str| self.payload[key].as_u64().unwrap_or(0);
        match self.name.as_str() {
            "chatroom" | "room-made" | "team-made" => Channel::System,
            "team-update" | "team-member-add" | "team-member-remove" => Channel::Team(TeamId(number("team"))),
            name if self.payload.get("room").is_some() && !name.starts_with("invitation") => {
                Channel::Room(RoomId(number("room")))
            }
            _ => {
                let user: UserId =
                    serde_json::from_value(self.payload["user"].clone()).expect("the event has a valid user");
                Channel::User(user)
            }
        }
    }

    /// Whether the event may be rejected: because of U+0000, of an id out of range, or of an
    /// indexed text of a room that is longer than api accepts.
    fn may_be_refused(&self) -> bool {
        fn has_invalid_value(value: &Value) -> bool {
            match value {
                Value::String(text) => text.contains('\0'),
                Value::Number(id) => id.as_u64().is_some_and(|id| !(1..=MAX_ID).contains(&id)),
                Value::Array(values) => values.iter().any(has_invalid_value),
                Value::Object(fields) => fields.iter().any(|(name, value)| {
                    name.contains('\0') || !value.is_number() && has_invalid_value(value)
                }),
                _ => false,
            }
        }
        fn has_long_text(value: &Value) -> bool {
            match value {
                Value::String(text) => text.len() > 1_000,
                Value::Object(fields) => fields.values().any(has_long_text),
                _ => false,
            }
        }
        let fields = self.payload.as_object().expect("the event is an object");
        fields
            .iter()
            .any(|(name, value)| !matches!(name.as_str(), "issued_at" | "unread") && has_invalid_value(value))
            || self.payload.get("kind").is_some() && self.payload.get("detail").is_some_and(has_long_text)
    }
}

struct Harness {
    api: Context,
    pool: PgPool,
    _cluster: Cluster,
}

impl Harness {
    /// Appends the events; fails if one is rejected that must not be.
    async fn apply(&self, samples: Vec<Sample>) -> Result<(), TestCaseError> {
        let shards = ShardCount::new(1).expect("a valid number of shards");
        let mut acks = Vec::new();
        for sample in samples {
            let subject = sample.channel().log_subject(shards, sample.name, None);
            let mut headers = HeaderMap::new();
            headers.insert(header::INCARNATION, sample.incarnation.to_string());
            headers.insert(header::COUNTER, sample.counter.to_string());
            let shard = subject.split('.').nth(1).and_then(|token| token.parse().ok());
            let shard: Shard = shard.expect("a valid subject");
            let payload = sample.payload.to_string().into();
            let ack = self
                .api
                .publish_with_headers(subject, headers, payload)
                .await
                .expect("the message is published");
            acks.push((shard, sample, ack));
        }
        let mut appended = HashMap::new();
        for (shard, sample, ack) in acks {
            let seq = ack.await.expect("the event is stored").sequence;
            appended.insert((shard.number(), i64::try_from(seq).expect("a valid sequence")), sample);
        }
        for (shard, seq) in appended.keys() {
            eventually("the event is applied", || async {
                let sql = "SELECT seq FROM watermark WHERE shard = $1";
                let watermark: i64 = sqlx::query_scalar(sql).bind(shard).fetch_one(&self.pool).await.ok()?;
                (watermark >= *seq).then_some(())
            })
            .await;
        }
        // The table also has events that were applied without unknown fields, or that wait for a rejected event.
        let sql = "SELECT shard, seq, reason FROM rejected_event WHERE coalesce(cause, '') NOT IN ('unknown-fields', 'waits')";
        let rejected: Vec<(i16, i64, String)> =
            sqlx::query_as(sql).fetch_all(&self.pool).await.expect("the query succeeds");
        for (shard, seq, reason) in rejected {
            if let Some(sample) = appended.get(&(shard, seq)) {
                prop_assert!(sample.may_be_refused(), "{sample:?}: {reason}");
            }
        }
        Ok(())
    }
}

#[test]
fn decodable_events_can_be_applied() {
    let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
    let log = runtime.block_on(async {
        let cluster = start().await;
        let (api, pool) = (cluster.jetstream(BrokerUser::Api).await, cluster.database.pool().await);
        Harness { api, pool, _cluster: cluster }
    });
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config)
        .run(&prop::collection::vec(sample(), 1..40), |samples| runtime.block_on(log.apply(samples)));
    if let Err(error) = run {
        panic!("{error}");
    }
}
