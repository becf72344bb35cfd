//! Who is in which room, as it is and as others say it is.

use std::collections::{BTreeSet, HashSet};

use super::World;
use crate::socket::State;

impl World<'_> {
    /// The sockets that are in each room.
    fn present(&self) -> Vec<BTreeSet<usize>> {
        let mut rooms = vec![BTreeSet::new(); self.rooms];
        for socket in self.sockets.iter().filter(|socket| socket.state == State::Joined) {
            rooms[socket.seat().room].insert(socket.seat().socket);
        }
        rooms
    }

    /// How many sockets, of those that remember it, take others for present than who are.
    pub(crate) fn misled(&self) -> usize {
        if !self.around.keeps_company {
            return 0;
        }
        let present = self.present();
        let inside = self.sockets.iter().filter(|socket| socket.state == State::Joined);
        inside.filter(|socket| !is(socket.company(), &present[socket.seat().room])).count()
    }

    /// Of how many rooms others are said to be present than who are.
    pub(crate) fn differ(&self, said: &[HashSet<usize>]) -> usize {
        self.present().iter().zip(said).filter(|(present, said)| !is(said, present)).count()
    }
}

fn is(said: &HashSet<usize>, present: &BTreeSet<usize>) -> bool {
    said.len() == present.len() && present.iter().all(|one| said.contains(one))
}
