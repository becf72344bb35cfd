//! Who writes when, and by which way it goes.

use super::World;
use crate::{around::Waiting, marker::Marker, pace::Pace, peer::Post};

/// What is sent between two looks at what has come.
const BURST: usize = 512;

impl World<'_> {
    pub(super) fn send_due(&mut self, pace: &mut Pace, now: u64) -> anyhow::Result<()> {
        let free = std::mem::take(&mut self.around.free);
        if pace.waits() {
            free.into_iter().try_for_each(|stream| self.post(stream, now))?;
        } else {
            for _ in 0..BURST {
                let due = pace.next();
                if due > now {
                    break;
                }
                self.post(self.turn_of()?, due)?;
                pace.did();
            }
        }
        self.links.flush(&mut self.around, self.poll.registry())
    }

    /// Whose turn it is: every stream in turn, so that rooms are as busy as each other.
    fn turn_of(&self) -> anyhow::Result<usize> {
        let turn = usize::try_from(self.posted)? % self.around.streams.len();
        // One writer of each room, then the next of each.
        Ok((turn % self.rooms) * self.writers + turn / self.rooms)
    }

    /// Sends a stream's next message.
    fn post(&mut self, index: usize, due: u64) -> anyhow::Result<()> {
        let stream = &mut self.around.streams[index];
        stream.sent += 1;
        self.posted += 1;
        let marker = Marker { stream: u32::try_from(index)?, seq: stream.sent, due };
        let of = Waiting { number: self.posted, stream: index, seq: stream.sent, due };
        let text = String::from_utf8(marker.text(self.size))?;
        let room = index / self.writers;
        let post = Post { room, stream: index, number: of.number, text: &text };
        if self.links.is_empty() {
            self.post_by_socket(post, of);
        } else {
            self.links.post(post, of, self.around.peer);
        }
        Ok(())
    }

    /// The room's first sockets write, one for each writer.
    fn post_by_socket(&mut self, post: Post<'_>, of: Waiting) {
        let each = self.sockets.len() / self.rooms;
        let mut payload = Vec::new();
        self.around.peer.post(&mut payload, post);
        let socket = post.room * each + post.stream % self.writers % each;
        if let Err(error) = self.sockets[socket].send(self.around.peer.opcode(), &payload) {
            // Nobody has it, and nobody answers it.
            self.around.streams[of.stream].refused.insert(of.seq);
            self.lose(socket, &error);
        } else if self.around.peer.answers() {
            self.sockets[socket].waiting().push_back(of);
        }
    }
}
