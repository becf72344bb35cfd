//! Evicts the people whose right to a channel has ended by an answer of api, once they were pushed everything from
//! before that. An answer may arrive before events that were stored earlier.

use std::time::Duration;

use protocol::subject::Channel;
use service::metric_names as names;
use tokio::time::Instant;

use super::{channels::Channels, confirm::ChannelConfirmation};

/// How long an eviction waits for events that were stored before it. Then these people leave without the events.
const EVICTION_DELAY_MAX: Duration = Duration::from_secs(10);

/// People to evict from one channel.
struct PendingEviction {
    channel: Channel,
    confirmation: ChannelConfirmation,
    confirmed_at: Instant,
}

/// The evictions of a shard that wait for earlier events.
#[derive(Default)]
pub(super) struct PendingEvictions(Vec<PendingEviction>);

impl PendingEvictions {
    /// Replaces older answers about a channel by the newest one: it decides who leaves. Those whom an older one named
    /// as well go on waiting since then.
    pub(super) fn replace(&mut self, channel: &Channel, mut newest: ChannelConfirmation) {
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

    /// Evicts the people who were pushed everything up to the end of their right, or have waited for
    /// [`EVICTION_DELAY_MAX`].
    pub(super) fn apply_due(&mut self, channels: &mut Channels) {
        if self.0.is_empty() {
            return;
        }
        for PendingEviction { channel, confirmation, .. } in self.take_due(channels) {
            if let Some(channel_state) = channels.get_mut(&channel) {
                metrics::counter!(names::EVICTIONS_TOTAL, "cause" => "confirmation")
                    .increment(confirmation.revoked.len() as u64);
                channel_state
                    .evict(confirmation.access.as_of + 1, |caller| confirmation.revoked.contains(caller));
            }
        }
    }

    fn take_due(&mut self, channels: &Channels) -> Vec<PendingEviction> {
        let is_due = |pending: &mut PendingEviction| {
            pending.confirmed_at.elapsed() >= EVICTION_DELAY_MAX
                || channels.has_received_up_to(&pending.channel, pending.confirmation.last_event)
        };
        self.0.extract_if(.., is_due).collect()
    }

    /// The first event that one of them waits for.
    pub(super) fn first_missing_seq(&self) -> Option<u64> {
        self.0.iter().map(|pending| pending.confirmation.last_event).min()
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests;
