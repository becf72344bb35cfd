//! Receives control events on a connection of its own, and invalidates cached access.

use std::{sync::Arc, time::Duration};

use async_nats::{Message, Subscriber, header};
use futures_util::{
    StreamExt as _,
    future::join_all,
    stream::{SelectAll, select_all},
};
use protocol::{
    event::{Event, EventName},
    id::UserId,
    subject::{self, Channel},
};
use service::nats::{BrokerConnection, NatsEvent};
use tokio::{sync::broadcast::error::RecvError, time::timeout};

use super::AccessCache;

/// Interval between rounds of asking shard leaders where their logs end.
const MIN_SEQ_RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum time for a leader's answer; after that another server may lead.
const LEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval between removals of events that Postgres has applied.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);

/// The events that change who may do what, by kind of channel.
const CONTROL_EVENTS: [(&str, EventName); 5] = [
    ("room", EventName::MemberAdd),
    ("room", EventName::MemberRemove),
    ("room", EventName::RoomUpdate),
    ("team", EventName::TeamMemberAdd),
    ("team", EventName::TeamMemberRemove),
];

/// Receives control events until the connection is closed for good, which is an error.
pub(crate) async fn listen(rights: Arc<AccessCache>, connection: BrokerConnection) -> anyhow::Result<()> {
    let mut events = connection.events();
    let jetstream = connection.jetstream();
    let mut messages = subscribe(&connection).await?;
    rights.restart(true);
    let mut min_seq_retry = tokio::time::interval(MIN_SEQ_RETRY_INTERVAL);
    let mut forgetting = tokio::time::interval(FORGET_INTERVAL);
    let mut asking = tokio::spawn(async {});
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                // The client library has subscribed again before anything that is asked after this.
                Ok(NatsEvent::Connected | NatsEvent::SlowConsumer) | Err(RecvError::Lagged(_)) => {
                    rights.restart(true);
                    min_seq_retry.reset_immediately();
                }
                Ok(NatsEvent::Disconnected) => rights.restart(false),
                Ok(NatsEvent::Closed) | Err(RecvError::Closed) => {
                    rights.restart(false);
                    anyhow::bail!("the connection to the broker is closed");
                }
            },
            message = messages.next() => match message {
                Some(message) => handle_message(&rights, &message),
                None => anyhow::bail!("the connection to the broker is closed"),
            },
            _ = min_seq_retry.tick() => if rights.lacks_min_seqs() && asking.is_finished() {
                // In a task of its own, so that events are received meanwhile.
                let (rights, jetstream) = (rights.clone(), jetstream.clone());
                asking = tokio::spawn(async move { rights.ask_min_seqs(&jetstream).await });
            },
            _ = forgetting.tick() => rights.forget_applied(),
        }
    }
}

async fn subscribe(connection: &BrokerConnection) -> anyhow::Result<SelectAll<Subscriber>> {
    let mut subscriptions = Vec::with_capacity(CONTROL_EVENTS.len());
    for (kind, event) in CONTROL_EVENTS {
        subscriptions
            .push(connection.client.subscribe(subject::live_filter_of_all_shards(kind, event)).await?);
    }
    Ok(select_all(subscriptions))
}

fn handle_message(rights: &AccessCache, message: &Message) {
    // The broker adds its header after headers of the same name that a sender has set.
    let seq = message.headers.as_ref().and_then(|headers| headers.get_last(header::NATS_SEQUENCE));
    let seq = seq.and_then(|seq| seq.as_str().parse().ok());
    let (Some(seq), Ok(parsed)) = (seq, subject::parse(&message.subject)) else { return };
    let Some(name) = EventName::parse(parsed.event) else { return };
    match Event::decode(name, &message.payload) {
        Ok(event) => rights.note_control_event(&parsed.channel, &event, seq),
        // The persister rejects such an event. It may have named anybody.
        Err(_) => rights.apply_control_event(&parsed.channel, name, seq, RemovedMembers::Everybody),
    }
}

/// The people whose membership a control event may have ended.
#[derive(Clone, Copy)]
enum RemovedMembers<'a> {
    Nobody,
    One(&'a UserId),
    Everybody,
}

impl AccessCache {
    /// Starts over because the subscription begins (`connected`), or was interrupted.
    fn restart(&self, connected: bool) {
        self.invalidations.restart(connected);
        self.entries.clear();
    }

    /// Applies a stored control event; ignores any other event.
    pub(crate) fn note_control_event(&self, channel: &Channel, event: &Event, seq: u64) {
        let removed = match event {
            Event::MemberRemove(member) => RemovedMembers::One(&member.user),
            Event::TeamMemberRemove(member) => RemovedMembers::One(&member.user),
            _ => RemovedMembers::Nobody,
        };
        self.apply_control_event(channel, event.name(), seq, removed);
    }

    /// Removes from the cache what a control event concerns: its room, or the rooms of its team, and the memberships
    /// that it may have ended.
    fn apply_control_event(
        &self,
        channel: &Channel,
        event: EventName,
        seq: u64,
        removed: RemovedMembers<'_>,
    ) {
        if CONTROL_EVENTS.iter().all(|(_, control)| *control != event) {
            return;
        }
        let revokes = !matches!(event, EventName::MemberAdd | EventName::TeamMemberAdd);
        self.invalidations.note(channel.clone(), seq, revokes);
        match removed {
            RemovedMembers::Nobody => {}
            RemovedMembers::One(user) => self.entries.remove_member(channel, user),
            RemovedMembers::Everybody => self.entries.remove_members(channel),
        }
        match channel {
            Channel::Room(room) => self.entries.remove_room(*room),
            Channel::Team(team) => {
                for room in self.entries.rooms_of_team(*team) {
                    if revokes {
                        self.invalidations.note_revocation(Channel::Room(room));
                    }
                    self.entries.remove_room(room);
                }
            }
            Channel::User(_) | Channel::System => {}
        }
    }

    fn lacks_min_seqs(&self) -> bool {
        self.invalidations.is_connected() && !self.knows_log_ends()
    }

    /// Returns whether this node knows where each shard's log ended when the subscription began.
    pub(crate) fn knows_log_ends(&self) -> bool {
        self.invalidations.shards_without_min_seq().is_empty()
    }

    /// Asks the leader of each shard where its log ends; all at once, since a shard without a leader does not answer.
    async fn ask_min_seqs(&self, jetstream: &async_nats::jetstream::Context) {
        let generation = self.invalidations.generation();
        let reads =
            self.invalidations.shards_without_min_seq().into_iter().map(async |shard| {
                match timeout(LEADER_TIMEOUT, log::state(jetstream, shard)).await {
                    Ok(Ok(state)) => self.invalidations.set_min_seq(generation, shard, state.last),
                    Ok(Err(error)) => {
                        tracing::debug!(%shard, error = format!("{error:#}"), "log end unknown");
                    }
                    Err(_) => tracing::debug!(%shard, "no log end in time; asking again"),
                }
            });
        join_all(reads).await;
    }

    fn forget_applied(&self) {
        self.invalidations
            .forget_applied(|shard| self.applied.current(shard).map_or(0, |applied| applied.seq));
    }
}
