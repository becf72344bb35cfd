//! Merges joins and leaves into the participants of a room, and pushes changes that were not pushed by name.

use protocol::event::{header, live};

use super::{AboutPerson, ChannelState};
use crate::{
    encode::{event::LiveEvent, native},
    shard::snapshot::SnapshotEntry,
};

impl ChannelState {
    /// Merges a join or leave that a process has stored. True if it changes who is present, and has to be pushed.
    pub(super) fn apply_presence(&mut self, event: LiveEvent<'_>, is_present: bool) -> bool {
        let number = |name| event.headers?.get_last(name)?.as_str().parse::<u64>().ok();
        let about = serde_json::from_slice::<AboutPerson>(event.payload).ok();
        match (about, number(header::INCARNATION), number(header::COUNTER)) {
            (Some(about), Some(incarnation), Some(counter)) => {
                self.presence.apply(&about.user, incarnation, counter, is_present)
            }
            _ => false,
        }
    }

    /// Merges who was in the room up to an event. Returns up to which event to read again, if the read failed or is too
    /// old. Ignores a result from before the channel began: it was closed and opened again meanwhile, and asks for
    /// itself.
    pub(in crate::shard) fn merge_snapshot(
        &mut self,
        upto: u64,
        result: anyhow::Result<Vec<SnapshotEntry>>,
    ) -> Option<u64> {
        if upto < self.start_seq {
            return None;
        }
        let needed = self.start_seq.max(self.presence.leaves_forgotten_up_to());
        match result {
            Ok(entries) if upto >= needed => {
                for SnapshotEntry { user, incarnation, counter, is_present } in entries {
                    self.presence.apply(&user, incarnation, counter, is_present);
                }
                self.presence.mark_complete(!self.subscribers.is_empty());
                None
            }
            Ok(_) => Some(needed),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(channel = %self.channel, error, "the participants of a room could not be read, trying again");
                Some(needed)
            }
        }
    }

    /// Pushes how many people have come and gone in a room with too many to be named, and who is in a room whose
    /// subscribers were answered that this is not known. To be called once a second.
    pub(in crate::shard) fn push_presence(&mut self) {
        self.presence.forget_old_leaves(self.last_seq);
        let Some(push) = self.presence.take_push() else { return };
        let is_list = push.participants.is_some();
        let data = serde_json::to_vec(&push).unwrap_or_default();
        let frame = native::unstored_push_frame(&self.channel, live::PRESENCE, &data);
        if is_list {
            self.push_state(&frame);
        } else {
            self.push_unstored(&frame);
        }
    }
}
