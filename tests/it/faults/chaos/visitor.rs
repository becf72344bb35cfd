//! Simulates users who connect, join and leave rooms, and disconnect.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt as _, rngs::StdRng};
use serde_json::json;
use tests::{client::Socket, cluster::token, eventually};
use tokio::{sync::watch, time::timeout};

/// A user who joins and leaves rooms at random.
pub(super) struct Visitor {
    pub(super) user: String,
    pub(super) nodes: Arc<[String]>,
    pub(super) rooms: Arc<[u64]>,
    pub(super) rng: StdRng,
}

impl Visitor {
    /// Connects and disconnects until `stop`, then stays in some rooms; returns its user, these rooms and its socket.
    pub(super) async fn run(mut self, stop: watch::Receiver<bool>) -> (String, BTreeSet<u64>, Socket) {
        while !*stop.borrow() {
            let mut socket = self.connect().await;
            // An error means that the node closed the socket or was killed.
            let _ = self.visit(&mut socket, &stop).await;
        }
        let final_rooms: BTreeSet<u64> =
            self.rooms.iter().copied().filter(|_| self.rng.random_range(0..2) == 0).collect();
        loop {
            let mut socket = self.connect().await;
            let mut joined = BTreeSet::new();
            while let Some(room) = final_rooms.difference(&joined).next().copied() {
                match socket.try_act("join_room", json!({ "room_pk": room })).await {
                    Ok(answer) if answer.status == 200 => drop(joined.insert(room)),
                    Ok(answer) => assert_eq!(answer.status, 503, "{answer}"),
                    Err(_) => break,
                }
            }
            if joined == final_rooms {
                return (self.user, final_rooms, socket);
            }
        }
    }

    async fn connect(&mut self) -> Socket {
        let node = &self.nodes[self.rng.random_range(0..self.nodes.len())];
        eventually("a node accepts a visitor", || async { Socket::open(node, &token(&self.user)).await.ok() })
            .await
    }

    /// Joins and leaves rooms for a while over one socket.
    async fn visit(&mut self, socket: &mut Socket, stop: &watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut joined = BTreeSet::new();
        for _ in 0..self.rng.random_range(1..30) {
            if *stop.borrow() {
                break;
            }
            let room = self.rooms[self.rng.random_range(0..self.rooms.len())];
            let action = if joined.contains(&room) { "leave_room" } else { "join_room" };
            let answer = socket.try_act(action, json!({ "room_pk": room })).await?;
            if answer.status == 200 {
                if !joined.remove(&room) {
                    joined.insert(room);
                }
            } else {
                assert_eq!(answer.status, 503, "{answer}");
            }
            let end = Instant::now() + Duration::from_millis(self.rng.random_range(0..300));
            while let Ok(push) =
                timeout(end.saturating_duration_since(Instant::now()), socket.try_push()).await
            {
                push?;
            }
        }
        Ok(())
    }
}
