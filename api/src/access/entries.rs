//! Caches room snapshots, and memberships in rooms that have more members than a snapshot names.

use std::sync::Arc;

use protocol::{
    id::{RoomId, TeamId, UserId},
    subject::Channel,
};
use quick_cache::{Weighter, sync::Cache};
use tokio::time::Instant;

use super::room_access::{RoomAccess, RoomSnapshot};

/// Maximum weight of the cache: each room weighs one, and one more for each member that its snapshot names.
const NAMES_MAX: u64 = 1_000_000;
/// Number of rooms that the cache allocates for at first.
const ROOMS_EXPECTED: usize = 50_000;
/// Maximum memberships cached beside the snapshots.
const MEMBERSHIPS_MAX: usize = 500_000;

#[derive(Clone)]
struct NamesWeighter;

impl Weighter<RoomId, Arc<RoomSnapshot>> for NamesWeighter {
    fn weight(&self, _: &RoomId, snapshot: &Arc<RoomSnapshot>) -> u64 {
        1 + snapshot.users.named.len() as u64
    }
}

/// A person was a member when Postgres was asked.
#[derive(Clone, Copy)]
struct CachedMembership {
    /// The last event of the channel's shard that the answer contains.
    as_of: u64,
    queried_at: Instant,
}

/// The cached snapshots and memberships.
///
/// What must hold: a membership is removed by the event that ends it, and by a snapshot that lacks it.
pub(super) struct AccessEntries {
    rooms: Cache<RoomId, Arc<RoomSnapshot>, NamesWeighter>,
    /// By the channel of the room or of its team: the rooms of a team share their memberships.
    members: Cache<(Channel, UserId), CachedMembership>,
}

impl AccessEntries {
    pub(super) fn new() -> Self {
        Self {
            rooms: Cache::with_weighter(ROOMS_EXPECTED, NAMES_MAX, NamesWeighter),
            members: Cache::new(MEMBERSHIPS_MAX),
        }
    }

    /// Returns cached access to a room for these people; `None` if the room is not cached. People without a cached
    /// membership count as non-members, so a caller must not take "no" from the result.
    pub(super) fn get(&self, room: RoomId, people: &[&UserId]) -> Option<RoomAccess> {
        let snapshot = self.rooms.get(&room)?;
        let access = RoomAccess::new(snapshot.clone());
        if snapshot.names_all_members() {
            return Some(access);
        }
        let channel = snapshot.members_channel();
        Some(people.iter().fold(access, |access, user| {
            let key = (channel.clone(), (*user).clone());
            match self.members.get(&key) {
                Some(CachedMembership { as_of, queried_at: asked_at }) => {
                    access.with_members([key.1], as_of, asked_at)
                }
                None => access,
            }
        }))
    }

    /// Caches a room's snapshot, and which of these people are members.
    pub(super) fn insert(&self, access: &RoomAccess, people: &[&UserId]) {
        let snapshot = &access.room;
        self.rooms.insert(snapshot.id, snapshot.clone());
        let membership =
            CachedMembership { as_of: snapshot.members_as_of(), queried_at: snapshot.queried_at };
        for user in people {
            let key = (snapshot.members_channel(), (*user).clone());
            if !access.has_member(user) {
                self.members.remove(&key);
            } else if !snapshot.names_all_members() {
                self.members.insert(key, membership);
            }
        }
    }

    /// Removes what [`Self::insert`] has cached.
    pub(super) fn remove(&self, access: &RoomAccess, people: &[&UserId]) {
        self.remove_room(access.room.id);
        for user in people {
            self.remove_member(&access.room.members_channel(), user);
        }
    }

    /// Removes a room's snapshot; cached memberships stay.
    pub(super) fn remove_room(&self, room: RoomId) {
        self.rooms.remove(&room);
    }

    /// Returns the cached rooms of a team.
    pub(super) fn rooms_of_team(&self, team: TeamId) -> Vec<RoomId> {
        let rooms = self.rooms.iter().filter(|(_, snapshot)| snapshot.team == Some(team));
        rooms.map(|(room, _)| room).collect()
    }

    /// Removes one cached membership of a room or a team.
    pub(super) fn remove_member(&self, channel: &Channel, user: &UserId) {
        self.members.remove(&(channel.clone(), user.clone()));
    }

    /// Removes all cached memberships of a room or a team.
    pub(super) fn remove_members(&self, channel: &Channel) {
        self.members.retain(|(of, _), _| of != channel);
    }

    pub(super) fn clear(&self) {
        self.rooms.clear();
        self.members.clear();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use protocol::{clock::Timestamp, event::RoomKind};

    use super::*;
    use crate::{access::room_access::KNOWN_MEMBERS_MAX, queries::members::Members};

    pub(in crate::access) fn user(name: &str) -> UserId {
        name.parse().expect("an id")
    }

    /// Makes private room 8 as of an event, with members whose ids precede all others.
    pub(in crate::access) fn room(members: usize, as_of: u64) -> RoomSnapshot {
        RoomSnapshot {
            id: RoomId(8),
            name: "board".to_owned(),
            description: None,
            kind: RoomKind::Private,
            creator: user("ann"),
            created_at: Timestamp::now(),
            manager: user("ann"),
            is_closed: false,
            team: None,
            org_id: None,
            users: Members {
                named: (0..members).map(|n| user(&format!("0-{n:04}"))).collect(),
                count: 5_000,
            },
            is_applied: true,
            last_event: 0,
            as_of,
            team_as_of: 0,
            queried_at: Instant::now(),
        }
    }

    /// Caches an answer about Bob.
    fn keep(entries: &AccessEntries, room: RoomSnapshot, is_member: bool) {
        let (as_of, asked_at) = (room.as_of, room.queried_at);
        let access =
            RoomAccess::new(room.into()).with_members(is_member.then(|| user("bob")), as_of, asked_at);
        entries.insert(&access, &[&user("bob")]);
    }

    fn access(entries: &AccessEntries) -> RoomAccess {
        entries.get(RoomId(8), &[&user("bob"), &user("eve")]).expect("it is kept")
    }

    #[test]
    fn membership_of_a_large_room_outlives_its_room_and_keeps_its_own_age() {
        let entries = AccessEntries::new();
        keep(&entries, room(KNOWN_MEMBERS_MAX, 7), true);
        entries.remove_room(RoomId(8));
        assert!(entries.get(RoomId(8), &[&user("bob")]).is_none());
        // Another person's request reads the room again.
        let newer = RoomAccess::new(room(KNOWN_MEMBERS_MAX, 9).into());
        entries.insert(&newer, &[&user("eve")]);
        let found = access(&entries);
        assert!(found.has_member(&user("bob")) && !found.has_member(&user("eve")));
        assert_eq!(found.grant().as_of, 7, "a removal after that may not be counted in");
        assert!(found.queried_at < newer.queried_at);
        assert_eq!(entries.get(RoomId(8), &[&user("eve")]).expect("it is kept").grant().as_of, 9);
    }

    #[test]
    fn membership_ends_by_its_removal_and_by_an_answer_that_lacks_it() {
        let entries = AccessEntries::new();
        let channel = Channel::Room(RoomId(8));
        keep(&entries, room(KNOWN_MEMBERS_MAX, 7), true);
        entries.remove_member(&channel, &user("eve"));
        assert!(access(&entries).has_member(&user("bob")), "another's removal");
        entries.remove_member(&channel, &user("bob"));
        assert!(!access(&entries).has_member(&user("bob")));
        keep(&entries, room(KNOWN_MEMBERS_MAX, 9), true);
        entries.remove_members(&Channel::Room(RoomId(9)));
        assert!(access(&entries).has_member(&user("bob")), "another room's");
        entries.remove_members(&channel);
        assert!(!access(&entries).has_member(&user("bob")));
        keep(&entries, room(KNOWN_MEMBERS_MAX, 9), true);
        keep(&entries, room(KNOWN_MEMBERS_MAX, 10), false);
        assert!(!access(&entries).has_member(&user("bob")));
    }

    #[test]
    fn room_with_all_members_named_needs_no_member_look_up() {
        let entries = AccessEntries::new();
        keep(&entries, room(KNOWN_MEMBERS_MAX, 7), true);
        keep(&entries, room(KNOWN_MEMBERS_MAX - 1, 9), false);
        let found = access(&entries);
        assert!(found.has_member(&user("0-0998")) && !found.has_member(&user("bob")), "he was put out since");
        assert_eq!(found.grant().as_of, 9);
    }
}
