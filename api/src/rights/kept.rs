//! The rooms that a node keeps in memory, and members of those that have more than are named with them.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use shared::{
    id::{RoomId, TeamId, UserId},
    subject::Channel,
};
use tokio::time::Instant;

use crate::queries::facts::{Facts, RoomAccess};

/// Weight of all rooms that are kept: one for a room and one for each person named with it.
const WEIGHT: u64 = 1_000_000;
/// Rooms expected among them.
const ROOMS: usize = 50_000;
/// Memberships that are kept beside.
const MEMBERS: usize = 500_000;

#[derive(Clone)]
struct Names;

impl Weighter<RoomId, Arc<Facts>> for Names {
    fn weight(&self, _: &RoomId, facts: &Arc<Facts>) -> u64 {
        1 + facts.users.named.len() as u64
    }
}

/// A person was a member when Postgres was asked.
#[derive(Clone, Copy)]
struct Membership {
    /// The last event of the channel's shard that is counted in.
    as_of: u64,
    asked_at: Instant,
}

/// Everything kept. What must hold: a membership is taken out by the event that ends it, and by an answer that lacks it.
pub(super) struct Kept {
    rooms: Cache<RoomId, Arc<Facts>, Names>,
    /// By the channel of the room or of the team that owns it, so that the rooms of a team share them.
    members: Cache<(Channel, UserId), Membership>,
}

impl Kept {
    pub(super) fn new() -> Self {
        Self { rooms: Cache::with_weighter(ROOMS, WEIGHT, Names), members: Cache::new(MEMBERS) }
    }

    /// A kept room, with what is kept of these people.
    pub(super) fn access(&self, room: RoomId, people: &[&UserId]) -> Option<RoomAccess> {
        let facts = self.rooms.get(&room)?;
        let access = RoomAccess::new(facts.clone());
        if facts.names_all() {
            return Some(access);
        }
        let channel = facts.members_channel();
        Some(people.iter().fold(access, |access, user| {
            let key = (channel.clone(), (*user).clone());
            match self.members.get(&key) {
                Some(Membership { as_of, asked_at }) => access.with([key.1], as_of, asked_at),
                None => access,
            }
        }))
    }

    /// Keeps a room, and which of these people are its members.
    pub(super) fn insert(&self, access: &RoomAccess, people: &[&UserId]) {
        let facts = &access.room;
        self.rooms.insert(facts.id, facts.clone());
        if facts.names_all() {
            return;
        }
        let membership = Membership { as_of: facts.members_as_of(), asked_at: facts.asked_at };
        for user in people {
            let key = (facts.members_channel(), (*user).clone());
            if access.has_member(user) {
                self.members.insert(key, membership);
            } else {
                self.members.remove(&key);
            }
        }
    }

    /// Takes out what an answer has put in.
    pub(super) fn remove(&self, access: &RoomAccess, people: &[&UserId]) {
        self.remove_room(access.room.id);
        for user in people {
            self.remove_member(&access.room.members_channel(), user);
        }
    }

    /// Takes out a room; who belongs to it stays.
    pub(super) fn remove_room(&self, room: RoomId) {
        self.rooms.remove(&room);
    }

    /// The rooms of a team that are kept.
    pub(super) fn rooms_of(&self, team: TeamId) -> Vec<RoomId> {
        let rooms = self.rooms.iter().filter(|(_, facts)| facts.team == Some(team));
        rooms.map(|(room, _)| room).collect()
    }

    /// Takes out one member of a room or a team.
    pub(super) fn remove_member(&self, channel: &Channel, user: &UserId) {
        self.members.remove(&(channel.clone(), user.clone()));
    }

    /// Takes out every member of a room or a team.
    pub(super) fn remove_members(&self, channel: &Channel) {
        self.members.retain(|(of, _), _| of != channel);
    }

    pub(super) fn clear(&self) {
        self.rooms.clear();
        self.members.clear();
    }
}
