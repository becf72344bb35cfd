//! Tests when api is asked about a channel, and what its answers do.

use std::collections::HashMap;

use log::StoredEvent;
use protocol::{id::TeamId, rpc::AccessGrant};
use tokio::{sync::oneshot, time};

use super::*;
use crate::{
    bench::caller,
    encode::PushFormat,
    outbox::Outbox,
    shard::{
        bench::{open_room, shard_task},
        catch_up::CatchUpReport,
        subscribe::SubscribeRequest,
    },
};

/// Somebody follows that room by a right that is not everyone's.
fn open(task: &mut ShardTask, room: u64) {
    let grant = AccessGrant { public: false, pair: false, as_of: 5, team: None, last_event: 0 };
    let request = SubscribeRequest {
        socket_id: room,
        frame_number: 1,
        caller: caller(room),
        outbox: std::sync::Arc::new(Outbox::new(1_000, PushFormat::Native)),
        since: None,
        epoch: None,
        grant: Some(grant),
        answer: None,
        admitted: oneshot::channel().0,
    };
    open_room(task, RoomId(room), 5).admit(request, true);
}

fn take(task: &mut ShardTask, applied: u64) -> Vec<Channel> {
    task.take_due(applied).into_iter().map(|(channel, _)| channel).collect()
}

#[tokio::test(start_paused = true)]
async fn every_channel_is_confirmed_in_time() {
    let (mut task, _said) = shard_task().await;
    for room in 0..200 {
        open(&mut task, room);
    }
    time::advance(Duration::from_secs(45)).await;
    let mut asked = HashSet::new();
    for _ in 0..ROUND_SECS {
        asked.extend(take(&mut task, 5));
        time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(asked.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn narrowed_room_is_confirmed_before_routine_ones() {
    let (mut task, _said) = shard_task().await;
    for room in 0..20 {
        open(&mut task, room);
    }
    time::advance(Duration::from_secs(45)).await;
    let narrowed = Channel::Room(RoomId(7));
    task.open_channel_mut(&narrowed).expect("open").access.note_narrowing(6);
    assert!(!take(&mut task, 5).contains(&narrowed), "not in Postgres yet");
    assert_eq!(take(&mut task, 6)[0], narrowed);
}

#[test]
fn questions_are_bounded_in_channels_and_callers() {
    let asked = |callers: usize| (Channel::Team(TeamId(1)), (0..callers as u64).map(caller).collect());
    let sizes = [1, 999, 1, 1_001, 2, 500, 499];
    let questions: Vec<Vec<usize>> = into_questions(sizes.map(asked).to_vec())
        .map(|question| question.iter().map(|(_, callers)| callers.len()).collect())
        .collect();
    assert_eq!(questions, [vec![1, 999], vec![1], vec![1_001], vec![2, 500], vec![499]]);
    let small = into_questions((0..250).map(|_| asked(1)).collect()).map(|question| question.len());
    assert_eq!(small.collect::<Vec<_>>(), [100, 100, 50]);
}

#[tokio::test(start_paused = true)]
async fn quiet_rooms_share_questions_and_each_is_confirmed_within_the_minute() {
    let (mut task, _loss_sources) = shard_task().await;
    let rooms = 1_000;
    for room in 0..rooms {
        open(&mut task, room);
    }
    let mut confirmed_at = HashMap::new();
    let (minutes, mut questions) = (5, 0);
    for second in 0..minutes * 60_u32 {
        let asked = task.take_due(5);
        for (channel, _) in &asked {
            let before = confirmed_at.insert(channel.clone(), second).unwrap_or(0);
            assert!(second - before <= 60, "{channel} waited for {} s", second - before);
            let access = AccessAnswer { is_public: false, is_closed: false, as_of: 5 };
            let answer = ChannelConfirmation { revoked: HashSet::new(), access, last_event: 5 };
            task.take_confirmation(channel, Some(answer));
        }
        questions += into_questions(asked).count();
        time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(confirmed_at.len(), rooms as usize);
    assert!(confirmed_at.values().all(|second| minutes * 60 - second <= 60));
    assert!(questions <= 25 * minutes as usize, "{questions} questions in {minutes} minutes");
}

#[tokio::test(start_paused = true)]
async fn newer_confirmation_neither_delays_nor_keeps_an_eviction() {
    let (mut task, _loss_sources) = shard_task().await;
    task.position.set_first(1, 5);
    task.received.reset(5);
    let channel = Channel::Room(RoomId(1));
    open(&mut task, 1);
    let everyone = task.open_channel_mut(&channel).expect("open").callers();
    let confirm = |task: &mut ShardTask, revoked: &HashSet<Caller>, last_event| {
        let access = AccessAnswer { is_public: false, is_closed: false, as_of: last_event };
        let answer = ChannelConfirmation { revoked: revoked.clone(), access, last_event };
        task.take_confirmation(&channel, Some(answer));
        task.pending_evictions.len()
    };
    assert_eq!(confirm(&mut task, &everyone, 7), 1);
    assert_eq!(confirm(&mut task, &HashSet::new(), 8), 0, "they may be there again");
    assert_eq!(confirm(&mut task, &everyone, 9), 1);
    time::advance(EVICTION_DELAY_MAX - Duration::from_secs(1)).await;
    assert_eq!(confirm(&mut task, &everyone, 10), 1);
    time::advance(Duration::from_secs(1)).await;
    task.catch_up_for_evictions();
    assert_eq!(task.pending_evictions.len(), 0, "the time counts from the first answer that named them");
    assert!(task.open_channel_mut(&channel).is_none_or(|channel_state| channel_state.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn eviction_waits_until_earlier_events_are_pushed() {
    let (mut task, _said) = shard_task().await;
    task.position.set_first(1, 5);
    task.received.reset(5);
    for room in 0..3 {
        open(&mut task, room);
    }
    let channels = [0, 1, 2].map(|room| Channel::Room(RoomId(room)));
    for (channel, last_event) in channels.iter().zip([5, 7, 8]) {
        let out = task.open_channel_mut(channel).expect("open").callers();
        let answered = AccessAnswer { is_public: false, is_closed: true, as_of: 9 };
        task.take_confirmation(
            channel,
            Some(ChannelConfirmation { revoked: out, access: answered, last_event }),
        );
    }
    let is_empty = |task: &mut ShardTask, n: usize| {
        task.open_channel_mut(&channels[n]).is_none_or(|channel_state| channel_state.is_empty())
    };
    assert!(is_empty(&mut task, 0), "everything up to there was heard");
    assert!(!is_empty(&mut task, 1) && !is_empty(&mut task, 2));
    let (subject, payload) = (channels[1].unstored_subject(task.context.shards, "chat-message"), "{}".into());
    let headers = async_nats::HeaderMap::new();
    let time = ::time::OffsetDateTime::UNIX_EPOCH;
    let stored = StoredEvent { shard: task.shard, seq: 7, subject, headers, payload, time };
    task.catch_up_for_evictions();
    assert!(matches!(task.new_work[..], [Work::CatchUp(_)]), "a second later it is looked for in the log");
    task.take_catch_up_report(CatchUpReport::Events(vec![stored])).expect("a shard that is heard");
    assert!(is_empty(&mut task, 1) && !is_empty(&mut task, 2));
    time::advance(EVICTION_DELAY_MAX).await;
    task.catch_up_for_evictions();
    assert!(is_empty(&mut task, 2), "a log that does not answer keeps nobody");
}
