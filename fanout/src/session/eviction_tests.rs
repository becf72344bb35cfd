//! Tests that a socket leaves a channel when its right ends, whatever happens between api's answer and its admission.

use std::{collections::HashSet, sync::Arc};

use async_nats::HeaderMap;
use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use protocol::{
    caller::Caller,
    event::Person,
    id::{RoomId, ShardCount, TeamId},
    rpc::{AccessGrant, Surface},
    subject::Channel,
};
use service::token::Identity;
use tokio::sync::oneshot;

use super::{PendingSession, Session};
use crate::encode::event::LiveEvent;
use crate::outbox::Outbox;
use crate::{
    bench,
    encode::PushFormat,
    shard::{
        access::AccessAnswer,
        channel::{ChannelState, DeliveryMetrics},
        subscribe::{Admission, AnswerFn, SubscribeRequest, SubscriptionStart},
    },
};

fn channel_state(channel: Channel, start_seq: u64) -> ChannelState {
    ChannelState::new(channel, 0, start_seq, 1, oneshot::channel().0, Arc::new(DeliveryMetrics::new()))
}

fn grant(public: bool, as_of: u64) -> AccessGrant {
    AccessGrant { public, pair: false, as_of, team: None, last_event: 0 }
}

/// A socket's request to follow a channel, or to watch access to it.
struct AdmissionCase<'a> {
    outbox: &'a Arc<Outbox>,
    caller: Caller,
    socket_id: u64,
    frame: u64,
    grant: Option<AccessGrant>,
    is_watcher: bool,
}

/// Requests admission, and returns whether it is granted.
fn admit(channel_state: &mut ChannelState, case: AdmissionCase<'_>) -> bool {
    let (done, mut admitted) = oneshot::channel();
    let AdmissionCase { outbox, caller, socket_id, frame, grant, is_watcher } = case;
    let request = SubscribeRequest {
        socket_id,
        frame_number: frame,
        caller,
        outbox: outbox.clone(),
        since: None,
        epoch: None,
        grant,
        answer: (!is_watcher)
            .then(|| Box::new(|_: &SubscriptionStart| Bytes::from_static(b"answer")) as AnswerFn),
        admitted: done,
    };
    channel_state.admit(request, true);
    admitted.try_recv().expect("it is decided at once") == Admission::Admitted
}

fn receive(channel_state: &mut ChannelState, event: &str, seq: u64, payload: &str) {
    let headers = HeaderMap::new();
    let payload = Bytes::from(payload.to_owned());
    channel_state.queue(LiveEvent { name: event, seq, headers: Some(&headers), payload: &payload });
    channel_state.flush();
}

const CLOSED: &str = r#"{"room":1,"closed":true,"by":"ann"}"#;

fn outbox() -> Arc<Outbox> {
    Arc::new(Outbox::new(1 << 20, PushFormat::Native))
}

#[tokio::test]
async fn removal_from_a_team_ends_its_channel_and_its_rooms() {
    let channel = Channel::Team(TeamId(7));
    for grant in [Some(grant(false, 10)), None] {
        let (mut channel_state, outbox) = (channel_state(channel.clone(), 10), outbox());
        let caller = bench::caller(1);
        for (frame, is_watcher) in [(1, false), (2, true)] {
            let case = AdmissionCase {
                outbox: &outbox,
                caller: caller.clone(),
                socket_id: 1,
                frame,
                grant,
                is_watcher,
            };
            assert!(admit(&mut channel_state, case));
        }
        receive(&mut channel_state, "team-member-remove", 11, r#"{"team":7,"user":"user-1","by":"ann"}"#);
        assert_eq!(outbox.take_evictions(), [(channel.clone(), 1), (channel.clone(), 2)]);
        assert!(channel_state.is_empty());
        if grant.is_some() {
            let case =
                AdmissionCase { outbox: &outbox, caller, socket_id: 1, frame: 3, grant, is_watcher: false };
            assert!(!admit(&mut channel_state, case), "by a grant from before the removal");
        }
    }
}

#[tokio::test]
async fn eviction_is_by_caller_among_the_sockets_of_a_person() {
    let (mut channel_state, channel) =
        (channel_state(Channel::Room(RoomId(1)), 10), Channel::Room(RoomId(1)));
    let plain = bench::caller(1);
    let admin = Caller { is_admin: true, ..plain.clone() };
    let sockets = [outbox(), outbox()];
    for (socket_id, outbox) in (1..).zip(&sockets) {
        let case = AdmissionCase {
            outbox,
            caller: admin.clone(),
            socket_id,
            frame: 1,
            grant: Some(grant(false, 10)),
            is_watcher: false,
        };
        assert!(admit(&mut channel_state, case));
    }
    assert!(!channel_state.access.start_confirmation(10), "nothing is due");
    channel_state.change_caller(1, &plain);
    assert!(channel_state.access.start_confirmation(10), "its new rights are asked about");
    assert_eq!(channel_state.callers(), [plain.clone(), admin].into());
    channel_state.evict(11, |caller| *caller == plain);
    assert_eq!(sockets.map(|outbox| outbox.take_evictions()), [vec![(channel, 1)], vec![]]);
}

/// A step in the life of one socket and one public room, which may be closed.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The socket asks to join, and api grants it as of the last event in the log.
    Ask,
    /// The granted subscription begins: the channel is opened if it is not open.
    Subscribe,
    /// The socket leaves.
    Leave,
    /// A message is stored.
    Message,
    /// The event that closes the room is stored.
    Close,
    /// The node receives the next event.
    Receive,
    /// The node asks api for a confirmation, if one is due.
    Confirm,
    /// The session applies the evictions in its outbox.
    Evict,
}

struct Race {
    session: Box<Session>,
    channel: Channel,
    channel_state: Option<ChannelState>,
    /// The log's last event.
    last: u64,
    /// The event that closed the room.
    closed: Option<u64>,
    /// The last event that the node has received.
    received_up_to: u64,
    /// The event as of which api has granted the subscription that is under way.
    granted: Option<u64>,
    frame: u64,
}

impl Race {
    async fn new() -> Self {
        let node = bench::node(ShardCount::new(1).expect("1")).await;
        let identity = Identity {
            caller: bench::caller(1),
            issued_at: None,
            expires_at_ms: i64::MAX,
            person: Person::default(),
        };
        let session =
            PendingSession::new(&node, identity, Surface::Native, false).expect("there is room").begin(node);
        let channel = Channel::Room(RoomId(1));
        Self {
            session,
            channel,
            channel_state: None,
            last: 5,
            closed: None,
            received_up_to: 5,
            granted: None,
            frame: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask if self.granted.is_none() && self.closed.is_none() => {
                self.frame += 1;
                self.granted = Some(self.last);
            }
            Step::Subscribe => self.follow(),
            Step::Leave if self.granted.is_none() => {
                self.frame += 1;
                if let Some(channel_state) = &mut self.channel_state {
                    channel_state.remove(1, self.frame, false);
                }
                self.session.state.subscriptions.remove(&self.channel);
            }
            Step::Message => self.last += 1,
            Step::Close if self.closed.is_none() => {
                self.last += 1;
                self.closed = Some(self.last);
            }
            Step::Receive if self.channel_state.is_some() && self.received_up_to < self.last => {
                self.received_up_to += 1;
                let channel_state = self.channel_state.as_mut().expect("just seen");
                if self.closed == Some(self.received_up_to) {
                    receive(channel_state, "room-update", self.received_up_to, CLOSED);
                } else {
                    receive(channel_state, "chat-message", self.received_up_to, "{}");
                }
            }
            Step::Confirm => self.confirm(),
            Step::Evict if self.granted.is_none() => self.session.apply_evictions(),
            _ => {}
        }
    }

    fn follow(&mut self) {
        let Some(as_of) = self.granted.take() else { return };
        // A channel that is opened now receives events from the log's end on.
        let last = self.last;
        let channel_state = self.channel_state.get_or_insert_with(|| {
            self.received_up_to = last;
            channel_state(self.channel.clone(), last)
        });
        let case = AdmissionCase {
            outbox: &self.session.outbox,
            caller: bench::caller(1),
            socket_id: 1,
            frame: self.frame,
            grant: Some(grant(true, as_of)),
            is_watcher: false,
        };
        if admit(channel_state, case) {
            self.session.state.subscriptions.insert(self.channel.clone(), self.frame);
        }
    }

    fn confirm(&mut self) {
        let Some(channel_state) = &mut self.channel_state else { return };
        if channel_state.is_empty() || !channel_state.access.start_confirmation(self.last) {
            return;
        }
        let closed = self.closed.is_some();
        channel_state.access.finish_confirmation(Some(AccessAnswer {
            is_public: true,
            is_closed: closed,
            as_of: self.last,
        }));
        if closed {
            channel_state.evict(self.last + 1, |_| true);
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Ask),
        3 => Just(Step::Subscribe),
        1 => Just(Step::Leave),
        1 => Just(Step::Message),
        1 => Just(Step::Close),
        3 => Just(Step::Receive),
        1 => Just(Step::Confirm),
        1 => Just(Step::Evict),
    ]
}

proptest! {
    #[test]
    fn closed_room_has_no_subscriber_in_any_interleaving(steps in vec(step(), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut race = Race::new().await;
            for step in steps {
                race.step(step);
            }
            race.step(Step::Subscribe);
            while race.channel_state.is_some() && race.received_up_to < race.last {
                race.step(Step::Receive);
            }
            race.step(Step::Confirm);
            race.step(Step::Evict);
            if race.closed.is_some() {
                prop_assert!(race.channel_state.is_none_or(|channel_state| channel_state.is_empty()), "it is pushed to");
                prop_assert!(!race.session.state.subscriptions.contains_key(&race.channel), "it may write");
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn eviction_of_many_subscribers_reaches_each_session_and_pushes_nothing_after_it() {
    let channel = Channel::Room(RoomId(1));
    let mut channel_state = channel_state(channel.clone(), 10);
    let outboxes: Vec<_> = (0..50_000).map(|_| outbox()).collect();
    for (socket_id, outbox) in (0..).zip(&outboxes) {
        let caller = bench::caller(socket_id);
        let case = AdmissionCase {
            outbox,
            caller,
            socket_id,
            frame: 1,
            grant: Some(grant(false, 10)),
            is_watcher: false,
        };
        assert!(admit(&mut channel_state, case));
        outbox.take_frames();
    }
    // Two thirds may not stay.
    let stays = |socket_id: u64| socket_id.is_multiple_of(3);
    let revoked: HashSet<_> =
        (0..outboxes.len() as u64).filter(|id| !stays(*id)).map(bench::caller).collect();
    channel_state.evict(11, |caller| revoked.contains(caller));
    receive(&mut channel_state, "chat-message", 12, r#"{"message":"after"}"#);
    for (socket_id, outbox) in (0..).zip(&outboxes) {
        assert_eq!(outbox.take_frames().len(), usize::from(stays(socket_id)), "socket {socket_id}");
    }
    for (socket_id, outbox) in (0..).zip(&outboxes).filter(|(socket_id, _)| !stays(*socket_id)) {
        let evicted = tokio::time::timeout(std::time::Duration::from_secs(30), async {
            loop {
                match outbox.take_evictions() {
                    evictions if evictions.is_empty() => outbox.changed().await,
                    evictions => return evictions,
                }
            }
        });
        let evicted = evicted.await.unwrap_or_else(|_| panic!("socket {socket_id} was not evicted"));
        assert_eq!(evicted, [(channel.clone(), 1)]);
    }
}
