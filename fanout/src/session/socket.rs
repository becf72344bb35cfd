//! The raw socket under a session: reads through a shared buffer, writes all that is pending at once.

use std::{cell::RefCell, collections::VecDeque, io, io::IoSlice};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::TcpStream,
};

use super::{frame::Decoder, outbox::Outbox};

/// Frames that go in one write.
const SLICES: usize = 64;

thread_local! {
    /// Every socket of a thread reads into this one: idle sockets hold none.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 << 10].into_boxed_slice());
}

/// A socket and what waits to be written to it.
pub(crate) struct Socket {
    stream: TcpStream,
    /// Frames on their way; the first may be written in part.
    pub(crate) pending: VecDeque<Bytes>,
    /// Whether the first is written in part.
    partial: bool,
}

impl Socket {
    /// A socket after its upgrade.
    pub(crate) const fn new(stream: TcpStream) -> Self {
        Self { stream, pending: VecDeque::new(), partial: false }
    }

    /// Resolves when there is something to read, if wanted, or room to write what waits.
    pub(crate) async fn ready(&self, reads: bool) -> io::Result<()> {
        let interest = match (reads, self.pending.is_empty()) {
            (true, true) => Interest::READABLE,
            (true, false) => Interest::READABLE | Interest::WRITABLE,
            (false, false) => Interest::WRITABLE,
            (false, true) => return std::future::pending().await,
        };
        self.stream.ready(interest).await.map(drop)
    }

    /// Reads what is there. False where the other end is closed.
    pub(crate) fn read(&self, decoder: &mut Decoder) -> io::Result<bool> {
        BUFFER.with_borrow_mut(|buffer| match self.stream.try_read(buffer) {
            Ok(0) => Ok(false),
            Ok(n) => {
                decoder.push(&buffer[..n]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        })
    }

    /// Writes as much as the socket takes now, and says whether that was anything.
    pub(crate) fn flush(&mut self, outbox: &Outbox) -> io::Result<bool> {
        let mut wrote = false;
        while !self.pending.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&self.pending) {
                *slice = IoSlice::new(frame);
                count += 1;
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    outbox.written(n);
                    self.advance(n);
                    wrote = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(wrote),
                Err(error) => return Err(error),
            }
        }
        // An idle socket holds no queue.
        self.pending = VecDeque::new();
        Ok(wrote)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.pending.front_mut() {
            if written < first.len() {
                first.advance(written);
                self.partial = self.partial || written > 0;
                return;
            }
            written -= first.len();
            self.partial = false;
            self.pending.pop_front();
        }
    }

    /// Drops what waits, but for the rest of a frame that is written in part: a goodbye can only
    /// follow a whole frame.
    pub(crate) fn drop_whole_frames(&mut self) {
        self.pending.truncate(usize::from(self.partial));
    }

    /// Writes all that waits and waits for the other end to close.
    pub(crate) async fn goodbye(&mut self, outbox: &Outbox) -> io::Result<()> {
        loop {
            self.flush(outbox)?;
            if self.pending.is_empty() {
                break;
            }
            self.stream.writable().await?;
        }
        self.stream.shutdown().await?;
        // Unread bytes would turn our close into a reset, and the goodbye would be lost with it.
        let mut ignored = Decoder::default();
        loop {
            self.stream.readable().await?;
            if !self.read(&mut ignored)? {
                return Ok(());
            }
            ignored = Decoder::default();
        }
    }
}
