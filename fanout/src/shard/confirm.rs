//! Asks api, once a minute and after each change, whether the subscribers of rooms and teams may still follow them.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt as _, stream};
use protocol::{
    caller::Caller,
    id::RoomId,
    rpc::{
        CONFIRM_CALLERS_MAX, CONFIRM_CHANNELS_MAX, ChannelCallers, ConfirmChannelsRequest, ConfirmReply,
        ConfirmRequest, expiry,
    },
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
/// Channels that api is asked about at a time, where it does not understand questions about several.
const CONCURRENT_CONFIRMATIONS_MAX: usize = 16;
/// No room has that id: an older api, which knows nothing of teams, refuses to answer.
const NO_ROOM: RoomId = RoomId(0);
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

/// People whose right to a channel has ended, until they were pushed everything from before that.
#[derive(Default)]
pub(super) struct PendingEvictions(Vec<PendingEviction>);

impl PendingEvictions {
    /// Puts the newest answer about a channel in the place of older ones: it decides who leaves. Those whom an older
    /// one named as well wait no longer for that.
    fn replace(&mut self, channel: &Channel, mut newest: ChannelConfirmation) {
        self.0.retain_mut(|pending| {
            if pending.channel != *channel {
                return true;
            }
            pending.confirmation.revoked.retain(|caller| newest.revoked.remove(caller));
            pending.confirmation.access = newest.access;
            pending.confirmation.last_event = newest.last_event;
            !pending.confirmation.revoked.is_empty()
        });
        if !newest.revoked.is_empty() {
            self.0.push(PendingEviction {
                channel: channel.clone(),
                confirmation: newest,
                confirmed_at: Instant::now(),
            });
        }
    }

    /// Takes out the evictions that wait no longer: everything up to their last event was received, or they have
    /// waited for [`EVICTION_DELAY_MAX`].
    fn take_due(&mut self, has_received_up_to: impl Fn(&Channel, u64) -> bool) -> Vec<PendingEviction> {
        let is_due = |pending: &mut PendingEviction| {
            pending.confirmed_at.elapsed() >= EVICTION_DELAY_MAX
                || has_received_up_to(&pending.channel, pending.confirmation.last_event)
        };
        self.0.extract_if(.., is_due).collect()
    }

    /// The first event that one of them waits for.
    fn first_missing_seq(&self) -> Option<u64> {
        self.0.iter().map(|pending| pending.confirmation.last_event).min()
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}

/// The people of a channel that api is asked about.
pub(super) type AskedChannel = (Channel, Vec<Caller>);

impl ShardTask {
    /// Asks about channels that are due: first those where a right may have ended, then the routine ones, the
    /// longest due first.
    pub(super) fn confirm_due_channels(&mut self, applied: u64) {
        let asked = self.take_due(applied);
        self.new_work.extend(into_questions(asked).map(Work::Confirm));
    }

    /// The channels that api is asked about in this second, and who is there.
    fn take_due(&mut self, applied: u64) -> Vec<AskedChannel> {
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
        if due.first().is_none_or(|(turn, _)| turn.is_early) {
            return vec![];
        }
        due.truncate(CHANNELS_PER_SECOND_MIN.max(confirmed / ROUND_SECS));
        let mut asked = Vec::with_capacity(due.len());
        for (_, channel) in due {
            if let Some(channel_state) = self.open_channel_mut(&channel)
                && channel_state.access.start_confirmation(applied)
            {
                let callers = channel_state.callers().into_iter().collect();
                asked.push((channel, callers));
            }
        }
        asked
    }

    pub(super) fn take_confirmation(&mut self, channel: &Channel, result: Option<ChannelConfirmation>) {
        let Some(channel_state) = self.open_channel_mut(channel) else { return };
        channel_state.access.finish_confirmation(result.as_ref().map(|confirmed| confirmed.access));
        if let Some(confirmation) = result {
            self.pending_evictions.replace(channel, confirmation);
            self.evict_revoked();
        }
    }

    /// Ends the rights of those who were pushed everything up to where they ended. An answer of api may come
    /// before events that were stored earlier.
    pub(super) fn evict_revoked(&mut self) {
        if self.pending_evictions.0.is_empty() {
            return;
        }
        let (channels, received) = (&self.channels, &self.received);
        // Where `seq` is an event of another channel, that is known only once the shard was read up to it.
        let has_received_up_to = |channel: &Channel, seq| match channels.get(channel) {
            Some(ChannelEntry::Open(channel_state)) => {
                seq <= channel_state.start_seq() || received.contains(seq)
            }
            _ => true,
        };
        for PendingEviction { channel, confirmation, .. } in
            self.pending_evictions.take_due(has_received_up_to)
        {
            if let Some(channel_state) = self.open_channel_mut(&channel) {
                metrics::counter!(names::EVICTIONS_TOTAL, "cause" => "confirmation")
                    .increment(confirmation.revoked.len() as u64);
                channel_state
                    .evict(confirmation.access.as_of + 1, |caller| confirmation.revoked.contains(caller));
            }
        }
    }

    /// Looks in the log for what those who are to leave were not pushed within a second.
    pub(super) fn catch_up_for_evictions(&mut self) {
        self.evict_revoked();
        let missing = self.pending_evictions.first_missing_seq().filter(|_| !self.catch_ups.is_running());
        if let Some(missing) = missing {
            self.catch_up_open_channels("leaving", Some(missing.saturating_sub(1)));
        }
    }
}

/// Puts channels together into questions of at most [`CONFIRM_CHANNELS_MAX`] channels and [`CONFIRM_CALLERS_MAX`]
/// callers. A channel with more callers is a question of its own.
fn into_questions(channels: Vec<AskedChannel>) -> impl Iterator<Item = Vec<AskedChannel>> {
    let mut channels = channels.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = channels.next()?;
        let mut callers_count = first.1.len();
        let mut question = vec![first];
        while question.len() < CONFIRM_CHANNELS_MAX
            && let Some(next) =
                channels.next_if(|(_, callers)| callers_count + callers.len() <= CONFIRM_CALLERS_MAX)
        {
            callers_count += next.1.len();
            question.push(next);
        }
        Some(question)
    })
}

/// Asks api about channels. The answer to each is `None` where api has not answered for all of its people.
pub(super) async fn confirm(
    api: &ApiClient,
    question: Vec<AskedChannel>,
) -> Vec<(Channel, Option<ChannelConfirmation>)> {
    if question.len() > 1
        && let Some(answers) = confirm_together(api, &question).await
    {
        return question.into_iter().zip(answers).map(|((channel, _), answer)| (channel, answer)).collect();
    }
    let answers = stream::iter(question).map(async |(channel, callers)| {
        let answer = confirm_channel(api, &channel, &callers).await;
        (channel, answer)
    });
    answers.buffer_unordered(CONCURRENT_CONFIRMATIONS_MAX).collect().await
}

/// Asks about several channels at once; `None` where no api node understands that.
async fn confirm_together(
    api: &ApiClient,
    question: &[AskedChannel],
) -> Option<Vec<Option<ChannelConfirmation>>> {
    let channels = question.iter().map(|(channel, callers)| asked_about(channel, callers)).collect();
    let request = ConfirmChannelsRequest { channels, expires_at: expiry() };
    let mut answers = api.confirm_channels(&request).await?.unwrap_or_default().into_iter();
    let confirmations = question.iter().map(|(_, callers)| {
        let reply = answers.next()?.ok()?;
        Some(ChannelConfirmation::of(reply, callers))
    });
    Some(confirmations.collect())
}

/// Asks about one channel, as many of its people at a time as one question may name.
async fn confirm_channel(
    api: &ApiClient,
    channel: &Channel,
    callers: &[Caller],
) -> Option<ChannelConfirmation> {
    let mut all: Option<ChannelConfirmation> = None;
    for chunk in callers.chunks(CONFIRM_CALLERS_MAX) {
        let ChannelCallers { room, team, callers } = asked_about(channel, chunk);
        let request = ConfirmRequest { room, team, callers, expires_at: expiry() };
        let part = ChannelConfirmation::of(api.confirm_access(&request).await.ok()?, chunk);
        match &mut all {
            Some(all) => all.add(part),
            None => all = Some(part),
        }
    }
    all
}

fn asked_about(channel: &Channel, callers: &[Caller]) -> ChannelCallers {
    let (room, team) = match *channel {
        Channel::Room(room) => (room, None),
        Channel::Team(team) => (NO_ROOM, Some(team)),
        Channel::User(_) | Channel::System => (NO_ROOM, None),
    };
    ChannelCallers { room, team, callers: callers.to_vec() }
}

impl ChannelConfirmation {
    /// What a reply says about those whom the question named.
    fn of(reply: ConfirmReply, asked: &[Caller]) -> Self {
        // An older api names people alone.
        let by_name = || asked.iter().filter(|caller| reply.out.contains(&caller.user)).cloned().collect();
        let revoked = reply.callers_out.map_or_else(by_name, |callers| callers.into_iter().collect());
        let access =
            AccessAnswer { is_public: reply.grant.public, is_closed: reply.closed, as_of: reply.grant.as_of };
        Self { revoked, access, last_event: reply.grant.last_event }
    }

    /// Adds the answer about further people of the channel.
    fn add(&mut self, other: Self) {
        self.revoked.extend(other.revoked);
        self.access.is_public &= other.access.is_public;
        self.access.is_closed &= other.access.is_closed;
        self.access.as_of = self.access.as_of.min(other.access.as_of);
        self.last_event = self.last_event.max(other.last_event);
    }
}

#[cfg(test)]
mod tests;
