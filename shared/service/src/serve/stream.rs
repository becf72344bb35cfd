//! Wraps the TCP stream under an HTTP connection with time-outs.
//!
//! What must hold: a write ends, successfully or not, within its time-out after the client has stopped reading. A close
//! waits, within bounds, for what the client is still sending, since closing a connection with unread bytes resets it,
//! and the answer is lost (RFC 9112, section 9.6).

use std::{
    future::Future as _,
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep_until},
};

use super::body::UnreadBody;

/// Silence after which the system probes the other end, the interval of the probes, and their number.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_RETRIES: u32 = 3;
/// How long sent bytes may go unacknowledged before the system ends a connection.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a close waits for a client that sends nothing more, how long for one that does, and for how many bytes.
const DISCARD_IDLE: Duration = Duration::from_secs(2);
const DISCARD_TIMEOUT: Duration = Duration::from_secs(30);
const DISCARD_MAX_BYTES: usize = 64 << 20;

/// Sets options of a listener, which all connections that it accepts inherit.
pub(super) fn set_options(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keep_alive.with_retries(KEEP_ALIVE_RETRIES))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_nodelay(true)
}

/// A TCP stream whose writes and whose end are bounded in time.
#[derive(Debug)]
pub struct BoundedStream {
    stream: TcpStream,
    write_timeout: Duration,
    /// Runs while the client reads nothing.
    stall_timer: Option<Pin<Box<Sleep>>>,
    unread: UnreadBody,
    closing: Option<PendingClose>,
}

/// A close that waits for the client.
#[derive(Debug)]
struct PendingClose {
    idle_timer: Pin<Box<Sleep>>,
    deadline: Instant,
    discarded_bytes: usize,
}

impl BoundedStream {
    pub(super) const fn new(stream: TcpStream, write_timeout: Duration, unread: UnreadBody) -> Self {
        Self { stream, write_timeout, stall_timer: None, unread, closing: None }
    }

    /// The stream itself, without the bounds.
    #[must_use]
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// Returns the outcome of a write, or an error if it has waited for too long.
    fn bound_write<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stall_timer = None;
            return outcome;
        }
        let timeout = self.write_timeout;
        let timer = self.stall_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + timeout)));
        ready!(timer.as_mut().poll(context));
        // Drops unsent bytes with the connection: the client would not read them either.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads and discards what the client still sends. Ready at the end of it, or once a bound is reached.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [std::mem::MaybeUninit::uninit(); 16 << 10];
        loop {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
            let now = Instant::now();
            let Some(closing) = &mut self.closing else { return Poll::Ready(()) };
            match read {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    closing.discarded_bytes += buffer.filled().len();
                    if closing.discarded_bytes > DISCARD_MAX_BYTES || now >= closing.deadline {
                        return Poll::Ready(());
                    }
                    closing.idle_timer.as_mut().reset((now + DISCARD_IDLE).min(closing.deadline));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                // The request was read to its end, so nothing more is expected.
                Poll::Pending if !self.unread.is_set() && closing.discarded_bytes == 0 => {
                    return Poll::Ready(());
                }
                Poll::Pending => return closing.idle_timer.as_mut().poll(context),
            }
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bound_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Does nothing: a TCP stream has no buffer to flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            SockRef::from(&self.stream).shutdown(Shutdown::Write)?;
            let now = Instant::now();
            let idle_timer = Box::pin(sleep_until(now + DISCARD_IDLE));
            self.closing =
                Some(PendingClose { idle_timer, deadline: now + DISCARD_TIMEOUT, discarded_bytes: 0 });
        }
        self.poll_discard(context).map(Ok)
    }
}
