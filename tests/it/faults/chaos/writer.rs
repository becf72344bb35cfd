//! Simulates users who write, edit, delete and mark as read over HTTP, and records the answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{RngExt as _, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use tests::paths;
use tests::{client::Rest, eventually};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// Pause between a writer's requests.
const REQUEST_INTERVAL: Duration = Duration::from_millis(40);

/// What was requested. Every text is unique.
#[derive(Debug)]
pub(super) enum RequestKind {
    Message { text: String },
    Edit { id: u64, text: String },
    Delete { id: u64 },
    Mark { id: u64 },
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Acknowledged; with the id of a new message.
    Done(Option<u64>),
    /// Not stored, and never will be.
    Refused,
    /// No answer, or one that leaves the outcome open.
    Unknown,
}

/// One request with its user and room.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) user: String,
    pub(super) room: u64,
    pub(super) kind: RequestKind,
    pub(super) outcome: Outcome,
}

/// A writer that uses both api nodes.
pub(super) struct Writer {
    pub(super) rests: [Rest; 2],
    pub(super) user: String,
    pub(super) rooms: Arc<[u64]>,
    pub(super) rng: StdRng,
    /// Number of requests so far.
    request_count: usize,
    /// Room and id of acknowledged messages that are not deleted.
    own_messages: Vec<(u64, u64)>,
    marks: BTreeMap<u64, u64>,
    requests: Vec<Request>,
}

impl Writer {
    pub(super) const fn new(rests: [Rest; 2], user: String, rooms: Arc<[u64]>, rng: StdRng) -> Self {
        Self {
            rests,
            user,
            rooms,
            rng,
            request_count: 0,
            own_messages: Vec::new(),
            marks: BTreeMap::new(),
            requests: Vec::new(),
        }
    }

    /// Sends a request every `REQUEST_INTERVAL` until `stop`. Repeats most requests with their key until acknowledged.
    pub(super) async fn run(mut self, stop: watch::Receiver<bool>) -> Vec<Request> {
        let mut ticks = interval(REQUEST_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            ticks.tick().await;
            self.step().await;
        }
        self.requests
    }

    async fn step(&mut self) {
        let (kind, is_repeated) = (self.rng.random_range(0..100), self.rng.random_range(0..10) > 0);
        let index =
            (!self.own_messages.is_empty()).then(|| self.rng.random_range(0..self.own_messages.len()));
        match (kind, index) {
            (0..20, Some(index)) => self.edit(index, is_repeated).await,
            (20..28, Some(index)) => {
                let (room, id) = self.own_messages.swap_remove(index);
                let key = self.key();
                let path = paths::message(room, id);
                let outcome = self.send(Method::DELETE, &path, &key, &Value::Null, is_repeated).await;
                self.record(room, RequestKind::Delete { id }, outcome);
            }
            (28..43, Some(index)) => {
                let (room, id) = self.own_messages[index];
                if self.marks.get(&room).is_some_and(|mark| *mark >= id) {
                    return;
                }
                self.marks.insert(room, id);
                let (key, path) = (self.key(), paths::read_mark(room));
                let body = json!({ "message_id": id });
                let outcome = self.send(Method::PUT, &path, &key, &body, is_repeated).await;
                self.record(room, RequestKind::Mark { id }, outcome);
            }
            _ => {
                let room = self.rooms[self.rng.random_range(0..self.rooms.len())];
                let (text, path) = (self.key(), paths::messages(room));
                let body = json!({ "message": text, "client_id": text });
                let outcome = self.send(Method::POST, &path, &text, &body, is_repeated).await;
                if let Outcome::Done(Some(id)) = outcome {
                    self.own_messages.push((room, id));
                }
                self.record(room, RequestKind::Message { text }, outcome);
            }
        }
    }

    /// Edits a message once, or twice concurrently; the order in the log decides which text is the last.
    async fn edit(&mut self, index: usize, is_repeated: bool) {
        let (room, id) = self.own_messages[index];
        let path = &paths::message(room, id);
        let texts: Vec<String> = (0..self.rng.random_range(1..=2)).map(|_| self.key()).collect();
        let writer = &*self;
        let edits = texts.iter().map(|text| async move {
            writer.send(Method::PATCH, path, text, &json!({ "message": text }), is_repeated).await
        });
        let outcomes = futures_util::future::join_all(edits).await;
        for (text, outcome) in texts.into_iter().zip(outcomes) {
            self.record(room, RequestKind::Edit { id, text }, outcome);
        }
    }

    /// An unused key, which also serves as a text.
    fn key(&mut self) -> String {
        self.request_count += 1;
        format!("{}:{}", self.user, self.request_count)
    }

    fn record(&mut self, room: u64, kind: RequestKind, outcome: Outcome) {
        self.requests.push(Request { user: self.user.clone(), room, kind, outcome });
    }

    async fn send(&self, method: Method, path: &str, key: &str, body: &Value, is_repeated: bool) -> Outcome {
        let tries = AtomicUsize::new(self.request_count);
        let send = || async {
            let node = tries.fetch_add(1, Ordering::Relaxed) % self.rests.len();
            let request = self.rests[node].request(method.clone(), path).header("idempotency-key", key);
            let request = if body.is_null() { request } else { request.json(body) };
            let Ok(answer) = request.send().await else { return Outcome::Unknown };
            let status = answer.status();
            // The node may have been killed in the middle of its answer.
            let Ok(bytes) = answer.bytes().await else { return Outcome::Unknown };
            let answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            assert!(status.is_success() || status.as_u16() == 503, "{method} {path}: {status} {answer}");
            match answer["code"].as_str() {
                _ if status.is_success() => Outcome::Done(answer["id"].as_u64()),
                Some("not_stored") => Outcome::Refused,
                _ => Outcome::Unknown,
            }
        };
        if !is_repeated {
            return send().await;
        }
        eventually("a request is acknowledged", || async {
            Some(send().await).filter(|outcome| matches!(outcome, Outcome::Done(_)))
        })
        .await
    }
}
