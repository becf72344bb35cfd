//! Wraps the raw socket under a session: reads through a shared buffer, writes many frames at once.

use std::{cell::RefCell, io, io::IoSlice, net::Shutdown};

use bytes::Bytes;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use crate::encode::frame::{Decoder, MESSAGE_BYTES_MAX};

/// Frames that go in one write.
const FRAMES_PER_WRITE_MAX: usize = 64;

thread_local! {
    /// Every socket of a thread reads into this one: idle sockets hold none.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 << 10].into_boxed_slice());
}

/// A socket after its upgrade.
#[derive(Debug)]
pub(crate) struct RawSocket(TcpStream);

impl RawSocket {
    /// A socket after its upgrade.
    pub(crate) const fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Resolves when there is something to read or room to write, as wanted.
    pub(crate) async fn ready(&self, reads: bool, writes: bool) -> io::Result<()> {
        let interest = match (reads, writes) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        self.0.ready(interest).await.map(drop)
    }

    /// Reads what is there. False where the other end is closed.
    pub(crate) fn read<const MAX: usize>(&self, decoder: &mut Decoder<MAX>) -> io::Result<bool> {
        BUFFER.with_borrow_mut(|buffer| match self.0.try_read(buffer) {
            Ok(0) => Ok(false),
            Ok(n) => {
                decoder.push(&buffer[..n]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        })
    }

    /// Writes the first of these frames; answers how many bytes it took.
    ///
    /// # Errors
    /// `WouldBlock` where it takes none now; any other where the connection is broken.
    pub(crate) fn write<'a>(
        &self,
        mut frames: impl ExactSizeIterator<Item = &'a Bytes>,
    ) -> io::Result<usize> {
        let written = if frames.len() == 1 {
            // By far the most frequent: straight to the system. Where that takes none the runtime asks again,
            // and so knows what to wait for.
            let frame = frames.next().expect("one frame");
            SockRef::from(&self.0).send(frame).or_else(|_| self.0.try_write(frame))
        } else {
            let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE_MAX];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(frames) {
                *slice = IoSlice::new(frame);
                count += 1;
            }
            self.0.try_write_vectored(&slices[..count])
        };
        match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        }
    }

    /// Says that nothing more is written.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        SockRef::from(&self.0).shutdown(Shutdown::Write)
    }

    /// Ends the connection, though others may still hold the socket.
    pub(crate) fn shutdown(&self) {
        // It may have ended already.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }

    /// Waits until the other end closes. Unread bytes would turn our close into a reset, and the goodbye
    /// would be lost with it.
    pub(crate) async fn read_until_closed(&self) -> io::Result<()> {
        loop {
            self.ready(true, false).await?;
            if !self.read(&mut Decoder::<MESSAGE_BYTES_MAX>::default())? {
                return Ok(());
            }
        }
    }
}
