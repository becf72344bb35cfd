//! A TCP proxy that a test can cut, stall or slow down: what networks do to a link.
//!
//! What must hold: while it is open or slow it changes nothing of what it forwards, and nothing
//! that it held back is lost by a stall.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the link is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Cut,
    Stalled,
    Slow(u32),
}

/// A link to one address. It ends with the runtime of the test that started it.
#[derive(Debug)]
pub struct Proxy {
    target: SocketAddr,
    address: SocketAddr,
    state: watch::Sender<State>,
    accepted: watch::Sender<usize>,
}

impl Proxy {
    /// Listens on a free port and forwards to `target`.
    ///
    /// # Panics
    /// When the machine has no port left.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let this = Self {
            target,
            address: listener.local_addr().expect("an address"),
            state: watch::Sender::new(State::Open),
            accepted: watch::Sender::new(0),
        };
        tokio::spawn(accept(listener, target, this.state.clone(), this.accepted.clone()));
        this
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The same URL by way of the proxy.
    ///
    /// # Panics
    /// When the URL leads somewhere else.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        let target = self.target.to_string();
        assert!(url.contains(&target), "the proxy leads to {target}");
        url.replace(&target, &self.address())
    }

    /// Drops every connection, and every new one.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Keeps every connection and takes new ones, but forwards nothing: both ends seem to live.
    pub fn stall(&self) {
        self.state.send_replace(State::Stalled);
    }

    /// Forwards no more than that many bytes a second, in each direction of each connection.
    pub fn slow(&self, bytes_per_second: u32) {
        self.state.send_replace(State::Slow(bytes_per_second));
    }

    /// Forwards as if nothing had been.
    pub fn restore(&self) {
        self.state.send_replace(State::Open);
    }

    /// Resolves when somebody connects from now on.
    pub async fn connected(&self) {
        let mut accepted = self.accepted.subscribe();
        // The sender lives in self.
        let _ = tokio::time::timeout(crate::PATIENCE, accepted.changed()).await.expect("nobody connects");
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Sender<State>,
    accepted: watch::Sender<usize>,
) {
    while let Ok((client, _)) = listener.accept().await {
        accepted.send_modify(|count| *count += 1);
        if *state.borrow() == State::Cut {
            continue;
        }
        let mut state = state.subscribe();
        tokio::spawn(async move {
            let mut cut = state.clone();
            tokio::select! {
                // An end of the link is no failure of the proxy.
                _ = forward(client, target, &mut state) => {}
                _ = cut.wait_for(|state| *state == State::Cut) => {}
            }
        });
    }
}

async fn forward(
    mut client: TcpStream,
    target: SocketAddr,
    state: &mut watch::Receiver<State>,
) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let mut other = state.clone();
    tokio::try_join!(pump(from_client, to_server, state), pump(from_server, to_client, &mut other))?;
    Ok(())
}

/// Forwards one direction to its end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &mut watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let n = from.read(&mut buffer).await?;
        let mut left = &buffer[..n];
        loop {
            // A stall that begins while the read waits holds back what it got.
            let now = *state.wait_for(|state| *state != State::Stalled).await.map_err(io::Error::other)?;
            if left.is_empty() {
                break;
            }
            let State::Slow(bytes_per_second) = now else {
                to.write_all(left).await?;
                break;
            };
            // A tenth of a second's share, then a tenth of a second; less where it is restored.
            let share = (bytes_per_second as usize).div_ceil(10).min(left.len());
            to.write_all(&left[..share]).await?;
            left = &left[share..];
            let _ = tokio::time::timeout(Duration::from_millis(100), state.changed()).await;
        }
        if n == 0 {
            return to.shutdown().await;
        }
    }
}
