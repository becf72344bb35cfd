//! Follows every room all the time, and keeps what each reader is pushed over all their connections.
//!
//! They resume as the documentation of native sockets says: each room from its last id, and after a close with 4201
//! from the position received before it, if that is lower.

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

/// What a room's readers must have received at the end.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The ids of messages, edits and deletions.
    pub(super) events: BTreeSet<u64>,
    pub(super) people: BTreeSet<String>,
}

/// What one reader has received over all its connections.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Ids of messages, edits and deletions of each room, in the order received.
    pub(super) events: BTreeMap<u64, Vec<u64>>,
    begun: BTreeMap<u64, Subscription>,
    /// Last position received: a pair of epoch and event id for each shard.
    position: Value,
    /// For each connection: its node, the id from which each room was resumed, and how it ended.
    history: Vec<(String, BTreeMap<u64, u64>, String)>,
    /// Of each room who is in it; none while the server does not know.
    pub(super) people: BTreeMap<u64, Option<BTreeSet<String>>>,
    pub(super) connections: u32,
    pub(super) unrecovered: u32,
    /// Number of closes with 4201.
    pub(super) heals: u32,
    pub(super) joins: u32,
    pub(super) leaves: u32,
    /// Number of joins of present users and of leaves of absent users.
    pub(super) contradictions: u32,
    /// Number of read marks of other users that were received.
    pub(super) astray: u32,
}

/// The names in a list of people, where there is one.
fn names(list: &Value) -> Option<BTreeSet<String>> {
    Some(list.as_array()?.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect())
}

impl Seen {
    async fn follow(&mut self, socket: &mut Socket, rooms: &[u64]) -> Result<(), Error> {
        for room in rooms {
            let mut frame = json!({ "room_pk": room });
            if let Some(at) = self.begun.get(room) {
                let last = self.events.get(room).and_then(|ids| ids.last()).copied();
                let from = last.unwrap_or(at.id);
                frame["since"] = from.into();
                frame["epoch"] = at.epoch.into();
                let (_, since, _) = self.history.last_mut().expect("it is connected");
                since.insert(*room, from);
            }
            let answer = socket.try_act("join_room", frame).await?;
            if answer.status != 200 {
                return Err(Error::Io(std::io::Error::other(answer.to_string())));
            }
            let position: Subscription = decode(&answer.data["position"]);
            self.unrecovered += u32::from(!position.recovered);
            self.begun.entry(*room).or_insert(position);
            self.people.insert(*room, names(&answer.data["participants"]));
        }
        Ok(())
    }

    fn take(&mut self, push: &Push) {
        let data = &push.data;
        if push.event == "position" {
            self.position = data.clone();
        }
        if push.event == "presence" {
            let room = push.channel.strip_prefix("room-").and_then(|room| room.parse().ok());
            self.people.insert(room.expect("a room"), names(&data["participants"]));
        }
        let Some(room) = data["room"].as_u64() else { return };
        let user = || data["user"].as_str().unwrap_or_default().to_owned();
        let people = self.people.entry(room).or_default();
        match &*push.event {
            "chat-message" | "message-edit" | "message-delete" => {
                self.events.entry(room).or_default().push(push.id());
            }
            "participant-join" => {
                self.joins += 1;
                self.contradictions +=
                    u32::from(people.as_mut().is_some_and(|people| !people.insert(user())));
            }
            "participant-leave" => {
                self.leaves += 1;
                self.contradictions +=
                    u32::from(people.as_mut().is_some_and(|people| !people.remove(&user())));
            }
            "message-read" => self.astray += 1,
            _ => {}
        }
    }

    /// Notes that the socket was closed. After a close with 4201, forgets the events that the resume repeats.
    fn closed(&mut self, error: &Error) {
        let how = error.to_string();
        if how.ends_with("closed 4201") {
            self.heals += 1;
            for (room, ids) in &mut self.events {
                let begun = self.begun[room];
                let [epoch, upto] = [0, 1].map(|n| &self.position[begun.shard][n]);
                assert_eq!(*epoch, begun.epoch, "no log is lost here");
                let upto = upto.as_u64().expect("an event");
                ids.retain(|id| *id <= upto);
            }
        }
        if let Some((_, _, end)) = self.history.last_mut() {
            *end = how;
        }
    }

    /// Describes the connections over which an event may have been received.
    pub(super) fn around(&self, room: u64, id: u64) -> String {
        let since = |n: usize| self.history.get(n).and_then(|(_, since, _)| since.get(&room)).copied();
        let behind = (0..self.history.len()).find(|n| since(*n).is_some_and(|since| since > id));
        let upto = behind.map_or(self.history.len(), |n| n + 1);
        let some = self.history[upto.saturating_sub(3)..upto]
            .iter()
            .map(|(node, since, end)| format!("{node} from {:?} until {end:?}", since.get(&room)));
        some.collect::<Vec<_>>().join(", ")
    }

    fn has(&self, room: u64, expected: &Expected) -> bool {
        let events = self.events.get(&room).map_or(0, Vec::len);
        events >= expected.events.len()
            && self.people.get(&room).and_then(Option::as_ref) == Some(&expected.people)
    }
}

/// Reads from live nodes until everything expected has been received, or a time is over.
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
        seen.history.push((node.clone(), BTreeMap::new(), String::new()));
        if let Err(error) = seen.follow(&mut socket, &rooms).await {
            socket.take_pushes().iter().for_each(|push| seen.take(push));
            seen.closed(&error);
            continue;
        }
        loop {
            let expected = all.borrow().clone();
            if let Some(expected) = expected {
                if expected.iter().all(|(room, expected)| seen.has(*room, expected)) {
                    // The socket stays open: nobody leaves before everyone has seen everyone.
                    return (seen, Some(socket));
                }
                let end = *end.get_or_insert_with(|| Instant::now() + TIMEOUT);
                match timeout_at(end, socket.try_push()).await {
                    Ok(Ok(push)) => seen.take(&push),
                    Ok(Err(error)) => {
                        seen.closed(&error);
                        break;
                    }
                    Err(_) => return (seen, None),
                }
                continue;
            }
            tokio::select! {
                push = socket.try_push() => match push {
                    Ok(push) => seen.take(&push),
                    Err(error) => {
                        seen.closed(&error);
                        break;
                    }
                },
                changed = all.changed() => changed.expect("the test lives"),
            }
        }
    }
}
