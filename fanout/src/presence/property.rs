//! Whatever happens to people, requests and acknowledgements, in any order, the log ends with what is true.

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

/// What may happen to a person, or to the request that is under way.
#[derive(Clone, Debug)]
enum Step {
    Enter(usize),
    Leave(usize),
    Lose(usize),
    /// Time passes.
    Pass(u64),
    /// A request is made, if none is under way.
    Ask,
    /// It is stored, and acknowledged.
    Stored,
    /// It is stored, and the acknowledgement is lost.
    Unheard,
    /// It is stored after everything else, and nobody is notified of it.
    Late,
    /// It is not stored.
    Refused,
    /// The node was taken for dead.
    BeginAgain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..3).prop_map(Step::Enter),
        2 => (0_usize..3).prop_map(Step::Leave),
        4 => (0_usize..3).prop_map(Step::Lose),
        3 => (1_u64..6_000).prop_map(Step::Pass),
        4 => Just(Step::Ask),
        3 => Just(Step::Stored),
        1 => Just(Step::Unheard),
        1 => Just(Step::Late),
        1 => Just(Step::Refused),
        1 => Just(Step::BeginAgain),
    ]
}

/// What is true of a person.
#[derive(Clone, Copy, Default)]
struct Truth {
    sockets: usize,
    /// When the last socket closed, where it did not leave.
    closed: Option<Instant>,
}

/// What the log holds: each incarnation's newest word on each person.
#[derive(Default)]
struct Log(HashMap<(u64, String), (u64, bool)>);

impl Log {
    fn store(&mut self, incarnation: u64, changes: &[PresenceChange]) {
        for change in changes {
            let word = self.0.entry((incarnation, change.user.to_string())).or_default();
            *word = (*word).max((change.counter, change.joined));
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
    /// When somebody waits until for a person's grace to end.
    timers: [Option<Instant>; 3],
    now: Instant,
}

impl Run {
    fn settle(&mut self, user: usize) {
        self.state.queue(SHARD, key(USERS[user]));
    }

    /// Lets time pass, with every timer that ends meanwhile.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        for (user, name) in USERS.iter().enumerate() {
            if self.timers[user].is_some_and(|end| end <= self.now) {
                self.timers[user] = self.state.poll_grace_end(&key(name), self.now);
                if self.timers[user].is_none() {
                    self.settle(user);
                }
            }
        }
    }

    fn ask(&mut self) -> Result<(), TestCaseError> {
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

    fn answer(&mut self, is_stored: bool, is_heard: bool) {
        let Some(request) = self.under_way.take() else { return };
        if is_stored {
            self.log.store(request.incarnation, &request.changes);
        }
        let outcome = if is_heard { Ok(()) } else { Err(Error::new(ErrorCode::NotStored, "a test")) };
        let outcomes = vec![outcome; request.changes.len()];
        // Whether it has to be told again is seen below.
        let _ = self.state.apply_reply(SHARD, request, Ok(outcomes));
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Enter(user) => {
                self.truth[user] = Truth { sockets: self.truth[user].sockets + 1, closed: None };
                self.state.enter(key(USERS[user]));
                self.settle(user);
            }
            Step::Leave(user) if self.truth[user].sockets > 0 => {
                self.truth[user] = Truth { sockets: self.truth[user].sockets - 1, closed: None };
                self.state.leave(&key(USERS[user]));
                self.settle(user);
            }
            Step::Lose(user) if self.truth[user].sockets > 0 => {
                self.truth[user] = Truth { sockets: self.truth[user].sockets - 1, closed: Some(self.now) };
                if self.state.socket_closed(&key(USERS[user]), self.now) {
                    prop_assert!(self.timers[user].is_none(), "two timers");
                    self.timers[user] = Some(self.now + LEAVE_GRACE);
                }
            }
            Step::Leave(_) | Step::Lose(_) => {}
            Step::Pass(ms) => self.pass(Duration::from_millis(ms)),
            Step::Ask => self.ask()?,
            Step::Stored => self.answer(true, true),
            Step::Unheard => self.answer(true, false),
            Step::Refused => self.answer(false, false),
            Step::Late => {
                self.late.extend(self.under_way.clone());
                self.answer(false, false);
            }
            Step::BeginAgain => {
                self.state.incarnation += 1;
                (0..USERS.len()).for_each(|user| self.settle(user));
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_log_ends_with_what_is_true_and_nobody_leaves_within_the_grace(
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
        // Twice: a timer that was begun anew ends at its second end.
        run.pass(LEAVE_GRACE);
        run.pass(LEAVE_GRACE);
        run.answer(true, true);
        for _ in 0..3 {
            run.ask()?;
            run.answer(true, true);
        }
        for request in std::mem::take(&mut run.late) {
            run.log.store(request.incarnation, &request.changes);
        }
        let mut present = 0;
        for (user, truth) in USERS.iter().zip(run.truth) {
            let is_here = truth.sockets > 0;
            prop_assert_eq!(run.log.has(run.state.incarnation, user), is_here, "{}", user);
            present += usize::from(is_here);
        }
        prop_assert_eq!((run.state.everyone().len(), *run.state.published_count.borrow()), (present, present));
    }
}
