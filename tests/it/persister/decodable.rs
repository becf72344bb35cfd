//! Tests that whatever the codec decodes can be applied to Postgres: the golden events, changed at random wherever
//! they still decode.

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

/// An event as it is appended.
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
        // Long texts that don't compress: the kind that is too large for an index.
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

/// Which value of an event to replace; the text, number and flag that replace it, by the old value's type.
type Change = (Index, String, Value, bool);

fn sample() -> impl Strategy<Value = Sample> {
    let changes = prop::collection::vec((any::<Index>(), text(), number(), any::<bool>()), 0..6);
    (any::<Index>(), changes, any::<u64>(), 0..=i64::MAX).prop_map(|(line, changes, incarnation, counter)| {
        let lines: Vec<&str> = GOLDEN.lines().chain(MORE).collect();
        let (name, payload) = line.get(&lines).split_once(' ').expect("a name and a payload");
        let name = EventName::parse(name).expect("a known event");
        let mut payload = serde_json::from_str(payload).expect("JSON");
        for change in changes {
            let changed = changed(&payload, change);
            if Event::decode(name, changed.to_string().as_bytes()).is_ok() {
                payload = changed;
            }
        }
        Sample { name, payload, incarnation, counter }
    })
}

/// Every field of a person, and a room's detail of each kind: the golden events have only some of them.
const MORE: [&str; 3] = [
    r#"profile {"user":"7","issued_at":1,"username":"a","email":"b","gender":"c","language":"d","account":"e","main_photo":"f","business":true}"#,
    r#"room-made {"name":"a","description":"b","private":true,"users":["7","8"],"participants":["7"],"team":3,"user":"7","kind":"topic","active":true,"created_at":"2026-11-21T08:51:26.593514Z","activity":"2026-11-21T08:51:26.593514Z","unread":1,"detail":{"topic":{"category":"films","img":"a"}}}"#,
    r#"room-made {"name":"a","description":"b","private":true,"users":[],"participants":[],"team":null,"user":"7","kind":"support","active":true,"created_at":"2026-11-21T08:51:26.593514Z","activity":"2026-11-21T08:51:26.593514Z","unread":1,"detail":{"support":{"secret":"a","visitor":"b","org_id":"c","portfolio_name":"d","product_name":"e","event_id":"f","ordinal":1}}}"#,
];

/// Collects the JSON pointers of all values of a payload, nested ones included.
fn places(value: &Value, at: &str, into: &mut Vec<String>) {
    let mut inside = |key: &str, value: &Value| {
        let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        places(value, &place, into);
        into.push(place);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| inside(key, value)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| inside(&index.to_string(), value));
        }
        _ => {}
    }
}

fn changed(payload: &Value, (which, text, number, flag): Change) -> Value {
    let mut changed = payload.clone();
    let mut all = Vec::new();
    places(payload, "", &mut all);
    let place: &String = which.get(&all);
    let value = changed.pointer_mut(place).expect("a value of this payload");
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
    /// The channel on which api appends such an event.
    fn channel(&self) -> Channel {
        let number = |key: &str| self.payload[key].as_u64().unwrap_or(0);
        match self.name.as_str() {
            "chatroom" | "room-made" | "team-made" => Channel::System,
            "team-update" | "team-member-add" | "team-member-remove" => Channel::Team(TeamId(number("team"))),
            name if self.payload.get("room").is_some() && !name.starts_with("invitation") => {
                Channel::Room(RoomId(number("room")))
            }
            _ => {
                let user: UserId = serde_json::from_value(self.payload["user"].clone()).expect("it decodes");
                Channel::User(user)
            }
        }
    }

    /// Whether the event may be rejected: for U+0000, for an id that no room, team or message can have, or for an
    /// indexed text of a room that is longer than api accepts.
    fn may_be_refused(&self) -> bool {
        fn odd(value: &Value) -> bool {
            match value {
                Value::String(text) => text.contains('\0'),
                Value::Number(id) => id.as_u64().is_some_and(|id| !(1..=MAX_ID).contains(&id)),
                Value::Array(values) => values.iter().any(odd),
                Value::Object(fields) => {
                    fields.iter().any(|(name, value)| name.contains('\0') || !value.is_number() && odd(value))
                }
                _ => false,
            }
        }
        fn long(value: &Value) -> bool {
            match value {
                Value::String(text) => text.len() > 1_000,
                Value::Object(fields) => fields.values().any(long),
                _ => false,
            }
        }
        let fields = self.payload.as_object().expect("an object");
        fields.iter().any(|(name, value)| !matches!(name.as_str(), "issued_at" | "unread") && odd(value))
            || self.payload.get("kind").is_some() && self.payload.get("detail").is_some_and(long)
    }
}

struct Log {
    api: Context,
    pool: PgPool,
    _cluster: Cluster,
}

impl Log {
    /// Appends the events; fails if one is rejected that must not be.
    async fn apply(&self, samples: Vec<Sample>) -> Result<(), TestCaseError> {
        let shards = ShardCount::new(1).expect("a count");
        let mut acks = Vec::new();
        for sample in samples {
            let subject = sample.channel().log_subject(shards, sample.name, None);
            let mut headers = HeaderMap::new();
            headers.insert(header::INCARNATION, sample.incarnation.to_string());
            headers.insert(header::COUNTER, sample.counter.to_string());
            let shard = subject.split('.').nth(1).and_then(|token| token.parse().ok());
            let shard: Shard = shard.expect("our own subject");
            let payload = sample.payload.to_string().into();
            let ack = self.api.publish_with_headers(subject, headers, payload).await.expect("sent");
            acks.push((shard, sample, ack));
        }
        let mut appended = HashMap::new();
        for (shard, sample, ack) in acks {
            let seq = ack.await.expect("stored").sequence;
            appended.insert((shard.number(), i64::try_from(seq).expect("a sequence")), sample);
        }
        for (shard, seq) in appended.keys() {
            eventually("it is applied", || async {
                let sql = "SELECT seq FROM watermark WHERE shard = $1";
                let at: i64 = sqlx::query_scalar(sql).bind(shard).fetch_one(&self.pool).await.ok()?;
                (at >= *seq).then_some(())
            })
            .await;
        }
        // Events that are applied but for unknown fields, or wait for a refused one, are kept there too.
        let sql = "SELECT shard, seq, reason FROM rejected_event WHERE coalesce(cause, '') NOT IN ('unknown-fields', 'waits')";
        let rejected: Vec<(i16, i64, String)> =
            sqlx::query_as(sql).fetch_all(&self.pool).await.expect("rows");
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
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let log = runtime.block_on(async {
        let cluster = start().await;
        let (api, pool) = (cluster.jetstream(BrokerUser::Api).await, cluster.database.pool().await);
        Log { api, pool, _cluster: cluster }
    });
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config)
        .run(&prop::collection::vec(sample(), 1..40), |samples| runtime.block_on(log.apply(samples)));
    if let Err(error) = run {
        panic!("{error}");
    }
}
