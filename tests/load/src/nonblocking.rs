//! One connection without blocking: what is to be written waits in it, what was read in part too.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use mio::{Interest, Registry, Token, net::TcpStream};
use socket2::{Domain, Socket, Type};

/// Connections from one address to one port: Linux has ports for some 28,000.
const CONNECTIONS_PER_SOURCE_MAX: usize = 20_000;

/// A connection.
#[derive(Debug)]
pub(crate) struct NonblockingStream {
    stream: TcpStream,
    /// What was read and not taken.
    unparsed: Vec<u8>,
    /// What waits to be written.
    unsent: Vec<u8>,
    is_connected: bool,
}

/// What becomes of bytes that were read: how many of them were taken.
pub(crate) type ParsedBytes = io::Result<usize>;

impl NonblockingStream {
    /// Begins to connect.
    pub(crate) fn open(address: SocketAddr, token: usize, registry: &Registry) -> io::Result<Self> {
        let mut stream = connect(address, token / CONNECTIONS_PER_SOURCE_MAX)?;
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, unparsed: Vec::new(), unsent: Vec::new(), is_connected: false })
    }

    /// Ends it.
    pub(crate) fn close(mut self, registry: &Registry) {
        // It ends with its drop, whatever else goes wrong.
        let _ = registry.deregister(&mut self.stream);
    }

    /// What waits to be written: add to it, then [`Self::flush`].
    pub(crate) const fn unsent(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// Writes what waits, as far as the other end takes it: the rest goes when it can be written.
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

    /// It can be written to: connected now, or room for more.
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

    /// Reads all that is there through a buffer that all lines share, and has it taken.
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
                let taken = parse(&mut self.unsent, &buffer[..n])?;
                self.unparsed.extend(&buffer[taken..n]);
            } else {
                self.unparsed.extend(&buffer[..n]);
                let taken = parse(&mut self.unsent, &self.unparsed)?;
                self.unparsed.drain(..taken);
            }
            // Less than there was room for is all there is, unless the other end has closed as well.
            if n < buffer.len() && !is_read_closed {
                return Ok(());
            }
        }
    }
}

/// Begins to connect: on loopback, where every address is this machine, from the `n`th of them.
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
