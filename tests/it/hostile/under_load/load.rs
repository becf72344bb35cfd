//! Runs a steady load: users write to rooms over HTTP, and sockets get the messages.
//!
//! What must hold: each message is acknowledged, and arrives at each socket once, in the order of the acknowledgements.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;
use tests::paths;
use tests::{client::Socket, cluster::Cluster};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

const ROOMS: usize = 10;
const SOCKETS: usize = 5;
/// Time between two messages of one room: 20 messages per second in all rooms together.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(500);
/// Text of the last message of each room.
const LAST_TEXT: &str = "end";

/// A received message: when it was sent, in microseconds since the start, and its latency in microseconds.
#[derive(Clone, Copy)]
pub(super) struct Delivery {
    pub sent_us: u64,
    pub latency_us: u64,
}

pub(super) struct Load {
    pub rooms: Vec<u64>,
    start: Instant,
    stop: watch::Sender<bool>,
    writers: JoinSet<(u64, Vec<u64>, Vec<String>)>,
    readers: JoinSet<(u64, Vec<Delivery>)>,
}

/// Microseconds since `began`.
fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).expect("the run is short")
}

/// Receives all messages of one room. The text of each is the time when it was sent.
async fn read(mut socket: Socket, room: u64, start: Instant) -> (u64, Vec<Delivery>) {
    let mut received = Vec::new();
    loop {
        let event = socket.event("chat-message").await;
        let text = event.message();
        if text == LAST_TEXT {
            return (room, received);
        }
        let sent_us = text.parse().expect("the text is a time");
        received.push(Delivery { sent_us, latency_us: micros(start) - sent_us });
    }
}

impl Load {
    /// Starts the load.
    pub(super) async fn start(cluster: &Cluster) -> Self {
        let (start, (stop, stopped)) = (Instant::now(), watch::channel(false));
        let (mut rooms, mut writers, mut readers) = (Vec::new(), JoinSet::new(), JoinSet::new());
        for n in 0..ROOMS {
            let rest = cluster.rest(0, &format!("writer{n}"));
            let room = rest.create_room(&format!("room {n}")).await;
            for m in 0..SOCKETS {
                let mut socket = cluster.socket(0, &format!("reader{n}-{m}")).await;
                socket.join_room(room).await;
                readers.spawn(read(socket, room, start));
            }
            let mut stopped = stopped.clone();
            writers.spawn(async move {
                let (mut acknowledged, mut faults) = (Vec::new(), Vec::new());
                let mut ticks = interval(MESSAGE_INTERVAL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !*stopped.borrow_and_update() {
                    ticks.tick().await;
                    let sent_us = micros(start);
                    let request = rest.request(Method::POST, &paths::messages(room));
                    let request = request.header("x-forwarded-for", "10.0.0.1");
                    match request.json(&json!({ "message": sent_us.to_string() })).send().await {
                        Ok(answer) if answer.status() == StatusCode::CREATED => acknowledged.push(sent_us),
                        Ok(answer) => faults.push(format!("{}: {:?}", answer.status(), answer.text().await)),
                        Err(error) => faults.push(format!("{error:?}")),
                    }
                }
                (room, acknowledged, faults)
            });
            rooms.push(room);
        }
        Self { rooms, start, stop, writers, readers }
    }

    /// Id of a user in the first room.
    pub(super) fn first_reader() -> String {
        "reader0-0".to_owned()
    }

    /// Microseconds since the load began.
    pub(super) fn now(&self) -> u64 {
        micros(self.start)
    }

    /// Stops the load, checks that all messages arrived, and returns all deliveries.
    pub(super) async fn end(self, cluster: &Cluster) -> Vec<Delivery> {
        self.stop.send_replace(true);
        let written = self.writers.join_all().await;
        for (room, _, faults) in &written {
            assert!(faults.is_empty(), "{faults:?}");
            cluster.rest(0, "ann").send_message(*room, LAST_TEXT).await;
        }
        let mut all = Vec::new();
        for (room, received) in self.readers.join_all().await {
            let sent_us: Vec<u64> = received.iter().map(|delivery| delivery.sent_us).collect();
            let acknowledged =
                written.iter().find(|(other, ..)| *other == room).map(|(_, sent_us, _)| sent_us);
            assert_eq!(Some(&sent_us), acknowledged, "room {room}");
            all.extend(received);
        }
        all
    }
}
