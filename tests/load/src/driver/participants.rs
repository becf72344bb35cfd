//! Compares who is in each room with what sockets and servers say about it.

use std::collections::{BTreeSet, HashSet};

use super::LoadDriver;
use crate::socket::SocketState;

impl LoadDriver<'_> {
    /// The sockets that are in each room.
    fn present_by_room(&self) -> Vec<BTreeSet<usize>> {
        let mut rooms = vec![BTreeSet::new(); self.rooms];
        for socket in self.sockets.iter().filter(|socket| socket.state == SocketState::Joined) {
            rooms[socket.index().room].insert(socket.index().socket);
        }
        rooms
    }

    /// Number of joined sockets whose set of participants is wrong; 0 where sockets do not track it.
    pub(crate) fn count_wrong_sockets(&self) -> usize {
        if !self.context.tracks_participants {
            return 0;
        }
        let present = self.present_by_room();
        let inside = self.sockets.iter().filter(|socket| socket.state == SocketState::Joined);
        inside.filter(|socket| !is_same_set(socket.participants(), &present[socket.index().room])).count()
    }

    /// Number of rooms whose list of participants is wrong.
    pub(crate) fn count_wrong_lists(&self, listed: &[HashSet<usize>]) -> usize {
        self.present_by_room()
            .iter()
            .zip(listed)
            .filter(|(present, said)| !is_same_set(said, present))
            .count()
    }
}

fn is_same_set(listed: &HashSet<usize>, present: &BTreeSet<usize>) -> bool {
    listed.len() == present.len() && present.iter().all(|one| listed.contains(one))
}
