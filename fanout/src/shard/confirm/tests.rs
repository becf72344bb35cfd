//! Tests when api is asked about a channel, and in which order.

use std::{collections::HashMap, time::Duration};

use protocol::id::TeamId;
use tokio::time;

use super::*;
use crate::{
    bench::caller,
    shard::{
        bench::{follow_private_room, shard_task},
        task::ShardTask,
    },
};

fn take(task: &mut ShardTask, applied: u64) -> Vec<Channel> {
    take_due(&mut task.channels, task.shard, applied).into_iter().map(|(channel, _)| channel).collect()
}

#[tokio::test(start_paused = true)]
async fn every_channel_is_confirmed_in_time() {
    let (mut task, _loss_sources) = shard_task().await;
    for room in 0..200 {
        follow_private_room(&mut task, room);
    }
    time::advance(Duration::from_secs(45)).await;
    let mut confirmed = HashSet::new();
    for _ in 0..ROUND_SECS {
        confirmed.extend(take(&mut task, 5));
        time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(confirmed.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn narrowed_room_is_confirmed_before_routine_ones() {
    let (mut task, _loss_sources) = shard_task().await;
    for room in 0..20 {
        follow_private_room(&mut task, room);
    }
    time::advance(Duration::from_secs(45)).await;
    let narrowed = Channel::Room(RoomId(7));
    task.channels.get_mut(&narrowed).expect("open").access.note_narrowing(6);
    assert!(!take(&mut task, 5).contains(&narrowed), "not in Postgres yet");
    assert_eq!(take(&mut task, 6)[0], narrowed);
}

#[test]
fn questions_are_bounded_in_channels_and_callers() {
    let question = |callers: usize| (Channel::Team(TeamId(1)), (0..callers as u64).map(caller).collect());
    let sizes = [1, 999, 1, 1_001, 2, 500, 499];
    let questions: Vec<Vec<usize>> = into_questions(sizes.map(question).to_vec())
        .map(|request| request.iter().map(|(_, callers)| callers.len()).collect())
        .collect();
    assert_eq!(questions, [vec![1, 999], vec![1], vec![1_001], vec![2, 500], vec![499]]);
    let small = into_questions((0..250).map(|_| question(1)).collect()).map(|request| request.len());
    assert_eq!(small.collect::<Vec<_>>(), [100, 100, 50]);
}

#[tokio::test(start_paused = true)]
async fn quiet_rooms_share_questions_and_each_is_confirmed_within_the_minute() {
    let (mut task, _loss_sources) = shard_task().await;
    let rooms = 1_000;
    for room in 0..rooms {
        follow_private_room(&mut task, room);
    }
    let mut confirmed_at = HashMap::new();
    let (minutes, mut questions) = (5, 0);
    for second in 0..minutes * 60_u32 {
        let due = take_due(&mut task.channels, task.shard, 5);
        for (channel, _) in &due {
            let previous = confirmed_at.insert(channel.clone(), second).unwrap_or(0);
            assert!(second - previous <= 60, "{channel} waited for {} s", second - previous);
            let access = AccessAnswer { is_public: false, is_closed: false, as_of: 5 };
            let answer = ChannelConfirmation { revoked: HashSet::new(), access, last_event: 5 };
            task.take_confirmation(channel, Some(answer));
        }
        questions += into_questions(due).count();
        time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(confirmed_at.len(), rooms as usize);
    assert!(confirmed_at.values().all(|second| minutes * 60 - second <= 60));
    assert!(questions <= 25 * minutes as usize, "{questions} questions in {minutes} minutes");
}
