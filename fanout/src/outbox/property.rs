//! Tests with random sequences of steps that a client receives whole frames, in order, and none is missing.

use std::{
    io::{ErrorKind, Read as _},
    net::TcpStream,
};

use proptest::prelude::*;
use socket2::SockRef;
use tokio::net::TcpListener;

use super::*;

/// A step. Sizes are in units of 500 bytes, of which the socket's buffers hold a few.
#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Deliver(Vec<usize>),
    Resume(usize),
    Unstored(usize),
    Flush,
    Read(usize),
    Close,
    Heal,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..12_usize).prop_map(Step::Push),
        8 => proptest::collection::vec(1..12_usize, 1..5).prop_map(Step::Deliver),
        2 => (1..40_usize).prop_map(Step::Resume),
        2 => (1..6_usize).prop_map(Step::Unstored),
        4 => Just(Step::Flush),
        6 => (1..20_usize).prop_map(Step::Read),
        1 => Just(Step::Close),
        1 => Just(Step::Heal),
    ]
}

/// An outbox, the client's end of its socket, and the frames that were handed in.
struct OutboxModel {
    outbox: Outbox,
    client: TcpStream,
    received: Vec<u8>,
    /// Number and size of each accepted frame, and whether the client may miss it.
    accepted: Vec<(u32, usize, bool)>,
    number: u32,
}

const UNIT: usize = 500;

impl OutboxModel {
    async fn new(limit: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        client.set_recv_buffer_size(2_048).expect("a small buffer");
        client.connect(&listener.local_addr().expect("an address").into()).expect("a server");
        let accepted = listener.accept().await.expect("a client").0;
        SockRef::from(&accepted).set_send_buffer_size(2_048).expect("a small buffer");
        accepted.set_nodelay(true).expect("a socket");
        client.set_nonblocking(true).expect("a socket");
        let socket = RawSocket::new(accepted);
        socket.ready(false, true).await.expect("room to write");
        let outbox = Outbox::new(limit, PushFormat::Native);
        outbox.attach_socket(socket);
        Self { outbox, client: client.into(), received: Vec::new(), accepted: Vec::new(), number: 0 }
    }

    /// Makes a frame of this size, of its number, its length and padding.
    fn frame(&mut self, units: usize) -> Bytes {
        self.number += 1;
        let mut bytes = vec![0; units * UNIT];
        bytes[..4].copy_from_slice(&self.number.to_be_bytes());
        bytes[4..8].copy_from_slice(&u32::try_from(units * UNIT).expect("small").to_be_bytes());
        bytes.into()
    }

    fn read(&mut self, bytes: usize) -> usize {
        let mut buffer = vec![0; bytes];
        match self.client.read(&mut buffer) {
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                count
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }

    fn happen(&mut self, step: Step) {
        let was_closing = self.outbox.close_reason().is_some();
        match step {
            Step::Push(units) => {
                let frame = self.frame(units);
                if self.outbox.push(frame) {
                    self.accepted.push((self.number, units * UNIT, false));
                }
            }
            Step::Deliver(sizes) => {
                let frames: Vec<Bytes> = sizes.iter().map(|units| self.frame(*units)).collect();
                let first = self.number + 1 - u32::try_from(sizes.len()).expect("small");
                let accepted = self.outbox.deliver(&frames.iter().collect::<Vec<_>>());
                assert!(!(was_closing && accepted));
                // If they are refused, some of them may have been written all the same.
                let may_miss = !accepted;
                let new = (first..).zip(&frames).map(|(number, frame)| (number, frame.len(), may_miss));
                self.accepted.extend(new.filter(|_| !was_closing));
            }
            Step::Resume(units) => {
                let frame = self.frame(units);
                let accepted = self.outbox.push_resumed(frame);
                assert!(accepted || self.outbox.close_reason().is_some());
                if accepted {
                    self.accepted.push((self.number, units * UNIT, false));
                }
            }
            Step::Unstored(units) => {
                let frame = self.frame(units);
                self.outbox.push_unstored(&frame);
                self.accepted.extend((!was_closing).then_some((self.number, units * UNIT, true)));
            }
            Step::Flush => drop(self.outbox.flush().expect("open")),
            Step::Read(units) => drop(self.read(units * UNIT)),
            Step::Close => self.outbox.close(CloseReason::Goodbye),
            Step::Heal => {
                let frame = self.frame(1);
                self.outbox.close_for_resume(&frame);
                self.accepted.extend((!was_closing).then_some((self.number, UNIT, false)));
            }
        }
        let state = self.outbox.state();
        assert_eq!(state.queued_bytes, state.frames.iter().map(Bytes::len).sum::<usize>());
        let is_bounded = state.queued_bytes <= self.outbox.limit_bytes + state.extra_bytes;
        assert!(is_bounded || state.close_reason.is_some(), "{} bytes wait", state.queued_bytes);
    }

    /// Ends the session: writes the queued frames, then the close frame, and checks what the client received.
    async fn end(&mut self) {
        self.outbox.close(CloseReason::Goodbye);
        let goodbye = self.frame(1);
        self.outbox.push_goodbye(goodbye);
        let end = self.number;
        let mut parsed = 0;
        let mut expected = std::mem::take(&mut self.accepted).into_iter();
        let is_slow = self.outbox.close_reason() == Some(CloseReason::SlowConsumer);
        loop {
            self.outbox.flush().expect("open");
            if self.read(64 << 10) == 0 {
                tokio::task::yield_now().await;
            }
            while let Some((number, length)) = self.header(parsed) {
                if self.received.len() < parsed + length {
                    break;
                }
                parsed += length;
                if number == end {
                    assert_eq!(parsed, self.received.len(), "nothing follows the goodbye");
                    let missing = expected.find(|(_, _, may_miss)| !may_miss && !is_slow);
                    assert_eq!(missing, None);
                    return;
                }
                let skipped: Vec<_> =
                    expected.by_ref().take_while(|(accepted, ..)| *accepted != number).collect();
                assert!(skipped.iter().all(|(_, _, may_miss)| *may_miss), "before {number}: {skipped:?}");
            }
        }
    }

    fn header(&self, at: usize) -> Option<(u32, usize)> {
        let word = |at: usize| Some(u32::from_be_bytes(self.received.get(at..at + 4)?.try_into().ok()?));
        Some((word(at)?, usize::try_from(word(at + 4)?).expect("small")))
    }
}

proptest! {
    #[test]
    fn outbox_writes_what_it_accepts_whole_and_in_order(
        limit in 1..40_usize,
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = OutboxModel::new(limit * UNIT).await;
            for step in steps {
                world.happen(step);
                tokio::task::yield_now().await;
            }
            world.end().await;
        });
    }
}
