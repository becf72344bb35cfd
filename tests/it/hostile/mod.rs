//! Sends generated requests, frames and bytes: each is answered in the form of its dialect, never with a server error,
//! and the server continues to work.

mod arrays;
mod requests;
mod sockets;
mod under_load;

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Map, Value};

/// Every field that some dialect reads, of a body, a query or a frame.
const KEYS: &str = "abonent author before business channel client_id cursor data description
    edited_msg_text epoch id img kind limit message message_data message_id msg_id msg_id_list msg_text name
    org_id owner page portfolio_name private product_name room room_id room_pk since team title token type user
    user_id username users";

/// Texts that have a meaning in some dialect or parser.
const TEXTS: [&str; 10] =
    ["1", "2", "user-1", "room-1", "system", "films", "get_messages", "create_message", "\0", "match"];

fn key() -> impl Strategy<Value = &'static str> {
    select(KEYS.split_whitespace().collect::<Vec<_>>())
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-2..6_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        select(&TEXTS[..]).prop_map(Value::from),
    ]
}

fn object() -> impl Strategy<Value = Value> {
    let value = prop_oneof![4 => scalar(), 1 => vec(scalar(), 0..3).prop_map(Value::from)];
    let pair = (key(), value).prop_map(|(key, value)| (key.to_owned(), value));
    vec(pair, 0..8).prop_map(|pairs| Map::from_iter(pairs).into())
}

/// Runs `cases` generated cases with a fixed seed; shrinks and reports one that fails.
fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 64, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    if let Err(error) = TestRunner::new_with_rng(config, rng).run(strategy, test) {
        panic!("{error}");
    }
}
