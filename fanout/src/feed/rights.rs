//! Asking api, once a minute and after each change, whether those who follow rooms and teams may still.

use std::collections::HashSet;

use shared::{
    id::RoomId,
    metric_names as names,
    rpc::{CONFIRM_MAX, ConfirmRequest, expiry},
    rules::Caller,
    subject::Channel,
};

use super::{Entry, Feed, work::Work};
use crate::{ask::Ask, hub::rights::Answered};

/// Channels of a shard that api is asked about in one second, where they are few; the others follow.
const CHANNELS: usize = if cfg!(test) { 2 } else { 500 };
/// Seconds within which all channels of a shard can be asked about, however many they are: with the 45 s between
/// two confirmations of a channel, well within the minute.
const SECONDS: usize = 10;

/// What api has confirmed.
pub(super) struct Confirmed {
    pub(super) out: HashSet<Caller>,
    pub(super) answered: Answered,
}

impl Feed {
    /// Asks about channels that are due: first those where a right may have ended, then the routine ones, the
    /// longest due first.
    pub(super) fn confirm_rights(&mut self, applied: u64) {
        for (channel, callers) in self.take_due(applied) {
            self.todo.push(Work::Confirm { channel, callers: callers.into_iter().collect() });
        }
    }

    /// The channels that api is asked about in this second, and who is there.
    fn take_due(&mut self, applied: u64) -> Vec<(Channel, HashSet<Caller>)> {
        let (mut due, mut confirmed, mut overdue) = (Vec::new(), 0_usize, 0_u32);
        for (channel, entry) in &self.entries {
            let (Channel::Room(_) | Channel::Team(_), Entry::Heard(hub)) = (channel, entry) else { continue };
            // An empty channel is not confirmed; it stays due until somebody follows it.
            if hub.is_empty() || !hub.rights.needs_confirming() {
                continue;
            }
            confirmed += 1;
            overdue += u32::from(hub.rights.is_overdue());
            due.extend(hub.rights.turn(applied).map(|turn| (turn, channel.clone())));
        }
        let shard = self.shard.to_string();
        metrics::gauge!(names::CONFIRMATIONS_OVERDUE, "shard" => shard).set(f64::from(overdue));
        due.sort_unstable_by_key(|(turn, _)| *turn);
        due.truncate(CHANNELS.max(confirmed / SECONDS));
        let mut asked = Vec::with_capacity(due.len());
        for (_, channel) in due {
            if let Some(hub) = self.hub(&channel)
                && hub.rights.ask(applied)
            {
                let callers = hub.callers();
                asked.push((channel, callers));
            }
        }
        asked
    }

    pub(super) fn confirmed(&mut self, channel: &Channel, result: Option<Confirmed>) {
        let Some(hub) = self.hub(channel) else { return };
        hub.rights.asked(result.as_ref().map(|confirmed| confirmed.answered));
        let Some(Confirmed { out, answered }) = result else { return };
        if !out.is_empty() {
            metrics::counter!(names::EVICTIONS_TOTAL, "cause" => "confirmation").increment(out.len() as u64);
            hub.evict(answered.as_of + 1, |caller| out.contains(caller));
        }
    }
}

/// Asks about all of a channel's people; `None` where api has not answered for all of them.
pub(super) async fn confirm(ask: &Ask, channel: &Channel, callers: Vec<Caller>) -> Option<Confirmed> {
    let (room, team) = match channel {
        Channel::Room(room) => (*room, None),
        // No room has that id: an api that knows nothing of teams refuses to answer.
        Channel::Team(team) => (RoomId(0), Some(*team)),
        Channel::User(_) | Channel::System => return None,
    };
    let mut all: Option<Confirmed> = None;
    for chunk in callers.chunks(CONFIRM_MAX) {
        let request = ConfirmRequest { room, team, callers: chunk.to_vec(), expires_at: expiry() };
        let confirmed = ask.confirm(&request).await.ok()?;
        let answered = Answered {
            public: confirmed.grant.public,
            closed: confirmed.closed,
            as_of: confirmed.grant.as_of,
        };
        let all = all.get_or_insert(Confirmed { out: HashSet::new(), answered });
        // An older api names people alone.
        let by_name =
            || chunk.iter().filter(|caller| confirmed.out.contains(&caller.user)).cloned().collect();
        all.out.extend(confirmed.callers_out.unwrap_or_else(by_name));
        all.answered.public &= answered.public;
        all.answered.closed &= answered.closed;
        all.answered.as_of = all.answered.as_of.min(answered.as_of);
    }
    all
}

#[cfg(test)]
mod tests {
    use shared::rpc::Grant;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        bench::caller,
        feed::bench::feed,
        hub::{channel::Hub, follower::Follower},
        render::Form,
        session::outbox::Outbox,
    };

    /// Somebody follows that room by a right that is not everyone's.
    fn open(feed: &mut Feed, room: u64) {
        let (channel, shard) = (Channel::Room(RoomId(room)), feed.shard.index());
        let mut hub = Hub::new(channel.clone(), shard, 5, 1, oneshot::channel().0, feed.metrics.clone());
        let grant = Grant { public: false, pair: false, as_of: 5, team: None, last_event: 0 };
        let follower = Follower {
            connection: room,
            frame: 1,
            caller: caller(room),
            outbox: std::sync::Arc::new(Outbox::new(1_000, Form::Native)),
            since: None,
            epoch: None,
            grant: Some(grant),
            answer: None,
            done: oneshot::channel().0,
        };
        hub.admit(follower, true);
        feed.entries.insert(channel, Entry::Heard(Box::new(hub)));
    }

    fn take(feed: &mut Feed, applied: u64) -> Vec<Channel> {
        feed.take_due(applied).into_iter().map(|(channel, _)| channel).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn every_channel_is_asked_about_in_time_however_many_there_are() {
        let (mut feed, _said) = feed().await;
        for room in 0..200 {
            open(&mut feed, room);
        }
        tokio::time::advance(std::time::Duration::from_secs(45)).await;
        let mut asked = HashSet::new();
        for _ in 0..SECONDS {
            asked.extend(take(&mut feed, 5));
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        assert_eq!(asked.len(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn narrowed_room_is_asked_about_before_those_of_the_minute() {
        let (mut feed, _said) = feed().await;
        for room in 0..20 {
            open(&mut feed, room);
        }
        tokio::time::advance(std::time::Duration::from_secs(45)).await;
        let narrowed = Channel::Room(RoomId(7));
        feed.hub(&narrowed).expect("open").rights.narrowed(6);
        assert!(!take(&mut feed, 5).contains(&narrowed), "not in Postgres yet");
        assert_eq!(take(&mut feed, 6)[0], narrowed);
    }
}
