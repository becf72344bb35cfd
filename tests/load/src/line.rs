//! One connection without blocking: what is to be written waits in it, what was read in part too.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use mio::{Interest, Registry, Token, net::TcpStream};
use socket2::{Domain, Socket, Type};

/// Connections from one address to one port: Linux has ports for some 28,000.
const FROM_ONE: usize = 20_000;

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    /// What was read and not taken.
    rest: Vec<u8>,
    /// What waits to be written.
    out: Vec<u8>,
    connected: bool,
}

/// What becomes of bytes that were read: how many of them were taken.
pub(crate) type Taken = io::Result<usize>;

impl Line {
    /// Begins to connect.
    pub(crate) fn open(address: SocketAddr, token: usize, registry: &Registry) -> io::Result<Self> {
        let mut stream = connect(address, token / FROM_ONE)?;
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, rest: Vec::new(), out: Vec::new(), connected: false })
    }

    /// Ends it.
    pub(crate) fn close(mut self, registry: &Registry) {
        // It ends with its drop, whatever else goes wrong.
        let _ = registry.deregister(&mut self.stream);
    }

    /// What waits to be written: add to it, then [`Self::flush`].
    pub(crate) const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Writes what waits, as far as the other end takes it: the rest goes when it can be written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.connected {
            return Ok(());
        }
        let mut written = 0;
        while written < self.out.len() {
            match self.stream.write(&self.out[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..written);
        Ok(())
    }

    /// It can be written to: connected now, or room for more.
    pub(crate) fn writable(&mut self) -> io::Result<()> {
        if !self.connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Ok(_) => {
                    self.connected = true;
                    self.stream.set_nodelay(true)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.flush()
    }

    /// Reads all that is there through a buffer that all lines share, and has it taken.
    pub(crate) fn readable(
        &mut self,
        buffer: &mut [u8],
        ends: bool,
        mut take: impl FnMut(&mut Vec<u8>, &[u8]) -> Taken,
    ) -> io::Result<()> {
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.rest.is_empty() {
                let taken = take(&mut self.out, &buffer[..n])?;
                self.rest.extend(&buffer[taken..n]);
            } else {
                self.rest.extend(&buffer[..n]);
                let taken = take(&mut self.out, &self.rest)?;
                self.rest.drain(..taken);
            }
            // Less than there was room for is all there is, unless the other end has closed as well.
            if n < buffer.len() && !ends {
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
