//! Sends messages: chooses the writer, the time and the connection.

use super::LoadDriver;
use crate::{context::PendingMessage, marker::Marker, server::NewPost, timing::SendSchedule};

/// Maximum number of messages sent between two polls.
const SENDS_PER_PASS_MAX: usize = 512;

impl LoadDriver<'_> {
    pub(super) fn send_due(&mut self, schedule: &mut SendSchedule, now: u64) -> anyhow::Result<()> {
        let idle_writers = std::mem::take(&mut self.context.idle_writers);
        if schedule.is_paced_by_answers() {
            idle_writers.into_iter().try_for_each(|writer| self.send_next(writer, now))?;
        } else {
            for _ in 0..SENDS_PER_PASS_MAX {
                let due = schedule.next_due_ns();
                if due > now {
                    break;
                }
                self.send_next(self.next_writer()?, due)?;
                schedule.record_sent();
            }
        }
        self.post_connections.flush(&mut self.context, self.poll.registry())
    }

    /// The next writer. All take turns, so that all rooms are equally busy.
    fn next_writer(&self) -> anyhow::Result<usize> {
        let turn = usize::try_from(self.sent_messages)? % self.context.writers.len();
        // The first writer of each room, then the second of each.
        Ok((turn % self.rooms) * self.writers_per_room + turn / self.rooms)
    }

    /// Sends a writer's next message, which was due at `due`, in nanoseconds since 1970.
    fn send_next(&mut self, index: usize, due: u64) -> anyhow::Result<()> {
        let writer = &mut self.context.writers[index];
        writer.sent_up_to += 1;
        self.sent_messages += 1;
        let marker = Marker { writer: u32::try_from(index)?, seq: writer.sent_up_to, due_ns: due };
        let pending =
            PendingMessage { number: self.sent_messages, writer: index, seq: writer.sent_up_to, due_ns: due };
        let text = String::from_utf8(marker.to_message_text(self.text_bytes))?;
        let room = index / self.writers_per_room;
        let post = NewPost { room, writer: index, number: pending.number, text: &text };
        if self.post_connections.is_empty() {
            self.send_by_socket(post, pending);
        } else {
            self.post_connections.queue(post, pending, self.context.server);
        }
        Ok(())
    }

    /// Sends a message by one of the room's first sockets: each writer has its own, if there are enough.
    fn send_by_socket(&mut self, post: NewPost<'_>, pending: PendingMessage) {
        let sockets_per_room = self.sockets.len() / self.rooms;
        let mut payload = Vec::new();
        self.context.server.write_post(&mut payload, post);
        let socket = post.room * sockets_per_room + post.writer % self.writers_per_room % sockets_per_room;
        if let Err(error) = self.sockets[socket].send(self.context.server.opcode(), &payload) {
            // The message was not sent: it need not arrive.
            self.context.writers[pending.writer].refused_seqs.insert(pending.seq);
            self.close_lost_socket(socket, &error);
        } else if self.context.server.is_acknowledging() {
            self.sockets[socket].pending().push_back(pending);
        }
    }
}
