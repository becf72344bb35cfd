//! Who writes when, and by which way it goes.

use std::io;

use anyhow::Context as _;
use mio::event::Event;

use super::World;
use crate::{
    around::Waiting,
    config::Config,
    line::Line,
    link::{self, Link, Protocol},
    marker::Marker,
    pace::Pace,
    peer::{Post, Route},
};

/// What is sent between two looks at what has come.
const BURST: usize = 512;

impl World<'_> {
    pub(super) fn open_links(&mut self, config: &Config) -> anyhow::Result<()> {
        let route = self.around.peer.route();
        let (count, addresses) = match &route {
            Route::Socket => return Ok(()),
            Route::Http(addresses) => {
                (config.connections.clamp(1, self.around.streams.len()), &addresses[..])
            }
            Route::Nats(address) => (1, std::slice::from_ref(address)),
        };
        for n in 0..count {
            let address = addresses[n % addresses.len()];
            let mut line = Line::open(address, self.sockets.len() + n, self.poll.registry())?;
            let protocol = if let Route::Http(_) = route {
                Protocol::Http(std::collections::VecDeque::new())
            } else {
                line.out().extend(link::broker(&config.nats_url)?.hello.as_bytes());
                Protocol::Nats
            };
            self.links.push(Link { address, line, protocol, is_dirty: false });
        }
        Ok(())
    }

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
        for link in &mut self.links {
            if std::mem::take(&mut link.is_dirty) {
                link.line.flush().context("a connection for sending")?;
            }
        }
        Ok(())
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
            return Ok(());
        }
        let count = self.links.len();
        let link = &mut self.links[index % count];
        self.around.peer.post(link.line.out(), post);
        if let Protocol::Http(waiting) = &mut link.protocol {
            waiting.push_back(of);
        }
        link.is_dirty = true;
        Ok(())
    }

    /// The room's first sockets write, one for each writer.
    fn post_by_socket(&mut self, post: Post<'_>, of: Waiting) {
        let each = self.sockets.len() / self.rooms;
        let mut payload = Vec::new();
        self.around.peer.post(&mut payload, post);
        let socket = post.room * each + post.stream % self.writers % each;
        if self.around.peer.answers() {
            self.sockets[socket].waiting().push_back(of);
        }
        let opcode = self.around.peer.opcode();
        if let Err(error) = self.sockets[socket].send(opcode, &payload) {
            // Nobody has it, and nobody answers it.
            self.around.streams[of.stream].refused.insert(of.seq);
            self.lose(socket, &error);
        }
    }

    pub(super) fn take_link(&mut self, link: usize, event: &Event) -> io::Result<()> {
        let token = self.sockets.len() + link;
        let link = &mut self.links[link];
        if event.is_writable() {
            link.line.writable()?;
        }
        if !event.is_readable() {
            return Ok(());
        }
        match link.readable(&mut self.buffer, event.is_read_closed(), &mut self.around) {
            // A server may end what has been idle for long.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && link.is_idle() => {
                link.line = Line::open(link.address, token, self.poll.registry())?;
                Ok(())
            }
            result => result,
        }
    }
}
