//! Asks api, once a minute and after each change, whether the subscribers of rooms and teams may still follow them.

use std::{collections::HashSet, time::Duration};

use protocol::{
    caller::Caller,
    id::RoomId,
    rpc::{CONFIRM_CALLERS_MAX, ConfirmRequest, expiry},
    subject::Channel,
};
use service::metric_names as names;
use tokio::time::Instant;

use super::{ChannelEntry, ShardTask, work::Work};
use crate::{api_client::ApiClient, shard::access::AccessAnswer};

/// Channels of a shard that api is asked about in one second, where they are few; the others follow.
const CHANNELS_PER_SECOND_MIN: usize = if cfg!(test) { 2 } else { 500 };
/// Seconds within which all channels of a shard can be asked about, however many they are: with the 45 s between
/// two confirmations of a channel, well within the minute.
const ROUND_SECS: usize = 10;
/// How long those who may not be there any more are kept for what was stored before: then they leave without it.
const EVICTION_DELAY_MAX: Duration = Duration::from_secs(10);

/// What api has confirmed.
#[derive(Debug)]
pub(super) struct ChannelConfirmation {
    pub(super) revoked: HashSet<Caller>,
    pub(super) access: AccessAnswer,
    /// The last event of the channel that api has counted in: whoever is out is pushed everything up to it.
    pub(super) last_event: u64,
}

/// People who leave a channel once everything that api has counted in was pushed to them.
pub(super) struct PendingEviction {
    channel: Channel,
    confirmation: ChannelConfirmation,
    confirmed_at: Instant,
}

impl ShardTask {
    /// Asks about channels that are due: first those where a right may have ended, then the routine ones, the
    /// longest due first.
    pub(super) fn confirm_due_channels(&mut self, applied: u64) {
        for (channel, callers) in self.take_due(applied) {
            self.new_work.push(Work::Confirm { channel, callers: callers.into_iter().collect() });
        }
    }

    /// The channels that api is asked about in this second, and who is there.
    fn take_due(&mut self, applied: u64) -> Vec<(Channel, HashSet<Caller>)> {
        let (mut due, mut confirmed, mut overdue) = (Vec::new(), 0_usize, 0_u32);
        for (channel, entry) in &self.channels {
            let (Channel::Room(_) | Channel::Team(_), ChannelEntry::Open(channel_state)) = (channel, entry)
            else {
                continue;
            };
            // An empty channel is not confirmed; it stays due until somebody follows it.
            if channel_state.is_empty() || !channel_state.access.needs_confirming() {
                continue;
            }
            confirmed += 1;
            overdue += u32::from(channel_state.access.is_overdue());
            due.extend(channel_state.access.confirm_priority(applied).map(|turn| (turn, channel.clone())));
        }
        let shard = self.shard.to_string();
        metrics::gauge!(names::CONFIRMATIONS_OVERDUE, "shard" => shard).set(f64::from(overdue));
        due.sort_unstable_by_key(|(turn, _)| *turn);
        due.truncate(CHANNELS_PER_SECOND_MIN.max(confirmed / ROUND_SECS));
        let mut asked = Vec::with_capacity(due.len());
        for (_, channel) in due {
            if let Some(channel_state) = self.open_channel_mut(&channel)
                && channel_state.access.start_confirmation(applied)
            {
                let callers = channel_state.callers();
                asked.push((channel, callers));
            }
        }
        asked
    }

    pub(super) fn take_confirmation(&mut self, channel: &Channel, result: Option<ChannelConfirmation>) {
        let Some(channel_state) = self.open_channel_mut(channel) else { return };
        channel_state.access.finish_confirmation(result.as_ref().map(|confirmed| confirmed.access));
        let Some(confirmed) = result.filter(|confirmed| !confirmed.revoked.is_empty()) else { return };
        // A newer answer names whom the older one has named.
        self.pending_evictions.retain(|leaving| leaving.channel != *channel);
        self.pending_evictions.push(PendingEviction {
            channel: channel.clone(),
            confirmation: confirmed,
            confirmed_at: Instant::now(),
        });
        self.evict_revoked();
    }

    /// Ends the rights of those who were pushed everything up to where they ended. An answer of api may come
    /// before events that were stored earlier.
    pub(super) fn evict_revoked(&mut self) {
        if self.pending_evictions.is_empty() {
            return;
        }
        let (leaving, later) =
            std::mem::take(&mut self.pending_evictions).into_iter().partition(|leaving: &PendingEviction| {
                leaving.confirmed_at.elapsed() >= EVICTION_DELAY_MAX
                    || self.has_received_up_to(&leaving.channel, leaving.confirmation.last_event)
            });
        self.pending_evictions = later;
        for PendingEviction {
            channel,
            confirmation: ChannelConfirmation { revoked: out, access: answered, .. },
            ..
        } in leaving
        {
            if let Some(channel_state) = self.open_channel_mut(&channel) {
                metrics::counter!(names::EVICTIONS_TOTAL, "cause" => "confirmation")
                    .increment(out.len() as u64);
                channel_state.evict(answered.as_of + 1, |caller| out.contains(caller));
            }
        }
    }

    /// Looks in the log for what those who are to leave were not pushed within a second.
    pub(super) fn catch_up_for_evictions(&mut self) {
        self.evict_revoked();
        let unheard = self.pending_evictions.iter().map(|leaving| leaving.confirmation.last_event).min();
        if let Some(unheard) = unheard.filter(|_| self.catch_up.is_none()) {
            self.catch_up_open_channels("leaving", Some(unheard.saturating_sub(1)));
        }
    }

    /// Whether everything of a channel up to an event of it was received. Where it is an event of another channel
    /// that is known only once the shard was read up to it.
    fn has_received_up_to(&self, channel: &Channel, seq: u64) -> bool {
        match self.channels.get(channel) {
            Some(ChannelEntry::Open(channel_state)) => {
                seq <= channel_state.start_seq() || self.received.contains(seq)
            }
            _ => true,
        }
    }
}

/// Asks about all of a channel's people; `None` where api has not answered for all of them.
pub(super) async fn confirm(
    ask: &ApiClient,
    channel: &Channel,
    callers: Vec<Caller>,
) -> Option<ChannelConfirmation> {
    let (room, team) = match channel {
        Channel::Room(room) => (*room, None),
        // No room has that id: an api that knows nothing of teams refuses to answer.
        Channel::Team(team) => (RoomId(0), Some(*team)),
        Channel::User(_) | Channel::System => return None,
    };
    let mut all: Option<ChannelConfirmation> = None;
    for chunk in callers.chunks(CONFIRM_CALLERS_MAX) {
        let request = ConfirmRequest { room, team, callers: chunk.to_vec(), expires_at: expiry() };
        let confirmed = ask.confirm_access(&request).await.ok()?;
        let answered = AccessAnswer {
            is_public: confirmed.grant.public,
            is_closed: confirmed.closed,
            as_of: confirmed.grant.as_of,
        };
        let last_event = confirmed.grant.last_event;
        let all =
            all.get_or_insert(ChannelConfirmation { revoked: HashSet::new(), access: answered, last_event });
        // An older api names people alone.
        let by_name =
            || chunk.iter().filter(|caller| confirmed.out.contains(&caller.user)).cloned().collect();
        all.revoked.extend(confirmed.callers_out.unwrap_or_else(by_name));
        all.access.is_public &= answered.is_public;
        all.access.is_closed &= answered.is_closed;
        all.access.as_of = all.access.as_of.min(answered.as_of);
        all.last_event = all.last_event.max(last_event);
    }
    all
}

#[cfg(test)]
mod tests {
    use log::StoredEvent;
    use protocol::rpc::AccessGrant;
    use tokio::{sync::oneshot, time};

    use super::*;
    use crate::{
        bench::caller,
        encode::PushFormat,
        outbox::Outbox,
        shard::{
            bench::shard_task, catch_up::CatchUpReport, channel::ChannelState, subscribe::SubscribeRequest,
        },
    };

    /// Somebody follows that room by a right that is not everyone's.
    fn open(task: &mut ShardTask, room: u64) {
        let (channel, shard) = (Channel::Room(RoomId(room)), task.shard.index());
        let mut channel_state =
            ChannelState::new(channel.clone(), shard, 5, 1, oneshot::channel().0, task.metrics.clone());
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
        channel_state.admit(request, true);
        task.channels.insert(channel, ChannelEntry::Open(Box::new(channel_state)));
    }

    fn take(task: &mut ShardTask, applied: u64) -> Vec<Channel> {
        task.take_due(applied).into_iter().map(|(channel, _)| channel).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn every_channel_is_asked_about_in_time_however_many_there_are() {
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
    async fn narrowed_room_is_asked_about_before_those_of_the_minute() {
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

    #[tokio::test(start_paused = true)]
    async fn who_may_not_be_there_any_more_leaves_once_what_was_stored_before_is_pushed() {
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
        let (subject, payload) =
            (channels[1].unstored_subject(task.context.shards, "chat-message"), "{}".into());
        let headers = async_nats::HeaderMap::new();
        let time = ::time::OffsetDateTime::UNIX_EPOCH;
        let stored = StoredEvent { shard: task.shard, seq: 7, subject, headers, payload, time };
        task.catch_up_for_evictions();
        assert!(
            matches!(task.new_work[..], [Work::CatchUp(_)]),
            "a second later it is looked for in the log"
        );
        task.take_catch_up_report(CatchUpReport::Events(vec![stored])).expect("a shard that is heard");
        assert!(is_empty(&mut task, 1) && !is_empty(&mut task, 2));
        time::advance(EVICTION_DELAY_MAX).await;
        task.catch_up_for_evictions();
        assert!(is_empty(&mut task, 2), "a log that does not answer keeps nobody");
    }
}
