//! Sends exactly the bytes of an HTTP request that a test writes, and returns the answer unchanged.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::TIMEOUT;

/// A connection to a server.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The status line and the headers, unchanged.
    pub head: String,
    /// The body, as long as `Content-Length` says.
    pub body: String,
}

impl Answer {
    /// The value of the first header with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Raw {
    /// Connects to an address.
    ///
    /// # Panics
    /// When nothing listens there.
    pub async fn open(address: &str) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("a server"), read: Vec::new() }
    }

    /// Sends a request over a new connection, and returns its answer.
    ///
    /// # Panics
    /// As [`Self::answer`].
    pub async fn ask(address: &str, request: &str) -> Answer {
        let mut raw = Self::open(address).await;
        raw.send(request.as_bytes()).await.expect("the server reads");
        raw.answer().await
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the server has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads more bytes. False when the connection has been closed or reset.
    async fn read(&mut self) -> bool {
        let read = timeout(TIMEOUT, self.stream.read_buf(&mut self.read)).await;
        read.expect("the server answers or closes").is_ok_and(|count| count > 0)
    }

    /// Reads the next answer.
    ///
    /// # Panics
    /// When the connection ends before the answer is complete.
    pub async fn answer(&mut self) -> Answer {
        let head = loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break self.read.drain(..end + 4).collect::<Vec<u8>>();
            }
            assert!(self.read().await, "no answer: {}", String::from_utf8_lossy(&self.read));
        };
        let head = String::from_utf8(head).expect("a head is text");
        let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status line");
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        while self.read.len() < length {
            assert!(self.read().await, "half an answer: {}", answer.head);
        }
        answer.body = String::from_utf8(self.read.drain(..length).collect()).expect("a body is text");
        answer
    }

    /// Reads until the server closes the connection, and returns the bytes that arrived.
    ///
    /// # Panics
    /// When the server does not close it.
    pub async fn closed(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.read)
    }
}
