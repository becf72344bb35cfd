//! Tests a shard's task with a model of everything around it: the log, the broker's live copies, and clients that
//! behave as the documentation says.
//!
//! For incidents in any order it checks: a client gets each event of its channels once and in order, or is closed,
//! resumes as documented, and gets the event then; a resume is refused only if the log lacks events after its position;
//! a position never passes an event that was not pushed; nothing is pushed after the end of a right.

mod client;
mod log;
mod world;

use proptest::prelude::*;

use world::World;

/// The fate of an event's live copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It arrives.
    None,
    /// Its leader dies before it is published; the next leader publishes that it was elected.
    Election,
    /// It is lost without a signal until api's hint.
    Unhinted,
    /// Its subscription drops it, which is signalled at once.
    SlowConsumer,
}

/// One incident of a test.
#[derive(Clone, Copy, Debug)]
enum Incident {
    /// An event is appended: channel, kind, person, and the fate of its live copy.
    Append(usize, usize, usize, Loss),
    /// The connection to the broker is lost.
    Disconnect,
    /// The connection is back.
    Reconnect,
    /// The task receives the messages that have arrived.
    Receive,
    /// A piece of work is done.
    Work(usize),
    /// The result of a piece of work is taken.
    Report,
    /// A hint arrives: one that is due, or one of that event.
    Hint(u64),
    /// Seconds pass.
    Ticks(u64),
    /// A client follows a channel.
    Follow(usize, usize),
    /// A client follows it no more.
    Unfollow(usize, usize),
    /// A client reads its frames, and comes back if it was closed.
    Read(usize),
    /// A client leaves and comes back: it follows its channels again at once, or later.
    Return(usize, bool),
    /// Old events are trimmed, this many tenths.
    Trim(u64),
    /// Rings drop their events for their age.
    Forget,
    /// The broker is killed: this many events are lost, and the persister notices at once or later.
    Kill(u64, bool),
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        8 => Just(Loss::None),
        1 => Just(Loss::Election),
        1 => Just(Loss::Unhinted),
        1 => Just(Loss::SlowConsumer),
    ]
}

/// The number of a channel. One of them is busy, so that it gets events while it is read.
fn channel_number() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(0), 3 => 0..8_usize]
}

fn incident() -> impl Strategy<Value = Incident> {
    prop_oneof![
        12 => (channel_number(), 0..8_usize, 0..3_usize, loss()).prop_map(|(a, b, c, d)| Incident::Append(a, b, c, d)),
        2 => Just(Incident::Disconnect),
        4 => Just(Incident::Reconnect),
        8 => Just(Incident::Receive),
        8 => any::<usize>().prop_map(Incident::Work),
        8 => Just(Incident::Report),
        2 => (1..40_u64).prop_map(Incident::Hint),
        2 => (1..30_u64).prop_map(Incident::Ticks),
        6 => (0..4_usize, channel_number()).prop_map(|(a, b)| Incident::Follow(a, b)),
        1 => (0..4_usize, 0..8_usize).prop_map(|(a, b)| Incident::Unfollow(a, b)),
        4 => (0..4_usize).prop_map(Incident::Read),
        2 => (0..4_usize, any::<bool>()).prop_map(|(a, b)| Incident::Return(a, b)),
        1 => (0..10_u64).prop_map(Incident::Trim),
        3 => Just(Incident::Forget),
        1 => (0..4_u64, any::<bool>()).prop_map(|(a, b)| Incident::Kill(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn clients_get_each_event_once_in_order_or_resume(
        incidents in proptest::collection::vec(incident(), 0..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            for incident in incidents {
                world.apply(incident);
            }
            world.settle();
        });
    }
}
