//! Cuts the connection to Postgres at the worst moment: after a COMMIT is sent, and before its answer arrives.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
};

/// A proxy that drops the answers to some COMMITs.
pub(super) struct CommitCutter {
    port: u16,
    cuts: Arc<AtomicU32>,
}

impl CommitCutter {
    /// Starts a proxy that drops the answer to every `every`th COMMIT and closes its connection.
    pub(super) async fn start(server: String, every: u32) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a valid address").port();
        let cuts = Arc::new(AtomicU32::new(0));
        let (commits, counted) = (Arc::new(AtomicU32::new(0)), cuts.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, commits, cuts) = (server.clone(), commits.clone(), counted.clone());
                tokio::spawn(async move {
                    // Errors are expected, since the proxy cuts connections.
                    let _ = carry(client, &server, || {
                        let cut = commits.fetch_add(1, Ordering::Relaxed) % every == every - 1;
                        cuts.fetch_add(u32::from(cut), Ordering::Relaxed);
                        cut
                    })
                    .await;
                });
            }
        });
        Self { port, cuts }
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Number of dropped answers.
    pub(super) fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn carry(client: TcpStream, server: &str, mut is_cut: impl FnMut() -> bool) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let ((mut from_client, to_client), (from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let back = tokio::spawn(copy(from_server, to_client));
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from_client.read(&mut buffer).await?;
        let piece = &buffer[..read];
        if piece.windows(6).any(|word| word == b"COMMIT") && is_cut() {
            // The client gets no answer any more; the server gets the COMMIT, and then the end of the connection.
            back.abort();
            to_server.write_all(piece).await?;
            return to_server.shutdown().await;
        }
        to_server.write_all(piece).await?;
        if read == 0 {
            return to_server.shutdown().await;
        }
    }
}

async fn copy(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf) -> std::io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}
