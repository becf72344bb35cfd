//! Provides a non-blocking connection, which buffers unsent bytes and incomplete input.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use mio::{Interest, Registry, Token, net::TcpStream};
use socket2::{Domain, Socket, Type};

/// Maximum number of connections from one address to one port; Linux has about 28,000 ephemeral ports.
const CONNECTIONS_PER_SOURCE_MAX: usize = 20_000;

/// A non-blocking TCP connection.
#[derive(Debug)]
pub(crate) struct NonblockingStream {
    stream: TcpStream,
    /// Bytes that were read and not yet parsed.
    unparsed: Vec<u8>,
    /// Bytes to write.
    unsent: Vec<u8>,
    is_connected: bool,
}

/// The number of bytes that a parser consumed.
pub(crate) type ParsedBytes = io::Result<usize>;

impl NonblockingStream {
    pub(crate) fn open(address: SocketAddr, token: usize, registry: &Registry) -> io::Result<Self> {
        let mut stream = connect(address, token / CONNECTIONS_PER_SOURCE_MAX)?;
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, unparsed: Vec::new(), unsent: Vec::new(), is_connected: false })
    }

    /// Closes the connection.
    pub(crate) fn close(mut self, registry: &Registry) {
        // Dropping the stream closes it, even if this fails.
        let _ = registry.deregister(&mut self.stream);
    }

    /// The buffer of bytes to write. Append to it, then call [`Self::flush`].
    pub(crate) const fn unsent(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// Writes as many of the buffered bytes as the socket accepts; the rest is written when it becomes writable.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.is_connected {
            return Ok(());
        }
        let mut written = 0;
        while written < self.unsent.len() {
            match self.stream.write(&self.unsent[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..written);
        Ok(())
    }

    /// Handles a writable event: the connect has completed, or there is space for more bytes.
    pub(crate) fn on_writable(&mut self) -> io::Result<()> {
        if !self.is_connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Ok(_) => {
                    self.is_connected = true;
                    self.stream.set_nodelay(true)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.flush()
    }

    /// Reads until there is nothing more, and calls `parse` with the buffer of bytes to write and the input. `buffer`
    /// is shared by all connections.
    ///
    /// # Errors
    /// `UnexpectedEof`, when the other end has closed the connection.
    pub(crate) fn on_readable(
        &mut self,
        buffer: &mut [u8],
        is_read_closed: bool,
        mut parse: impl FnMut(&mut Vec<u8>, &[u8]) -> ParsedBytes,
    ) -> io::Result<()> {
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.unparsed.is_empty() {
                let consumed = parse(&mut self.unsent, &buffer[..n])?;
                self.unparsed.extend(&buffer[consumed..n]);
            } else {
                self.unparsed.extend(&buffer[..n]);
                let consumed = parse(&mut self.unsent, &self.unparsed)?;
                self.unparsed.drain(..consumed);
            }
            // A short read means that there is no more, unless the other end has closed too: then read the EOF.
            if n < buffer.len() && !is_read_closed {
                return Ok(());
            }
        }
    }
}

/// Starts to connect. To a loopback address it connects from 127.0.0.1 + `n`, since all of 127/8 is this machine.
fn connect(to: SocketAddr, n: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let IpAddr::V4(ip) = to.ip()
        && ip.is_loopback()
        && let Ok(n @ 1..) = u32::try_from(n)
    {
        let from = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + n);
        socket.bind(&SocketAddr::from((from, 0)).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
