//! Asks api, once a minute and after each change, whether the subscribers of rooms and teams may still follow them.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};
use protocol::{
    caller::Caller,
    id::{RoomId, Shard},
    rpc::{
        CONFIRM_CALLERS_MAX, CONFIRM_CHANNELS_MAX, ChannelCallers, ConfirmChannelsRequest, ConfirmReply,
        ConfirmRequest, expiry,
    },
    subject::Channel,
};
use service::metric_names as names;

use super::{access::AccessAnswer, channels::Channels};
use crate::api_client::ApiClient;

/// Channels of a shard that api is asked about in one second, if they are few; the others follow.
const CHANNELS_PER_SECOND_MIN: usize = if cfg!(test) { 2 } else { 500 };
/// Seconds within which all channels of a shard can be asked about, however many they are: with the 45 s between
/// two confirmations of a channel, well within the minute.
const ROUND_SECS: usize = 10;
/// Channels that api is asked about at a time, if it does not understand questions about several.
const CONCURRENT_CONFIRMATIONS_MAX: usize = 16;
/// No room has that id: an older api, which knows nothing of teams, refuses to answer.
const NO_ROOM: RoomId = RoomId(0);
/// What api has confirmed about a channel.
#[derive(Debug)]
pub(super) struct ChannelConfirmation {
    pub(super) revoked: HashSet<Caller>,
    pub(super) access: AccessAnswer,
    /// The last event of the channel that api has counted in. Revoked callers are pushed everything up to it.
    pub(super) last_event: u64,
}

/// The callers of a channel that api is asked about.
pub(super) type ChannelQuestion = (Channel, Vec<Caller>);

/// Begins the confirmations of a second, and returns what api has to be asked: first about channels where a right may
/// have ended, then about the routine ones, the longest due first. Everything up to `applied` is in Postgres.
pub(super) fn start_due(
    channels: &mut Channels,
    shard: Shard,
    applied: u64,
) -> impl Iterator<Item = Vec<ChannelQuestion>> {
    into_questions(take_due(channels, shard, applied))
}

/// The channels that api is asked about in this second, with their callers.
fn take_due(channels: &mut Channels, shard: Shard, applied: u64) -> Vec<ChannelQuestion> {
    let (mut due, mut confirmed, mut overdue) = (Vec::new(), 0_usize, 0_u32);
    for (channel, channel_state) in channels.iter() {
        let (Channel::Room(_) | Channel::Team(_)) = channel else { continue };
        // An empty channel is not confirmed; it stays due until it has a subscriber.
        if channel_state.is_empty() || !channel_state.access.needs_confirming() {
            continue;
        }
        confirmed += 1;
        overdue += u32::from(channel_state.access.is_overdue());
        let priority = channel_state.access.confirm_priority(applied);
        due.extend(priority.map(|priority| (priority, channel.clone())));
    }
    let shard = shard.to_string();
    metrics::gauge!(names::CONFIRMATIONS_OVERDUE, "shard" => shard).set(f64::from(overdue));
    due.sort_unstable_by_key(|(priority, _)| *priority);
    if due.first().is_none_or(|(priority, _)| priority.is_early) {
        return vec![];
    }
    due.truncate(CHANNELS_PER_SECOND_MIN.max(confirmed / ROUND_SECS));
    let mut questions = Vec::with_capacity(due.len());
    for (_, channel) in due {
        if let Some(channel_state) = channels.get_mut(&channel)
            && channel_state.access.start_confirmation(applied)
        {
            let callers = channel_state.callers().into_iter().collect();
            questions.push((channel, callers));
        }
    }
    questions
}

/// Puts channels together into questions of at most [`CONFIRM_CHANNELS_MAX`] channels and [`CONFIRM_CALLERS_MAX`]
/// callers. A channel with more callers is a question of its own.
fn into_questions(channels: Vec<ChannelQuestion>) -> impl Iterator<Item = Vec<ChannelQuestion>> {
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
    question: Vec<ChannelQuestion>,
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
    question: &[ChannelQuestion],
) -> Option<Vec<Option<ChannelConfirmation>>> {
    let channels = question.iter().map(|(channel, callers)| channel_callers(channel, callers)).collect();
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
        let ChannelCallers { room, team, callers } = channel_callers(channel, chunk);
        let request = ConfirmRequest { room, team, callers, expires_at: expiry() };
        let part = ChannelConfirmation::of(api.confirm_access(&request).await.ok()?, chunk);
        match &mut all {
            Some(all) => all.add(part),
            None => all = Some(part),
        }
    }
    all
}

fn channel_callers(channel: &Channel, callers: &[Caller]) -> ChannelCallers {
    let (room, team) = match *channel {
        Channel::Room(room) => (room, None),
        Channel::Team(team) => (NO_ROOM, Some(team)),
        Channel::User(_) | Channel::System => (NO_ROOM, None),
    };
    ChannelCallers { room, team, callers: callers.to_vec() }
}

impl ChannelConfirmation {
    /// The result of a reply about these callers.
    fn of(reply: ConfirmReply, callers: &[Caller]) -> Self {
        // An older api names people alone.
        let by_name = || callers.iter().filter(|caller| reply.out.contains(&caller.user)).cloned().collect();
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
