//! Compares the sockets in each room with the participants that sockets track and servers list.

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

    /// Number of joined sockets whose set of participants is wrong; 0 if sockets do not track them.
    pub(crate) fn count_wrong_sockets(&self) -> usize {
        if !self.context.tracks_participants {
            return 0;
        }
        let present = self.present_by_room();
        let joined = self.sockets.iter().filter(|socket| socket.state == SocketState::Joined);
        joined.filter(|socket| !is_same_set(socket.participants(), &present[socket.index().room])).count()
    }

    /// Number of rooms whose list of participants is wrong.
    pub(crate) fn count_wrong_lists(&self, listed: &[HashSet<usize>]) -> usize {
        self.present_by_room()
            .iter()
            .zip(listed)
            .filter(|(present, listed)| !is_same_set(listed, present))
            .count()
    }
}

fn is_same_set(listed: &HashSet<usize>, present: &BTreeSet<usize>) -> bool {
    listed.len() == present.len() && present.iter().all(|socket| listed.contains(socket))
}
