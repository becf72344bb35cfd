//! Serves rooms at the lowest possible cost: an epoll loop that writes ready frames, one `write()` per socket and
//! message.
//!
//! It only parses frames; it stores nothing and authenticates nobody. A room is the path of its sockets, and each
//! message is forwarded to all sockets of the room. With `--every 5`, a socket's pending frames are written together
//! every 5 ms.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use clap::Parser;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

#[derive(Parser)]
struct Arguments {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Writes every this many milliseconds, instead of at once.
    #[arg(long)]
    every: Option<u64>,
    /// Leaves Nagle's algorithm on.
    #[arg(long)]
    nagle: bool,
}

struct Client {
    stream: TcpStream,
    room: Option<String>,
    read: Vec<u8>,
    pending: Vec<u8>,
}

impl Client {
    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            match self.stream.write(&self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Parses the handshake, queues its answer, and returns the path, which is the room.
    fn upgrade(&mut self) -> Option<String> {
        let end = memchr::memmem::find(&self.read, b"\r\n\r\n")? + 4;
        let path = String::from_utf8_lossy(&self.read).split(' ').nth(1)?.to_owned();
        self.read.drain(..end);
        // Without `Sec-WebSocket-Accept`: the load generator does not check it.
        self.pending
            .extend(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        self.room = Some(path.clone());
        Some(path)
    }

    /// Parses the next frame of a client, and returns it as a server's frame; `None` for an incomplete or non-text one.
    fn next_frame(&mut self) -> Option<Vec<u8>> {
        let short = usize::from(*self.read.get(1)? & 0x7f);
        let (len, head) = match short {
            126 => (usize::from(u16::from_be_bytes([*self.read.get(2)?, *self.read.get(3)?])), 4),
            _ => (short, 2),
        };
        let payload = self.read.get(head + 4..head + 4 + len)?;
        let mask = &self.read[head..head + 4];
        let mut frame = self.read[..head].to_vec();
        frame[1] &= 0x7f;
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        let is_text = frame[0] == 0x81;
        self.read.drain(..head + 4 + len);
        is_text.then_some(frame)
    }
}

struct Server {
    poll: Poll,
    clients: HashMap<usize, Client>,
    rooms: HashMap<String, Vec<usize>>,
    next: usize,
    every: Option<Duration>,
    nagle: bool,
    buffer: Box<[u8]>,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) -> std::io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(!self.nagle)?;
            self.next += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(self.next), interest)?;
            let client = Client { stream, room: None, read: Vec::new(), pending: Vec::new() };
            self.clients.insert(self.next, client);
        }
    }

    fn serve(&mut self, token: usize) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let mut open = client.flush();
        while open {
            match client.stream.read(&mut self.buffer) {
                Ok(0) => open = false,
                Ok(n) => client.read.extend(&self.buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => open = false,
            }
        }
        if client.room.is_none()
            && let Some(room) = client.upgrade()
        {
            open = open && client.flush();
            self.rooms.entry(room).or_default().push(token);
        }
        let mut frames = Vec::new();
        while client.room.is_some()
            && let Some(frame) = client.next_frame()
        {
            frames.push(frame);
        }
        let room = client.room.clone().unwrap_or_default();
        frames.iter().for_each(|frame| self.push(&room, frame));
        if !open && let Some(closed) = self.clients.remove(&token) {
            let room = closed.room.and_then(|room| self.rooms.get_mut(&room));
            room.into_iter().for_each(|room| room.retain(|other| *other != token));
        }
    }

    fn push(&mut self, room: &str, frame: &[u8]) {
        for token in self.rooms.get(room).into_iter().flatten() {
            let Some(client) = self.clients.get_mut(token) else { continue };
            client.pending.extend(frame);
            if self.every.is_none() {
                client.flush();
            }
        }
    }
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut listener = TcpListener::bind(arguments.listen)?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
    let mut server = Server {
        poll,
        clients: HashMap::new(),
        rooms: HashMap::new(),
        next: 0,
        every: arguments.every.map(Duration::from_millis),
        nagle: arguments.nagle,
        buffer: vec![0; 64 << 10].into_boxed_slice(),
    };
    let mut events = Events::with_capacity(1024);
    let mut last = Instant::now();
    loop {
        let wait = server.every.map(|every| every.saturating_sub(last.elapsed()));
        match server.poll.poll(&mut events, wait) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            match event.token().0 {
                0 => server.accept(&listener)?,
                token => server.serve(token),
            }
        }
        if server.every.is_some_and(|every| last.elapsed() >= every) {
            last = Instant::now();
            for client in server.clients.values_mut() {
                // A closed connection is noticed when it is read.
                let _ = client.flush();
            }
        }
    }
}
