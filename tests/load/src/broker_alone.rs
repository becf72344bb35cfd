//! Measures how many messages the broker acknowledges without Roomcast, with a temporary stream on disk.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{config::LoadArgs, post_connections};

/// The temporary stream, and the inbox for answers.
const STREAM: &str = "ROOMCAST_LOAD";
const INBOX: &str = "_INBOX.roomcast-load";
/// Maximum bytes of the stream; the oldest messages are discarded.
const STREAM_BYTES_MAX: u64 = 256 << 20;

/// Messages per second that the broker acknowledges, with `in_flight` messages unacknowledged at any time.
pub(crate) fn measure_acknowledged_per_second(config: &LoadArgs, in_flight: usize) -> anyhow::Result<f64> {
    let mut broker = BrokerClient::open(&config.nats_url)?;
    let stream = json!({ "name": STREAM, "subjects": ["roomcast-load"], "storage": "file", "discard": "old",
                         "max_bytes": STREAM_BYTES_MAX, "num_replicas": 1 });
    broker.request_stream_api("CREATE", &stream)?;
    let result = broker.publish(&vec![b'x'; config.size], in_flight, config.warmup, config.seconds);
    broker.request_stream_api("DELETE", &Value::Null)?;
    result
}

struct BrokerClient {
    stream: TcpStream,
    /// Bytes that were read and not yet parsed.
    unparsed: Vec<u8>,
    buffer: Vec<u8>,
}

impl BrokerClient {
    fn open(url: &str) -> anyhow::Result<Self> {
        let broker = post_connections::parse_broker_url(url)?;
        let stream = TcpStream::connect(broker.address).context("the broker does not answer")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut this = Self { stream, unparsed: Vec::new(), buffer: vec![0; 64 << 10] };
        write!(this.stream, "{}SUB {INBOX} 1\r\n", broker.connect_line)?;
        Ok(this)
    }

    /// Sends a request to the stream API, and waits for its answer.
    fn request_stream_api(&mut self, operation: &str, body: &Value) -> anyhow::Result<()> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let subject = format!("$JS.API.STREAM.{operation}.{STREAM}");
        write!(self.stream, "PUB {subject} {INBOX} {}\r\n{body}\r\n", body.len())?;
        let mut answers = Vec::new();
        while answers.is_empty() {
            answers = self.read_answers()?;
        }
        let answer: Value = serde_json::from_slice(&answers[0])?;
        if answer["error"].is_object() {
            bail!("{operation}: {}", answer["error"]["description"]);
        }
        Ok(())
    }

    /// Publishes one message for each acknowledgement, and returns the acknowledgements per second after the warm-up.
    fn publish(
        &mut self,
        payload: &[u8],
        in_flight: usize,
        warmup_secs: u64,
        measured_secs: u64,
    ) -> anyhow::Result<f64> {
        let head = format!("PUB roomcast-load {INBOX} {}\r\n", payload.len());
        let message = [head.as_bytes(), payload, b"\r\n"].concat();
        let start = Instant::now() + Duration::from_secs(warmup_secs);
        let end = start + Duration::from_secs(measured_secs);
        let (mut count, mut unanswered) = (0_u64, in_flight);
        self.stream.write_all(&message.repeat(in_flight))?;
        while unanswered > 0 {
            let answers = self.read_answers()?;
            if let Some(wrong) = answers.iter().find(|answer| !answer.starts_with(br#"{"stream""#)) {
                bail!("the broker refused a publish: {}", String::from_utf8_lossy(wrong));
            }
            let now = Instant::now();
            if now >= end {
                unanswered -= answers.len();
                continue;
            }
            count += if now < start { 0 } else { answers.len() as u64 };
            self.stream.write_all(&message.repeat(answers.len()))?;
        }
        Ok(count as f64 / measured_secs as f64)
    }

    /// Reads once from the connection, and returns the messages that arrived in the inbox; there may be none.
    fn read_answers(&mut self) -> anyhow::Result<Vec<Vec<u8>>> {
        let n = self.stream.read(&mut self.buffer).context("the broker does not answer")?;
        if n == 0 {
            bail!("the broker closed the connection");
        }
        self.unparsed.extend(&self.buffer[..n]);
        let mut answers = Vec::new();
        let mut out = Vec::new();
        let consumed = parse_messages(&self.unparsed, &mut out, &mut answers)?;
        self.unparsed.drain(..consumed);
        self.stream.write_all(&out)?;
        Ok(answers)
    }
}

/// Parses complete messages and lines, and returns the number of bytes that they had.
fn parse_messages(bytes: &[u8], out: &mut Vec<u8>, answers: &mut Vec<Vec<u8>>) -> anyhow::Result<usize> {
    let mut consumed = 0;
    while let Some(end) = memchr::memchr(b'\n', &bytes[consumed..]) {
        let line = std::str::from_utf8(&bytes[consumed..consumed + end])?.trim_end();
        let mut len = end + 1;
        if line.starts_with("MSG ") {
            let size: usize = line.rsplit(' ').next().context("a MSG line without a length")?.parse()?;
            let Some(payload) = bytes[consumed + len..].get(..size + 2) else { break };
            answers.push(payload[..size].to_vec());
            len += size + 2;
        } else if line.starts_with("HMSG ") {
            bail!("the broker has no JetStream");
        }
        post_connections::answer_broker_lines(out, &bytes[consumed..consumed + end + 1])?;
        consumed += len;
    }
    Ok(consumed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_messages_are_parsed_once_complete() {
        let bytes = b"INFO {}\r\nMSG a 1 2\r\nhi\r\nPING\r\nMSG a 1 3\r\nyes\r\n";
        let (mut out, mut answers) = (Vec::new(), Vec::new());
        let consumed = parse_messages(&bytes[..40], &mut out, &mut answers).expect("no error");
        assert_eq!(
            (consumed, answers.as_slice(), out.as_slice()),
            (30, &[b"hi".to_vec()][..], &b"PONG\r\n"[..])
        );
        let more = parse_messages(&bytes[consumed..], &mut out, &mut answers).expect("no error");
        assert_eq!((consumed + more, answers.len()), (bytes.len(), 2));
        assert!(parse_messages(b"-ERR 'Permissions Violation'\r\n", &mut out, &mut answers).is_err());
    }
}
