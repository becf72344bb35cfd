//! Asking api, once a minute and after each change, whether those who follow rooms and teams may still.

use std::{collections::HashSet, time::Duration};

use protocol::{
    caller::Caller,
    id::RoomId,
    rpc::{CONFIRM_CALLERS_MAX, ConfirmRequest, expiry},
    subject::Channel,
};
use service::metric_names as names;
use tokio::time::Instant;

use super::{Entry, Feed, work::Work};
use crate::{ask::Ask, hub::rights::Answered};

/// Channels of a shard that api is asked about in one second, where they are few; the others follow.
const CHANNELS: usize = if cfg!(test) { 2 } else { 500 };
/// Seconds within which all channels of a shard can be asked about, however many they are: with the 45 s between
/// two confirmations of a channel, well within the minute.
const SECONDS: usize = 10;
/// How long those who may not be there any more are kept for what was stored before: then they leave without it.
const UNHEARD: Duration = Duration::from_secs(10);

/// What api has confirmed.
#[derive(Debug)]
pub(super) struct Confirmed {
    pub(super) out: HashSet<Caller>,
    pub(super) answered: Answered,
    /// The last event of the channel that api has counted in: whoever is out is pushed everything up to it.
    pub(super) last_event: u64,
}

/// People who leave a channel once everything that api has counted in was pushed to them.
pub(super) struct Leaving {
    channel: Channel,
    confirmed: Confirmed,
    since: Instant,
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
        let Some(confirmed) = result.filter(|confirmed| !confirmed.out.is_empty()) else { return };
        // A newer answer names whom the older one has named.
        self.leaving.retain(|leaving| leaving.channel != *channel);
        self.leaving.push(Leaving { channel: channel.clone(), confirmed, since: Instant::now() });
        self.end_rights();
    }

    /// Ends the rights of those who were pushed everything up to where they ended. An answer of api may come
    /// before events that were stored earlier.
    pub(super) fn end_rights(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let (leaving, later) =
            std::mem::take(&mut self.leaving).into_iter().partition(|leaving: &Leaving| {
                leaving.since.elapsed() >= UNHEARD
                    || self.has_heard(&leaving.channel, leaving.confirmed.last_event)
            });
        self.leaving = later;
        for Leaving { channel, confirmed: Confirmed { out, answered, .. }, .. } in leaving {
            if let Some(hub) = self.hub(&channel) {
                metrics::counter!(names::EVICTIONS_TOTAL, "cause" => "confirmation")
                    .increment(out.len() as u64);
                hub.evict(answered.as_of + 1, |caller| out.contains(caller));
            }
        }
    }

    /// Looks in the log for what those who are to leave were not pushed within a second.
    pub(super) fn heal_leaving(&mut self) {
        self.end_rights();
        let unheard = self.leaving.iter().map(|leaving| leaving.confirmed.last_event).min();
        if let Some(unheard) = unheard.filter(|_| self.healing.is_none()) {
            self.heal_heard("leaving", Some(unheard.saturating_sub(1)));
        }
    }

    /// Whether everything of a channel up to an event of it was heard. Where it is an event of another channel
    /// that is known only once the shard was read up to it.
    fn has_heard(&self, channel: &Channel, seq: u64) -> bool {
        match self.entries.get(channel) {
            Some(Entry::Heard(hub)) => seq <= hub.began() || self.heard.has(seq),
            _ => true,
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
    for chunk in callers.chunks(CONFIRM_CALLERS_MAX) {
        let request = ConfirmRequest { room, team, callers: chunk.to_vec(), expires_at: expiry() };
        let confirmed = ask.confirm(&request).await.ok()?;
        let answered = Answered {
            public: confirmed.grant.public,
            closed: confirmed.closed,
            as_of: confirmed.grant.as_of,
        };
        let last_event = confirmed.grant.last_event;
        let all = all.get_or_insert(Confirmed { out: HashSet::new(), answered, last_event });
        // An older api names people alone.
        let by_name =
            || chunk.iter().filter(|caller| confirmed.out.contains(&caller.user)).cloned().collect();
        all.out.extend(confirmed.callers_out.unwrap_or_else(by_name));
        all.answered.public &= answered.public;
        all.answered.closed &= answered.closed;
        all.answered.as_of = all.answered.as_of.min(answered.as_of);
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
        feed::{bench::feed, heal::Healed},
        hub::{channel::Hub, follower::Follower},
        render::Form,
        session::outbox::Outbox,
    };

    /// Somebody follows that room by a right that is not everyone's.
    fn open(feed: &mut Feed, room: u64) {
        let (channel, shard) = (Channel::Room(RoomId(room)), feed.shard.index());
        let mut hub = Hub::new(channel.clone(), shard, 5, 1, oneshot::channel().0, feed.metrics.clone());
        let grant = AccessGrant { public: false, pair: false, as_of: 5, team: None, last_event: 0 };
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
        time::advance(Duration::from_secs(45)).await;
        let mut asked = HashSet::new();
        for _ in 0..SECONDS {
            asked.extend(take(&mut feed, 5));
            time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(asked.len(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn narrowed_room_is_asked_about_before_those_of_the_minute() {
        let (mut feed, _said) = feed().await;
        for room in 0..20 {
            open(&mut feed, room);
        }
        time::advance(Duration::from_secs(45)).await;
        let narrowed = Channel::Room(RoomId(7));
        feed.hub(&narrowed).expect("open").rights.narrowed(6);
        assert!(!take(&mut feed, 5).contains(&narrowed), "not in Postgres yet");
        assert_eq!(take(&mut feed, 6)[0], narrowed);
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_not_be_there_any_more_leaves_once_what_was_stored_before_is_pushed() {
        let (mut feed, _said) = feed().await;
        feed.position.begin(1, 5);
        feed.heard.begin_again(5);
        for room in 0..3 {
            open(&mut feed, room);
        }
        let channels = [0, 1, 2].map(|room| Channel::Room(RoomId(room)));
        for (channel, last_event) in channels.iter().zip([5, 7, 8]) {
            let out = feed.hub(channel).expect("open").callers();
            let answered = Answered { public: false, closed: true, as_of: 9 };
            feed.confirmed(channel, Some(Confirmed { out, answered, last_event }));
        }
        let is_empty = |feed: &mut Feed, n: usize| feed.hub(&channels[n]).is_none_or(|hub| hub.is_empty());
        assert!(is_empty(&mut feed, 0), "everything up to there was heard");
        assert!(!is_empty(&mut feed, 1) && !is_empty(&mut feed, 2));
        let (subject, payload) = (channels[1].unstored_subject(feed.source.shards, "chat-message"), "{}".into());
        let headers = async_nats::HeaderMap::new();
        let time = ::time::OffsetDateTime::UNIX_EPOCH;
        let stored = StoredEvent { shard: feed.shard, seq: 7, subject, headers, payload, time };
        feed.heal_leaving();
        assert!(matches!(feed.todo[..], [Work::Heal(_)]), "a second later it is looked for in the log");
        feed.healed(Healed::Events(vec![stored])).expect("a shard that is heard");
        assert!(is_empty(&mut feed, 1) && !is_empty(&mut feed, 2));
        time::advance(UNHEARD).await;
        feed.heal_leaving();
        assert!(is_empty(&mut feed, 2), "a log that does not answer keeps nobody");
    }
}
