//! Implements HTTP/1.1 as far as `load` needs it: parses answers with a `Content-Length`, and has a blocking client.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Maximum number of pipelined requests: few enough that their answers fit into the socket's buffers.
const PIPELINED_MAX: usize = 50;
/// Maximum time for which a server may answer 503.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Time until requests that were answered 503 are sent again.
const BUSY_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Appends a request with a JSON body. `headers` are extra headers, each ending with `\r\n`.
pub(crate) fn write_request(out: &mut Vec<u8>, method: &str, path: &str, headers: &str, body: &[u8]) {
    // Writing to a Vec does not fail.
    let _ = write!(
        out,
        "{method} {path} HTTP/1.1\r\nHost: load\r\n{headers}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend(body);
}

/// An answer: its status, and its length in bytes, head included.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) len: usize,
}

/// The error for bytes that are not an HTTP answer with a `Content-Length`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MalformedAnswer;

/// Parses the first answer of some bytes; `None` while it is incomplete.
pub(crate) fn parse_first(bytes: &[u8]) -> Result<Option<HttpAnswer>, MalformedAnswer> {
    let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let (status, length) = read_head(&bytes[..head]).ok_or(MalformedAnswer)?;
    let len = head + 4 + length;
    Ok((bytes.len() >= len).then_some(HttpAnswer { status, len }))
}

fn read_head(head: &[u8]) -> Option<(u16, usize)> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    match length {
        Some((_, value)) => Some((status, value.trim().parse().ok()?)),
        // Only these statuses have no body without a `Content-Length`.
        None => (status < 200 || status == 204 || status == 304).then_some((status, 0)),
    }
}

/// A blocking client, for the preparations before a measurement.
pub(crate) struct BlockingHttpClient {
    stream: BufReader<TcpStream>,
    headers: String,
}

impl BlockingHttpClient {
    /// Connects. Every request gets `headers`, each ending with `\r\n`.
    pub(crate) fn connect(address: SocketAddr, headers: String) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("{address} does not answer"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream: BufReader::new(stream), headers })
    }

    /// Sends requests (path and body; null is an empty body), pipelined, and returns the answers in their order.
    /// Requests that are answered 503 are sent again.
    ///
    /// # Errors
    /// When an answer is not a success, or is still 503 after [`BUSY_TIMEOUT`].
    pub(crate) fn send_all(
        &mut self,
        method: &str,
        requests: &[(String, Value)],
    ) -> anyhow::Result<Vec<Value>> {
        let mut answers = Vec::with_capacity(requests.len());
        for batch in requests.chunks(PIPELINED_MAX) {
            answers.extend(self.send_some(method, batch)?);
        }
        Ok(answers)
    }

    fn send_some(&mut self, method: &str, requests: &[(String, Value)]) -> anyhow::Result<Vec<Value>> {
        let deadline = Instant::now() + BUSY_TIMEOUT;
        let mut answers = vec![None; requests.len()];
        loop {
            let (mut out, mut unanswered) = (Vec::new(), Vec::new());
            for (answer, (path, body)) in
                answers.iter_mut().zip(requests).filter(|(answer, _)| answer.is_none())
            {
                let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
                write_request(&mut out, method, path, &self.headers, &body);
                unanswered.push(answer);
            }
            if unanswered.is_empty() {
                return Ok(answers.into_iter().flatten().collect());
            }
            self.stream.get_mut().write_all(&out)?;
            for answer in unanswered {
                *answer = self.read_answer(Instant::now() < deadline)?;
            }
            if answers.iter().any(Option::is_none) {
                thread::sleep(BUSY_RETRY_INTERVAL);
            }
        }
    }

    /// Reads the next answer; `None` for a 503 if `may_be_busy`.
    fn read_answer(&mut self, may_be_busy: bool) -> anyhow::Result<Option<Value>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                bail!("the server closed the connection");
            }
        }
        let (status, length) = read_head(head.as_bytes()).context("not an HTTP answer with a length")?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        if status == 503 && may_be_busy {
            return Ok(None);
        }
        if status == 429 {
            bail!("refused by a rate limit of the server: {}", String::from_utf8_lossy(&body));
        }
        if status >= 300 {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(Some(serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_answers_are_parsed_once_complete() {
        let bytes =
            b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\nx: y\r\n\r\nbodyHTTP/1.1 204 No Content\r\n\r\n";
        for cut in [0, 20, 48, 52] {
            assert_eq!(parse_first(&bytes[..cut]), Ok(None), "{cut}");
        }
        let answer = parse_first(bytes).expect("well-formed").expect("whole");
        assert_eq!(answer.status, 201);
        let next = parse_first(&bytes[answer.len..]).expect("well-formed").expect("whole");
        assert_eq!((next.status, answer.len + next.len), (204, bytes.len()));
    }

    #[test]
    fn http_answer_without_a_length_is_refused() {
        assert_eq!(parse_first(b"HTTP/1.1 200 OK\r\n\r\n"), Err(MalformedAnswer));
        assert_eq!(parse_first(b"nonsense\r\n\r\n"), Err(MalformedAnswer));
    }
}
