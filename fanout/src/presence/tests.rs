//! Tests which joins and leaves a node appends about its people.

use std::{sync::Mutex, time::Duration};

use protocol::{
    error::{Error, ErrorCode},
    id::{RoomId, Shard},
    rpc::PresenceRequest,
};
use tokio::time::{Instant, advance};

use super::{
    entry::LEAVE_GRACE,
    state::{PresenceKey, PresenceState, wait_for_grace},
};

const SHARD: Shard = Shard::SYSTEM;
const NOTHING: [bool; 0] = [];

fn key(user: &str) -> PresenceKey {
    (Some(RoomId(42)), user.parse().expect("an id"))
}

/// Opens a socket of a person. True if a task for the shard must be started.
fn enter(state: &mut PresenceState, user: &str) -> bool {
    state.enter(key(user));
    state.queue(SHARD, key(user))
}

/// Ends a socket of a person on request. True if a task for the shard must be started.
fn leave(state: &mut PresenceState, user: &str) -> bool {
    state.leave(&key(user));
    state.queue(SHARD, key(user))
}

fn next(state: &mut PresenceState) -> Option<PresenceRequest> {
    state.next_request(SHARD, Instant::now())
}

/// The people in a request, and whether each of them joined.
fn people(request: &PresenceRequest) -> Vec<(&str, bool)> {
    request.changes.iter().map(|change| (change.user.as_str(), change.joined)).collect()
}

fn unreachable() -> Error {
    Error::new(ErrorCode::NotStored, "a test")
}

/// Makes requests and acknowledges them, until the queue is empty. Returns for each change whether it was a join.
fn publish_all(state: &mut PresenceState) -> Vec<bool> {
    let mut joins = Vec::new();
    while let Some(request) = next(state) {
        joins.extend(request.changes.iter().map(|change| change.joined));
        let outcomes = vec![Ok(()); request.changes.len()];
        state.apply_reply(SHARD, request, Ok(outcomes)).expect("the log knows");
    }
    joins
}

#[tokio::test(start_paused = true)]
async fn several_sockets_of_a_person_make_one_join_and_one_leave() {
    let mut state = PresenceState::new(1);
    enter(&mut state, "ann");
    enter(&mut state, "ann");
    assert_eq!((publish_all(&mut state), *state.published_count.borrow()), (vec![true], 1));
    leave(&mut state, "ann");
    assert_eq!(publish_all(&mut state), NOTHING);
    leave(&mut state, "ann");
    assert_eq!((publish_all(&mut state), *state.published_count.borrow()), (vec![false], 0));
    assert!(state.everyone().is_empty());
}

#[tokio::test(start_paused = true)]
async fn unacknowledged_change_is_followed_by_the_next() {
    let mut state = PresenceState::new(1);
    enter(&mut state, "ann");
    let join = next(&mut state).expect("ann has come");
    leave(&mut state, "ann");
    state.apply_reply(SHARD, join, Err(unreachable())).expect_err("nobody answers");
    let leaves = next(&mut state).expect("her join may be stored");
    assert_eq!((people(&leaves), *state.published_count.borrow()), (vec![("ann", false)], 1));
    enter(&mut state, "ann");
    state.apply_reply(SHARD, leaves, Err(unreachable())).expect_err("nobody answers");
    assert_eq!(publish_all(&mut state), [true], "she came back meanwhile");
}

#[tokio::test(start_paused = true)]
async fn new_incarnation_publishes_everyone_again() {
    let mut state = PresenceState::new(1);
    enter(&mut state, "ann");
    assert_eq!(publish_all(&mut state), [true]);
    state.incarnation = 2;
    state.queue(SHARD, key("ann"));
    let join = next(&mut state).expect("under another name");
    assert_eq!((join.incarnation, people(&join)), (2, vec![("ann", true)]));
    state.apply_reply(SHARD, join, Err(unreachable())).expect_err("nobody answers");
    state.incarnation = 3;
    state.leave(&key("ann"));
    assert_eq!(
        (publish_all(&mut state), *state.published_count.borrow()),
        (vec![], 0),
        "her join was of an earlier incarnation"
    );
}

#[tokio::test(start_paused = true)]
async fn presence_changes_during_a_request_go_together_in_the_next() {
    let mut state = PresenceState::new(1);
    assert!(enter(&mut state, "ann"));
    let first = next(&mut state).expect("ann has come");
    assert_eq!(people(&first), [("ann", true)]);
    assert!(!enter(&mut state, "bob") && !enter(&mut state, "eve"), "a task works on the queue already");
    assert!(!leave(&mut state, "eve") && !leave(&mut state, "ann"), "nobody is queued twice");
    state.apply_reply(SHARD, first, Ok(vec![Ok(())])).expect("the log knows");
    let second = next(&mut state).expect("there is more");
    assert_eq!(people(&second), [("bob", true), ("ann", false)], "eve was never there");
    state.apply_reply(SHARD, second, Ok(vec![Ok(()), Ok(())])).expect("the log knows");
    assert!(next(&mut state).is_none());
    assert_eq!((state.everyone().len(), *state.published_count.borrow()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn leave_that_fails_for_an_hour_is_published_in_the_end() {
    let mut state = PresenceState::new(1);
    enter(&mut state, "ann");
    publish_all(&mut state);
    leave(&mut state, "ann");
    for _ in 0..7_200 {
        let request = next(&mut state).expect("the log does not know");
        assert_eq!(people(&request), [("ann", false)]);
        state.apply_reply(SHARD, request, Ok(vec![Err(unreachable())])).expect_err("the log is full");
        advance(Duration::from_millis(500)).await;
    }
    assert_eq!(publish_all(&mut state), [false]);
    assert!(state.everyone().is_empty() && *state.published_count.borrow() == 0);
}

#[tokio::test(start_paused = true)]
async fn join_refused_for_good_is_not_repeated_but_its_leave_is_published() {
    let mut state = PresenceState::new(1);
    let refused = || Ok(vec![Err(Error::new(ErrorCode::Conflict, "The room is closed."))]);
    enter(&mut state, "ann");
    let join = next(&mut state).expect("ann has come");
    state.apply_reply(SHARD, join, refused()).expect("there is nothing to repeat");
    assert!(next(&mut state).is_none());
    leave(&mut state, "ann");
    let leaves = next(&mut state).expect("ann has left");
    assert_eq!(people(&leaves), [("ann", false)]);
    state.apply_reply(SHARD, leaves, refused()).expect("there is nothing to repeat");
    assert!(next(&mut state).is_none() && state.everyone().is_empty());
}

#[tokio::test(start_paused = true)]
async fn reply_that_lacks_results_counts_as_none() {
    let mut state = PresenceState::new(1);
    enter(&mut state, "ann");
    let request = next(&mut state).expect("ann has come");
    state.apply_reply(SHARD, request, Ok(vec![])).expect_err("not answered");
    assert_eq!(people(&next(&mut state).expect("again")), [("ann", true)]);
}

#[tokio::test(start_paused = true)]
async fn socket_closed_during_its_join_leaves_after_the_grace() {
    let mut state = PresenceState::new(1);
    enter(&mut state, "ann");
    let join = next(&mut state).expect("ann has come");
    assert!(state.socket_closed(&key("ann"), Instant::now()), "somebody has to wait");
    state.apply_reply(SHARD, join, Ok(vec![Ok(())])).expect("the log knows");
    assert!(next(&mut state).is_none(), "she may come back");
    enter(&mut state, "ann");
    assert_eq!(publish_all(&mut state), NOTHING, "she never left");
}

#[tokio::test(start_paused = true)]
async fn second_close_within_the_grace_restarts_it() {
    let state = Mutex::new(PresenceState::new(1));
    let start = Instant::now();
    {
        let mut state = state.lock().expect("not poisoned");
        enter(&mut state, "ann");
        assert_eq!(publish_all(&mut state), [true]);
        assert!(state.socket_closed(&key("ann"), Instant::now()));
    }
    advance(Duration::from_secs(3)).await;
    {
        let mut state = state.lock().expect("not poisoned");
        enter(&mut state, "ann");
        assert!(!state.socket_closed(&key("ann"), Instant::now()), "one task waits already");
    }
    wait_for_grace(&state, &key("ann")).await;
    assert_eq!(start.elapsed(), Duration::from_secs(3) + LEAVE_GRACE);
    let mut state = state.lock().expect("not poisoned");
    state.queue(SHARD, key("ann"));
    assert_eq!(publish_all(&mut state), [false]);
    assert!(state.everyone().is_empty());
}

#[tokio::test(start_paused = true)]
async fn person_who_asks_to_leave_leaves_without_grace() {
    let mut state = PresenceState::new(1);
    enter(&mut state, "ann");
    publish_all(&mut state);
    state.socket_closed(&key("ann"), Instant::now());
    enter(&mut state, "ann");
    leave(&mut state, "ann");
    assert_eq!(publish_all(&mut state), [false]);
}
