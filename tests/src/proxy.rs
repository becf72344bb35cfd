//! Forwards TCP connections, and lets a test cut, stall or slow them down.
//!
//! What must hold: while the proxy is open or slow it forwards every byte unchanged. A stall loses no byte that the
//! proxy has read.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the proxy does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Cut,
    Stalled,
    Slow(u32),
}

/// A proxy for one address. It ends with the runtime of the test that started it.
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
    /// When no port is free.
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

    /// The address that the proxy listens on.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Replaces the target's address in a URL by the proxy's.
    ///
    /// # Panics
    /// When the URL does not contain the target's address.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        let target = self.target.to_string();
        assert!(url.contains(&target), "the proxy leads to {target}");
        url.replace(&target, &self.address())
    }

    /// Closes every connection, and every new one.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Keeps every connection and accepts new ones, but forwards nothing.
    pub fn stall(&self) {
        self.state.send_replace(State::Stalled);
    }

    /// Forwards at most this many bytes per second, in each direction of each connection.
    pub fn slow(&self, bytes_per_second: u32) {
        self.state.send_replace(State::Slow(bytes_per_second));
    }

    /// Forwards without limits again.
    pub fn restore(&self) {
        self.state.send_replace(State::Open);
    }

    /// Waits for the next new connection.
    ///
    /// # Panics
    /// When there is none within [`TIMEOUT`](crate::TIMEOUT).
    pub async fn connected(&self) {
        let mut accepted = self.accepted.subscribe();
        // `changed` can't fail: the sender is in `self`.
        let _ = tokio::time::timeout(crate::TIMEOUT, accepted.changed()).await.expect("nobody connects");
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
                // A closed or failed connection is not an error of the proxy.
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

/// Forwards one direction until it ends.
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
            // Checked after the read, so that a stall that began meanwhile holds back these bytes too.
            let now = *state.wait_for(|state| *state != State::Stalled).await.map_err(io::Error::other)?;
            if left.is_empty() {
                break;
            }
            let State::Slow(bytes_per_second) = now else {
                to.write_all(left).await?;
                break;
            };
            // The bytes of a tenth of a second, then a wait of that time, or until the state changes.
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
