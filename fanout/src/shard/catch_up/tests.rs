//! Tests the range that a catch-up reads, and its effect on channels.

use std::sync::Arc;

use bytes::Bytes;
use log::LogEnd;
use protocol::id::RoomId;

use super::*;
use crate::{
    encode::{PushFormat, event::LiveEvent},
    outbox::Outbox,
    shard::{bench, ring_budget::RingBudget, work::Work},
};

#[tokio::test]
async fn catch_up_of_open_channels_does_not_restart_openings() {
    let (mut task, _loss_sources) = bench::shard_task().await;
    task.position.set_first(1, 5);
    let opening = Channel::Room(RoomId(2));
    let outbox = Arc::new(Outbox::new(1_000, PushFormat::Native));
    task.channels.subscribe(&opening, bench::resume_request(5, &outbox));
    task.catch_up_open_channels("opened", Some(5));
    assert!(!task.channels.may_opening_lack_events(&opening));
    task.start_catch_up("gap", None);
    assert!(task.channels.may_opening_lack_events(&opening), "what was lost for one may be lost for all");
}

#[tokio::test(start_paused = true)]
async fn rings_of_two_thousand_busy_rooms_stay_near_their_bound() {
    const MAX: usize = 4 << 20;
    let (mut task, _loss_sources) = bench::shard_task().await;
    task.context.ring_budget = Arc::new(RingBudget::new(task.context.shards, MAX, Duration::from_secs(600)));
    for room in 0..2_000 {
        bench::open_room(&mut task, RoomId(room), 0);
    }
    // Half a megabyte a second, of which ten minutes would be kept.
    let payload = Bytes::from(vec![b'0'; 200]);
    for seq in 1..=240_000_u64 {
        let channel = Channel::Room(RoomId(seq % 2_000));
        let event = LiveEvent { name: "chat-message", seq, headers: None, payload: &payload };
        task.channels.deliver(&channel, event);
        if seq % 2_000 == 0 {
            tokio::time::advance(Duration::from_secs(1)).await;
            task.drop_old_from_rings();
            task.context.ring_budget.report(Shard::SYSTEM, 0, Duration::ZERO);
            let ring_bytes: usize =
                task.channels.iter().map(|(_, channel_state)| channel_state.ring.memory_bytes()).sum();
            assert!(ring_bytes < 2 * MAX, "{ring_bytes} bytes after {} s", seq / 2_000);
        }
    }
}

#[tokio::test]
async fn range_is_covered_by_a_log_with_all_of_it_and_of_received_events() {
    let range = CatchUpRange { after: 5, highest_received: 9, epoch: Some(1) };
    assert!(
        range.is_covered_by(bench::stream_state(6, 9, 1))
            && range.is_covered_by(bench::stream_state(1, 20, 1))
    );
    assert!(!range.is_covered_by(bench::stream_state(7, 9, 1)), "6 was trimmed");
    assert!(!range.is_covered_by(bench::stream_state(1, 8, 1)), "9 was received, and is lost");
    assert!(!range.is_covered_by(bench::stream_state(1, 20, 2)), "another epoch");
}

#[tokio::test]
async fn channel_opened_during_a_catch_up_is_no_loss() {
    let (mut task, _loss_sources) = bench::shard_task().await;
    task.position.set_first(1, 5);
    bench::open_room(&mut task, RoomId(1), 5);
    task.start_catch_up("again", None);
    bench::open_room(&mut task, RoomId(2), 9);
    assert!(matches!(task.new_work[..], [Work::CatchUp(CatchUpRange { after: 5, highest_received: 5, .. })]));
    task.take_catch_up_report(CatchUpReport::CompleteUpTo(7)).expect("no panic");
    assert_eq!(task.channels.len(), 2, "the log had 7 when it was asked, and 9 since");

    task.start_catch_up("again", None);
    assert!(matches!(
        task.new_work[..],
        [_, Work::CatchUp(CatchUpRange { after: 7, highest_received: 9, .. })]
    ));
    task.take_catch_up_report(CatchUpReport::NotInLog(bench::stream_state(1, 8, 1))).expect("no panic");
    assert_eq!(task.channels.len(), 0, "the log had 9, and has lost it");
    assert!(matches!(task.new_work[2..], [Work::PublishLogEnd(LogEnd { epoch: 1, seq: 9 })]));
}

#[tokio::test]
async fn catch_up_after_a_lost_log_begins_at_the_new_position() {
    let (mut task, _loss_sources) = bench::shard_task().await;
    task.position.set_first(1, 5);
    bench::open_room(&mut task, RoomId(1), 5);
    task.start_catch_up("reconnect", None);
    task.take_catch_up_report(CatchUpReport::NotInLog(bench::stream_state(50, 80, 1))).expect("no panic");
    task.start_catch_up("reconnect", None);
    let range = task.catch_ups.running.as_ref().expect("a catch-up").range;
    assert!(range.after == 80 && range.is_covered_by(bench::stream_state(50, 80, 1)), "{range:?}");
}

#[tokio::test]
async fn catch_up_that_panics_restarts_and_ends_the_task_at_last() {
    let (mut task, _loss_sources) = bench::shard_task().await;
    task.position.set_first(1, 5);
    task.start_catch_up("reconnect", None);
    for _ in 1..PANICS_MAX {
        task.take_catch_up_report(CatchUpReport::Panicked).expect("begun again");
    }
    assert_eq!(task.new_work.len(), usize::try_from(PANICS_MAX).expect("small"));
    task.take_catch_up_report(CatchUpReport::Panicked).expect_err("the task ends");
}
