//! Wraps the raw socket of a session: reads through a shared buffer, and writes many frames with one system call.

use std::{cell::RefCell, io, io::IoSlice, net::Shutdown};

use bytes::Bytes;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use crate::encode::frame::{Decoder, MESSAGE_BYTES_MAX};

/// Maximum frames in one write.
const FRAMES_PER_WRITE_MAX: usize = 64;

thread_local! {
    /// All sockets of a thread read into this buffer, so that idle sockets hold none.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 << 10].into_boxed_slice());
}

/// The TCP connection of a socket after its upgrade.
#[derive(Debug)]
pub(crate) struct RawSocket(TcpStream);

impl RawSocket {
    /// Wraps the connection of an upgraded socket.
    pub(crate) const fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Resolves when the socket is readable or writable, whichever is asked for. Never resolves if neither is.
    pub(crate) async fn ready(&self, reads: bool, writes: bool) -> io::Result<()> {
        let interest = match (reads, writes) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        self.0.ready(interest).await.map(drop)
    }

    /// Reads what has arrived, at most 64 KiB. False if the client has closed its end.
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

    /// Writes as much of these frames as the socket accepts now, at most 64 frames. Returns the number of bytes.
    ///
    /// # Errors
    /// `WouldBlock` if the socket accepts nothing now; any other if the connection is broken.
    pub(crate) fn write<'a>(
        &self,
        mut frames: impl ExactSizeIterator<Item = &'a Bytes>,
    ) -> io::Result<usize> {
        let written = if frames.len() == 1 {
            // By far the most frequent case, so the system call is made directly. If it fails, `try_write` repeats it,
            // by which the runtime learns that the socket is not writable.
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

    /// Closes the connection for writing.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        SockRef::from(&self.0).shutdown(Shutdown::Write)
    }

    /// Closes the connection, even while others still hold the socket.
    pub(crate) fn shutdown(&self) {
        // An error means that it is closed already.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }

    /// Reads and discards bytes until the client closes its end. If the server closed the connection with bytes unread,
    /// the client would get a reset, and might lose the close frame.
    pub(crate) async fn read_until_closed(&self) -> io::Result<()> {
        loop {
            self.ready(true, false).await?;
            if !self.read(&mut Decoder::<MESSAGE_BYTES_MAX>::default())? {
                return Ok(());
            }
        }
    }
}
