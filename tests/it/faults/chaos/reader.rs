//! People who are in every room all the time, and what they are pushed over all their connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};
use tests::{PATIENCE, client::Socket, cluster::token, eventually};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// What a room's readers must have at the end.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The ids of messages, edits and deletions.
    pub(super) events: BTreeSet<u64>,
    pub(super) people: BTreeSet<String>,
}

/// What one reader has seen, over all its connections.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By room the ids of messages, edits and deletions, as they came.
    pub(super) events: BTreeMap<u64, Vec<u64>>,
    begun: BTreeMap<u64, Value>,
    /// Who is in each room, as it was told.
    pub(super) people: BTreeMap<u64, BTreeSet<String>>,
    pub(super) connections: u32,
    pub(super) unrecovered: u32,
    pub(super) joins: u32,
    pub(super) leaves: u32,
    /// A join of someone present, a leave of someone absent.
    pub(super) contradictions: u32,
    /// What others have read.
    pub(super) astray: u32,
}

impl Seen {
    async fn follow(&mut self, socket: &mut Socket, rooms: &[u64]) -> Option<()> {
        for room in rooms {
            let mut frame = json!({ "room_pk": room });
            if let Some(at) = self.begun.get(room) {
                let last = self.events.get(room).and_then(|ids| ids.last()).copied();
                frame["since"] = last.map_or_else(|| at["id"].clone(), Value::from);
                frame["epoch"] = at["epoch"].clone();
            }
            let answer = socket.act("join_room", frame).await.ok()?;
            let data = &answer["data"];
            if answer["response_status"] != 200 {
                return None;
            }
            self.unrecovered += u32::from(data["position"]["recovered"] != true);
            self.begun.entry(*room).or_insert_with(|| data["position"].clone());
            let people = data["participants"].as_array().into_iter().flatten();
            self.people.insert(*room, people.filter_map(|name| Some(name.as_str()?.to_owned())).collect());
        }
        Some(())
    }

    fn take(&mut self, push: &Value) {
        let data = &push["data"];
        let Some(room) = data["room"].as_u64() else { return };
        let user = || data["user"].as_str().unwrap_or_default().to_owned();
        let people = self.people.entry(room).or_default();
        match push["event"].as_str() {
            Some("chat-message" | "message-edit" | "message-delete") => {
                self.events.entry(room).or_default().push(push["id"].as_u64().expect("an id"));
            }
            Some("participant-join") => {
                self.joins += 1;
                self.contradictions += u32::from(!people.insert(user()));
            }
            Some("participant-leave") => {
                self.leaves += 1;
                self.contradictions += u32::from(!people.remove(&user()));
            }
            Some("message-read") => self.astray += 1,
            _ => {}
        }
    }

    fn has(&self, room: u64, expected: &Expected) -> bool {
        let events = self.events.get(&room).map_or(0, Vec::len);
        events >= expected.events.len() && self.people.get(&room) == Some(&expected.people)
    }
}

/// Reads wherever nodes are alive, until it has all that is expected, or has waited for long.
pub(super) async fn read(
    nodes: Arc<[String]>,
    user: String,
    rooms: Arc<[u64]>,
    mut rng: StdRng,
    mut all: watch::Receiver<Option<Arc<BTreeMap<u64, Expected>>>>,
) -> (Seen, Option<Socket>) {
    let mut seen = Seen::default();
    let mut end = None;
    loop {
        let node = &nodes[rng.random_range(0..nodes.len())];
        let mut socket =
            eventually("a node takes a reader", || async { Socket::open(node, &token(&user)).await.ok() })
                .await;
        seen.connections += 1;
        if seen.follow(&mut socket, &rooms).await.is_none() {
            continue;
        }
        loop {
            let expected = all.borrow().clone();
            if let Some(expected) = expected {
                if expected.iter().all(|(room, expected)| seen.has(*room, expected)) {
                    // The socket stays open: nobody leaves before everyone has seen everyone.
                    return (seen, Some(socket));
                }
                let end = *end.get_or_insert_with(|| Instant::now() + PATIENCE);
                match timeout_at(end, socket.push()).await {
                    Ok(Ok(push)) => seen.take(&push),
                    Ok(Err(_)) => break,
                    Err(_) => return (seen, None),
                }
                continue;
            }
            tokio::select! {
                push = socket.push() => match push {
                    Ok(push) => seen.take(&push),
                    Err(_) => break,
                },
                changed = all.changed() => changed.expect("the test lives"),
            }
        }
    }
}
