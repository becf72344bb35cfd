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

/// Channels of a shard that are asked about in one second; the others follow in the next.
const CHANNELS: usize = 500;

/// What api has confirmed.
pub(super) struct Confirmed {
    pub(super) out: HashSet<Caller>,
    pub(super) answered: Answered,
}

impl Feed {
    /// Asks for each channel that is due.
    pub(super) fn confirm_rights(&mut self, applied: u64) {
        let due = self.entries.iter_mut().filter_map(|(channel, entry)| match (channel, entry) {
            (Channel::Room(_) | Channel::Team(_), Entry::Heard(hub)) => {
                // Where nobody is there is nobody to ask about: it stays due for whoever comes.
                let asks = !hub.is_empty() && hub.rights.ask(applied);
                asks.then(|| (channel.clone(), hub.callers()))
            }
            _ => None,
        });
        for (channel, callers) in due.take(CHANNELS) {
            self.todo.push(Work::Confirm { channel, callers: callers.into_iter().collect() });
        }
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
