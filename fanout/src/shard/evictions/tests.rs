//! Tests when people are evicted whose right has ended by an answer of api.

use std::{collections::HashSet, time::Duration};

use log::StoredEvent;
use protocol::{caller::Caller, id::RoomId, subject::Channel};
use tokio::time;

use super::*;
use crate::shard::{
    access::AccessAnswer,
    bench::{follow_private_room, shard_task},
    catch_up::CatchUpReport,
    task::ShardTask,
    work::Work,
};

#[tokio::test(start_paused = true)]
async fn newer_confirmation_neither_delays_nor_keeps_an_eviction() {
    let (mut task, _loss_sources) = shard_task().await;
    task.position.set_first(1, 5);
    task.channels.reset_received(5);
    let channel = Channel::Room(RoomId(1));
    follow_private_room(&mut task, 1);
    let everyone = task.channels.get_mut(&channel).expect("open").callers();
    let confirm = |task: &mut ShardTask, revoked: &HashSet<Caller>, last_event| {
        let access = AccessAnswer { is_public: false, is_closed: false, as_of: last_event };
        let answer = ChannelConfirmation { revoked: revoked.clone(), access, last_event };
        task.take_confirmation(&channel, Some(answer));
        task.pending_evictions.len()
    };
    assert_eq!(confirm(&mut task, &everyone, 7), 1);
    assert_eq!(confirm(&mut task, &HashSet::new(), 8), 0, "they may follow it again");
    assert_eq!(confirm(&mut task, &everyone, 9), 1);
    time::advance(EVICTION_DELAY_MAX - Duration::from_secs(1)).await;
    assert_eq!(confirm(&mut task, &everyone, 10), 1);
    time::advance(Duration::from_secs(1)).await;
    task.catch_up_for_evictions();
    assert_eq!(task.pending_evictions.len(), 0, "the time counts from the first answer that named them");
    assert!(task.channels.get_mut(&channel).is_none_or(|channel_state| channel_state.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn eviction_waits_until_earlier_events_are_pushed() {
    let (mut task, _loss_sources) = shard_task().await;
    task.position.set_first(1, 5);
    task.channels.reset_received(5);
    for room in 0..3 {
        follow_private_room(&mut task, room);
    }
    let channels = [0, 1, 2].map(|room| Channel::Room(RoomId(room)));
    for (channel, last_event) in channels.iter().zip([5, 7, 8]) {
        let revoked = task.channels.get_mut(channel).expect("open").callers();
        let access = AccessAnswer { is_public: false, is_closed: true, as_of: 9 };
        task.take_confirmation(channel, Some(ChannelConfirmation { revoked, access, last_event }));
    }
    let is_empty = |task: &mut ShardTask, n: usize| {
        task.channels.get_mut(&channels[n]).is_none_or(|channel_state| channel_state.is_empty())
    };
    assert!(is_empty(&mut task, 0), "each event up to there was received");
    assert!(!is_empty(&mut task, 1) && !is_empty(&mut task, 2));
    let (subject, payload) = (channels[1].unstored_subject(task.context.shards, "chat-message"), "{}".into());
    let headers = async_nats::HeaderMap::new();
    let time = ::time::OffsetDateTime::UNIX_EPOCH;
    let stored = StoredEvent { shard: task.shard, seq: 7, subject, headers, payload, time };
    task.catch_up_for_evictions();
    assert!(matches!(task.new_work[..], [Work::CatchUp(_)]), "a second later it is looked for in the log");
    task.take_catch_up_report(CatchUpReport::Events(vec![stored])).expect("no panic");
    assert!(is_empty(&mut task, 1) && !is_empty(&mut task, 2));
    time::advance(EVICTION_DELAY_MAX).await;
    task.catch_up_for_evictions();
    assert!(is_empty(&mut task, 2), "people leave even if the log does not answer");
}
