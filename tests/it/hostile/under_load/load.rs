//! Keeps a steady load: people who write to their rooms over HTTP, and sockets that are pushed the messages.
//!
//! What must hold: each message is acknowledged, and arrives once, in the order of the acknowledgements.

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
/// Pause between two messages of one room: 20 messages a second in all.
const PACE: Duration = Duration::from_millis(500);
/// Text of the last message of each room.
const END: &str = "end";

/// A received message: when it was sent, and how much later it arrived, in microseconds.
#[derive(Clone, Copy)]
pub(super) struct Delivery {
    pub sent: u64,
    pub after: u64,
}

pub(super) struct Load {
    pub rooms: Vec<u64>,
    began: Instant,
    stop: watch::Sender<bool>,
    writers: JoinSet<(u64, Vec<u64>, Vec<String>)>,
    readers: JoinSet<(u64, Vec<Delivery>)>,
}

/// Microseconds since `began`.
fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).expect("a short run")
}

/// Receives all messages of one room. The text of each says when it was sent.
async fn read(mut socket: Socket, room: u64, began: Instant) -> (u64, Vec<Delivery>) {
    let mut heard = Vec::new();
    loop {
        let event = socket.event("chat-message").await;
        let text = event.message();
        if text == END {
            return (room, heard);
        }
        let sent = text.parse().expect("a time");
        heard.push(Delivery { sent, after: micros(began) - sent });
    }
}

impl Load {
    /// Starts the load.
    pub(super) async fn start(cluster: &Cluster) -> Self {
        let (began, (stop, stopped)) = (Instant::now(), watch::channel(false));
        let (mut rooms, mut writers, mut readers) = (Vec::new(), JoinSet::new(), JoinSet::new());
        for n in 0..ROOMS {
            let rest = cluster.rest(0, &format!("writer{n}"));
            let room = rest.create_room(&format!("room {n}")).await;
            for m in 0..SOCKETS {
                let mut socket = cluster.socket(0, &format!("reader{n}-{m}")).await;
                socket.join_room(room).await;
                readers.spawn(read(socket, room, began));
            }
            let mut stopped = stopped.clone();
            writers.spawn(async move {
                let (mut acknowledged, mut faults) = (Vec::new(), Vec::new());
                let mut ticks = interval(PACE);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !*stopped.borrow_and_update() {
                    ticks.tick().await;
                    let sent = micros(began);
                    let request = rest.request(Method::POST, &paths::messages(room));
                    let request = request.header("x-forwarded-for", "10.0.0.1");
                    match request.json(&json!({ "message": sent.to_string() })).send().await {
                        Ok(answer) if answer.status() == StatusCode::CREATED => acknowledged.push(sent),
                        Ok(answer) => faults.push(format!("{}: {:?}", answer.status(), answer.text().await)),
                        Err(error) => faults.push(format!("{error:?}")),
                    }
                }
                (room, acknowledged, faults)
            });
            rooms.push(room);
        }
        Self { rooms, began, stop, writers, readers }
    }

    /// User id of a person in the first room.
    pub(super) fn somebody() -> String {
        "reader0-0".to_owned()
    }

    /// Microseconds since the load began.
    pub(super) fn now(&self) -> u64 {
        micros(self.began)
    }

    /// Ends the load, checks it, and returns all deliveries.
    pub(super) async fn end(self, cluster: &Cluster) -> Vec<Delivery> {
        self.stop.send_replace(true);
        let written = self.writers.join_all().await;
        for (room, _, faults) in &written {
            assert!(faults.is_empty(), "{faults:?}");
            cluster.rest(0, "ann").send_message(*room, END).await;
        }
        let mut all = Vec::new();
        for (room, heard) in self.readers.join_all().await {
            let sent: Vec<u64> = heard.iter().map(|delivery| delivery.sent).collect();
            let acknowledged = written.iter().find(|(other, ..)| *other == room).map(|(_, sent, _)| sent);
            assert_eq!(Some(&sent), acknowledged, "room {room}");
            all.extend(heard);
        }
        all
    }
}
