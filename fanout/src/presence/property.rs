//! Tests with random sequences of steps that the log ends up with exactly the people who are present.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use protocol::{
    error::{Error, ErrorCode},
    id::{RoomId, Shard},
    rpc::{PresenceChange, PresenceRequest},
};
use tokio::time::Instant;

use super::{
    entry::LEAVE_GRACE,
    state::{PresenceKey, PresenceState},
};

const SHARD: Shard = Shard::SYSTEM;
const USERS: [&str; 3] = ["ann", "bob", "eve"];

fn key(user: &str) -> PresenceKey {
    (Some(RoomId(42)), user.parse().expect("an id"))
}

/// A step: something that happens to a person, or to the request under way.
#[derive(Clone, Debug)]
enum Step {
    Enter(usize),
    Leave(usize),
    Close(usize),
    /// Milliseconds pass.
    Pass(u64),
    /// The node sends a request, if none is under way.
    SendRequest,
    /// The request is stored and acknowledged.
    Stored,
    /// The request is stored, and its acknowledgement is lost.
    Unacknowledged,
    /// The request is stored after all other steps, and never acknowledged.
    Late,
    /// The request is not stored.
    Refused,
    /// The node takes a new incarnation.
    BeginAgain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..3).prop_map(Step::Enter),
        2 => (0_usize..3).prop_map(Step::Leave),
        4 => (0_usize..3).prop_map(Step::Close),
        3 => (1_u64..6_000).prop_map(Step::Pass),
        4 => Just(Step::SendRequest),
        3 => Just(Step::Stored),
        1 => Just(Step::Unacknowledged),
        1 => Just(Step::Late),
        1 => Just(Step::Refused),
        1 => Just(Step::BeginAgain),
    ]
}

/// The real state of a person.
#[derive(Clone, Copy, Default)]
struct Truth {
    sockets: usize,
    /// When the last socket closed; `None` if it left on request.
    closed: Option<Instant>,
}

/// What the log has: for each incarnation and person, the change with the highest counter.
#[derive(Default)]
struct Log(HashMap<(u64, String), (u64, bool)>);

impl Log {
    fn store(&mut self, incarnation: u64, changes: &[PresenceChange]) {
        for change in changes {
            let newest = self.0.entry((incarnation, change.user.to_string())).or_default();
            *newest = (*newest).max((change.counter, change.joined));
        }
    }

    fn has(&self, incarnation: u64, user: &str) -> bool {
        self.0.get(&(incarnation, user.to_owned())).is_some_and(|(_, joined)| *joined)
    }
}

struct Run {
    state: PresenceState,
    log: Log,
    late: Vec<PresenceRequest>,
    under_way: Option<PresenceRequest>,
    truth: [Truth; 3],
    /// When the timer of each person's grace fires, if one runs.
    timers: [Option<Instant>; 3],
    now: Instant,
}

impl Run {
    fn queue(&mut self, user: usize) {
        self.state.queue(SHARD, key(USERS[user]));
    }

    /// Advances the clock, and fires each timer that is due by then.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        for (user, name) in USERS.iter().enumerate() {
            if self.timers[user].is_some_and(|end| end <= self.now) {
                self.timers[user] = self.state.poll_grace_end(&key(name), self.now);
                if self.timers[user].is_none() {
                    self.queue(user);
                }
            }
        }
    }

    fn send_request(&mut self) -> Result<(), TestCaseError> {
        if self.under_way.is_some() {
            return Ok(());
        }
        self.under_way = self.state.next_request(SHARD, self.now);
        for change in self.under_way.iter().flat_map(|request| &request.changes) {
            let user = USERS.iter().position(|user| *user == change.user.as_str()).expect("one of them");
            let Truth { sockets, closed } = self.truth[user];
            if change.joined {
                prop_assert!(sockets > 0, "a join without a socket");
            } else {
                prop_assert!(sockets == 0, "a leave with {sockets} sockets");
                prop_assert!(
                    closed.is_none_or(|at| self.now >= at + LEAVE_GRACE),
                    "a leave within the grace"
                );
            }
        }
        Ok(())
    }

    fn answer(&mut self, is_stored: bool, is_acknowledged: bool) {
        let Some(request) = self.under_way.take() else { return };
        if is_stored {
            self.log.store(request.incarnation, &request.changes);
        }
        let outcome = if is_acknowledged { Ok(()) } else { Err(Error::new(ErrorCode::NotStored, "a test")) };
        let outcomes = vec![outcome; request.changes.len()];
        // The error only asks for a retry, which the later steps do.
        let _ = self.state.apply_reply(SHARD, request, Ok(outcomes));
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Enter(user) => {
                self.truth[user] = Truth { sockets: self.truth[user].sockets + 1, closed: None };
                self.state.enter(key(USERS[user]));
                self.queue(user);
            }
            Step::Leave(user) if self.truth[user].sockets > 0 => {
                self.truth[user] = Truth { sockets: self.truth[user].sockets - 1, closed: None };
                self.state.leave(&key(USERS[user]));
                self.queue(user);
            }
            Step::Close(user) if self.truth[user].sockets > 0 => {
                self.truth[user] = Truth { sockets: self.truth[user].sockets - 1, closed: Some(self.now) };
                if self.state.socket_closed(&key(USERS[user]), self.now) {
                    prop_assert!(self.timers[user].is_none(), "two timers");
                    self.timers[user] = Some(self.now + LEAVE_GRACE);
                }
            }
            Step::Leave(_) | Step::Close(_) => {}
            Step::Pass(ms) => self.pass(Duration::from_millis(ms)),
            Step::SendRequest => self.send_request()?,
            Step::Stored => self.answer(true, true),
            Step::Unacknowledged => self.answer(true, false),
            Step::Refused => self.answer(false, false),
            Step::Late => {
                self.late.extend(self.under_way.clone());
                self.answer(false, false);
            }
            Step::BeginAgain => {
                self.state.incarnation += 1;
                (0..USERS.len()).for_each(|user| self.queue(user));
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn presence_in_the_log_ends_true_and_no_leave_comes_within_the_grace(
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let mut run = Run {
            state: PresenceState::new(1),
            log: Log::default(),
            late: Vec::new(),
            under_way: None,
            truth: [Truth::default(); 3],
            timers: [None; 3],
            now: Instant::now(),
        };
        for step in &steps {
            run.take(step)?;
        }
        // Twice, since a timer fires again if its grace was extended.
        run.pass(LEAVE_GRACE);
        run.pass(LEAVE_GRACE);
        run.answer(true, true);
        for _ in 0..3 {
            run.send_request()?;
            run.answer(true, true);
        }
        for request in std::mem::take(&mut run.late) {
            run.log.store(request.incarnation, &request.changes);
        }
        let mut present = 0;
        for (user, truth) in USERS.iter().zip(run.truth) {
            let is_present = truth.sockets > 0;
            prop_assert_eq!(run.log.has(run.state.incarnation, user), is_present, "{}", user);
            present += usize::from(is_present);
        }
        prop_assert_eq!((run.state.everyone().len(), *run.state.published_count.borrow()), (present, present));
    }
}
