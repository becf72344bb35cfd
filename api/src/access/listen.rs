//! Hearing of control events, on a connection of its own.

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

use super::Rights;

/// Between tries to learn where a shard's log ends.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a leader may take to say it; another may lead by then.
const ANSWER: Duration = Duration::from_secs(1);
/// Between looks at what Postgres has by now.
const FORGET: Duration = Duration::from_secs(1);

/// What changes who may do what.
const CONTROL: [(&str, EventName); 5] = [
    ("room", EventName::MemberAdd),
    ("room", EventName::MemberRemove),
    ("room", EventName::RoomUpdate),
    ("team", EventName::TeamMemberAdd),
    ("team", EventName::TeamMemberRemove),
];

/// Listens for as long as it is run.
///
/// # Errors
/// When the connection is gone for good.
pub(crate) async fn listen(rights: Arc<Rights>, connection: BrokerConnection) -> anyhow::Result<()> {
    let mut events = connection.events();
    let jetstream = connection.jetstream();
    let mut heard = subscribe(&connection).await?;
    rights.begin(true);
    let mut floors = tokio::time::interval(AGAIN);
    let mut forgetting = tokio::time::interval(FORGET);
    let mut asking = tokio::spawn(async {});
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                // What was subscribed stands again before anything asked for after this.
                Ok(NatsEvent::Connected | NatsEvent::SlowConsumer) | Err(RecvError::Lagged(_)) => {
                    rights.begin(true);
                    floors.reset_immediately();
                }
                Ok(NatsEvent::Disconnected) => rights.begin(false),
                Ok(NatsEvent::Closed) | Err(RecvError::Closed) => {
                    rights.begin(false);
                    anyhow::bail!("the connection to the broker is closed");
                }
            },
            message = heard.next() => match message {
                Some(message) => note(&rights, &message),
                None => anyhow::bail!("the connection to the broker is closed"),
            },
            _ = floors.tick() => if rights.wants_floors() && asking.is_finished() {
                // Asked beside: events are heard while the question is on its way.
                let (rights, jetstream) = (rights.clone(), jetstream.clone());
                asking = tokio::spawn(async move { rights.learn_floors(&jetstream).await });
            },
            _ = forgetting.tick() => rights.forget(),
        }
    }
}

async fn subscribe(connection: &BrokerConnection) -> anyhow::Result<SelectAll<Subscriber>> {
    let mut subscriptions = Vec::with_capacity(CONTROL.len());
    for (kind, event) in CONTROL {
        subscriptions
            .push(connection.client.subscribe(subject::live_filter_of_all_shards(kind, event)).await?);
    }
    Ok(select_all(subscriptions))
}

fn note(rights: &Rights, message: &Message) {
    // The broker adds its header behind what a sender may have set.
    let seq = message.headers.as_ref().and_then(|headers| headers.get_last(header::NATS_SEQUENCE));
    let seq = seq.and_then(|seq| seq.as_str().parse().ok());
    let (Some(seq), Ok(parsed)) = (seq, subject::parse(&message.subject)) else { return };
    let Some(name) = EventName::parse(parsed.event) else { return };
    match Event::decode(name, &message.payload) {
        Ok(event) => rights.decided(&parsed.channel, &event, seq),
        // The persister rejects such an event. Anybody may be who it names.
        Err(_) => rights.note(&parsed.channel, name, seq, PutOut::Anybody),
    }
}

/// The people whose membership a control event may have ended.
#[derive(Clone, Copy)]
enum PutOut<'a> {
    Nobody,
    One(&'a UserId),
    Anybody,
}

impl Rights {
    /// Hearing has had a break, or begins.
    fn begin(&self, connected: bool) {
        self.heard.begin(connected);
        self.kept.clear();
    }

    /// A control event is stored. Any other event changes nothing.
    pub(crate) fn decided(&self, channel: &Channel, event: &Event, seq: u64) {
        let put_out = match event {
            Event::MemberRemove(member) => PutOut::One(&member.user),
            Event::TeamMemberRemove(member) => PutOut::One(&member.user),
            _ => PutOut::Nobody,
        };
        self.note(channel, event.name(), seq, put_out);
    }

    /// Drops what a control event concerns: its room, or the rooms of its team, and the memberships that it may have
    /// ended.
    fn note(&self, channel: &Channel, event: EventName, seq: u64, put_out: PutOut<'_>) {
        if CONTROL.iter().all(|(_, control)| *control != event) {
            return;
        }
        let takes = !matches!(event, EventName::MemberAdd | EventName::TeamMemberAdd);
        self.heard.note(channel.clone(), seq, takes);
        match put_out {
            PutOut::Nobody => {}
            PutOut::One(user) => self.kept.remove_member(channel, user),
            PutOut::Anybody => self.kept.remove_members(channel),
        }
        match channel {
            Channel::Room(room) => self.kept.remove_room(*room),
            Channel::Team(team) => {
                for room in self.kept.rooms_of(*team) {
                    if takes {
                        self.heard.narrow(Channel::Room(room));
                    }
                    self.kept.remove_room(room);
                }
            }
            Channel::User(_) | Channel::System => {}
        }
    }

    fn wants_floors(&self) -> bool {
        self.heard.is_connected() && !self.hears()
    }

    /// Whether it is known where each shard's log ended when hearing began.
    pub(crate) fn hears(&self) -> bool {
        self.heard.open().is_empty()
    }

    /// Asks each shard's leader where its log ends: all at once, since one without a leader does not answer.
    async fn learn_floors(&self, jetstream: &async_nats::jetstream::Context) {
        let generation = self.heard.generation();
        let asked = self.heard.open().into_iter().map(async |shard| {
            match timeout(ANSWER, log::state(jetstream, shard)).await {
                Ok(Ok(state)) => self.heard.floor(generation, shard, state.last),
                Ok(Err(error)) => tracing::debug!(%shard, error = format!("{error:#}"), "where the log ends"),
                Err(_) => tracing::debug!(%shard, "where the log ends: no answer in time"),
            }
        });
        join_all(asked).await;
    }

    fn forget(&self) {
        self.heard.forget(|shard| self.applied.current(shard).map_or(0, |applied| applied.seq));
    }
}
