//! Follows all rooms, and records the pushes to a reader over all its connections.
//!
//! A reader resumes as the documentation of native sockets says: each room from its last id; after a close with 4201
//! from the last position that it received, if that is lower.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};
use tests::{
    TIMEOUT,
    client::Socket,
    cluster::token,
    eventually,
    native::{Push, Subscription, decode},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::tungstenite::Error;

/// What the readers of a room must have received at the end.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The ids of messages, edits and deletions.
    pub(super) events: BTreeSet<u64>,
    pub(super) participants: BTreeSet<String>,
}

/// What one reader has received over all its connections.
#[derive(Debug, Default)]
pub(super) struct ReaderState {
    /// Ids of messages, edits and deletions of each room, in the order received.
    pub(super) events: BTreeMap<u64, Vec<u64>>,
    first_positions: BTreeMap<u64, Subscription>,
    /// The last `position` push: a pair of epoch and event id for each shard.
    position: Value,
    /// For each connection: its node, the id from which each room was resumed, and the error that ended it.
    connection_log: Vec<(String, BTreeMap<u64, u64>, String)>,
    /// The participants of each room; `None` if the server does not list them.
    pub(super) participants: BTreeMap<u64, Option<BTreeSet<String>>>,
    pub(super) connections: u32,
    pub(super) unrecovered: u32,
    /// Number of closes with 4201.
    pub(super) heals: u32,
    pub(super) joins: u32,
    pub(super) leaves: u32,
    /// Number of joins of present users and of leaves of absent users.
    pub(super) contradictions: u32,
    /// Number of read marks of other users that were received.
    pub(super) foreign_marks: u32,
}

/// The names in a list of participants; `None` if it is not a list.
fn names(list: &Value) -> Option<BTreeSet<String>> {
    Some(list.as_array()?.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect())
}

impl ReaderState {
    async fn follow(&mut self, socket: &mut Socket, rooms: &[u64]) -> Result<(), Error> {
        for room in rooms {
            let mut frame = json!({ "room_pk": room });
            if let Some(first) = self.first_positions.get(room) {
                let last = self.events.get(room).and_then(|ids| ids.last()).copied();
                let from = last.unwrap_or(first.id);
                frame["since"] = from.into();
                frame["epoch"] = first.epoch.into();
                let (_, since, _) = self.connection_log.last_mut().expect("there is a connection");
                since.insert(*room, from);
            }
            let answer = socket.try_act("join_room", frame).await?;
            if answer.status != 200 {
                return Err(Error::Io(std::io::Error::other(answer.to_string())));
            }
            let position: Subscription = decode(&answer.data["position"]);
            self.unrecovered += u32::from(!position.recovered);
            self.first_positions.entry(*room).or_insert(position);
            self.participants.insert(*room, names(&answer.data["participants"]));
        }
        Ok(())
    }

    fn apply(&mut self, push: &Push) {
        let data = &push.data;
        if push.event == "position" {
            self.position = data.clone();
        }
        if push.event == "presence" {
            let room = push.channel.strip_prefix("room-").and_then(|room| room.parse().ok());
            self.participants.insert(room.expect("the push has a room"), names(&data["participants"]));
        }
        let Some(room) = data["room"].as_u64() else { return };
        let user = || data["user"].as_str().unwrap_or_default().to_owned();
        let participants = self.participants.entry(room).or_default();
        match &*push.event {
            "chat-message" | "message-edit" | "message-delete" => {
                self.events.entry(room).or_default().push(push.id());
            }
            "participant-join" => {
                self.joins += 1;
                self.contradictions +=
                    u32::from(participants.as_mut().is_some_and(|participants| !participants.insert(user())));
            }
            "participant-leave" => {
                self.leaves += 1;
                self.contradictions += u32::from(
                    participants.as_mut().is_some_and(|participants| !participants.remove(&user())),
                );
            }
            "message-read" => self.foreign_marks += 1,
            _ => {}
        }
    }

    /// Records the end of a connection. After a close with 4201, forgets the events that the resume will repeat.
    fn record_end(&mut self, error: &Error) {
        let reason = error.to_string();
        if reason.ends_with("closed 4201") {
            self.heals += 1;
            for (room, ids) in &mut self.events {
                let first = self.first_positions[room];
                let [epoch, upto] = [0, 1].map(|n| &self.position[first.shard][n]);
                assert_eq!(*epoch, first.epoch, "the epoch must not change in this test");
                let upto = upto.as_u64().expect("a valid event id");
                ids.retain(|id| *id <= upto);
            }
        }
        if let Some((_, _, end)) = self.connection_log.last_mut() {
            *end = reason;
        }
    }

    /// Describes the connections over which an event may have been received.
    pub(super) fn connections_around(&self, room: u64, id: u64) -> String {
        let since = |n: usize| self.connection_log.get(n).and_then(|(_, since, _)| since.get(&room)).copied();
        let behind = (0..self.connection_log.len()).find(|n| since(*n).is_some_and(|since| since > id));
        let upto = behind.map_or(self.connection_log.len(), |n| n + 1);
        let connections = self.connection_log[upto.saturating_sub(3)..upto]
            .iter()
            .map(|(node, since, end)| format!("{node} from {:?} until {end:?}", since.get(&room)));
        connections.collect::<Vec<_>>().join(", ")
    }

    fn is_complete(&self, room: u64, expected: &Expected) -> bool {
        let events = self.events.get(&room).map_or(0, Vec::len);
        events >= expected.events.len()
            && self.participants.get(&room).and_then(Option::as_ref) == Some(&expected.participants)
    }
}

/// Reads, and reconnects to any node, until everything expected has been received, or for `PATIENCE` without it.
pub(super) async fn read(
    nodes: Arc<[String]>,
    user: String,
    rooms: Arc<[u64]>,
    mut rng: StdRng,
    mut expected_receiver: watch::Receiver<Option<Arc<BTreeMap<u64, Expected>>>>,
) -> (ReaderState, Option<Socket>) {
    let mut state = ReaderState::default();
    let mut end = None;
    loop {
        let node = &nodes[rng.random_range(0..nodes.len())];
        let mut socket =
            eventually("a node accepts a reader", || async { Socket::open(node, &token(&user)).await.ok() })
                .await;
        state.connections += 1;
        state.connection_log.push((node.clone(), BTreeMap::new(), String::new()));
        if let Err(error) = state.follow(&mut socket, &rooms).await {
            socket.take_pushes().iter().for_each(|push| state.apply(push));
            state.record_end(&error);
            continue;
        }
        loop {
            let expected = expected_receiver.borrow().clone();
            if let Some(expected) = expected {
                if expected.iter().all(|(room, expected)| state.is_complete(*room, expected)) {
                    // The socket stays open, so that no reader leaves before all readers have seen all participants.
                    return (state, Some(socket));
                }
                let end = *end.get_or_insert_with(|| Instant::now() + TIMEOUT);
                match timeout_at(end, socket.try_push()).await {
                    Ok(Ok(push)) => state.apply(&push),
                    Ok(Err(error)) => {
                        state.record_end(&error);
                        break;
                    }
                    Err(_) => return (state, None),
                }
                continue;
            }
            tokio::select! {
                push = socket.try_push() => match push {
                    Ok(push) => state.apply(&push),
                    Err(error) => {
                        state.record_end(&error);
                        break;
                    }
                },
                changed = expected_receiver.changed() => changed.expect("the test still runs"),
            }
        }
    }
}
