//! Merges edits and deletions of messages, so that a batch writes them by two statements.
//!
//! What must hold: writing the edits and then the deletions, where neither changes a message that is deleted already,
//! leaves the same rows as all of them one after the other.

use std::collections::HashMap;

use protocol::event::{MessageDelete, MessageEdit};
use time::OffsetDateTime;

use crate::database::to_i64;

/// A message, by room and id.
type MessageKey = (i64, i64);

/// The edits and deletions of a batch: for each message the last edit before its deletion, and the first deletion.
#[derive(Debug, Default)]
pub(crate) struct MessageRevisions {
    edits: HashMap<MessageKey, Edit>,
    deletions: HashMap<MessageKey, Deletion>,
}

#[derive(Debug)]
struct Edit {
    seq: i64,
    body: String,
    edited_at: OffsetDateTime,
}

#[derive(Debug)]
struct Deletion {
    seq: i64,
    deleted_at: OffsetDateTime,
}

/// Columns of the edits.
#[derive(Debug, Default)]
pub(crate) struct EditColumns<'a> {
    pub(crate) rooms: Vec<i64>,
    pub(crate) ids: Vec<i64>,
    pub(crate) bodies: Vec<&'a str>,
    pub(crate) edited_at: Vec<OffsetDateTime>,
    pub(crate) changed: Vec<i64>,
}

/// Columns of the deletions.
#[derive(Debug, Default)]
pub(crate) struct DeletionColumns {
    pub(crate) rooms: Vec<i64>,
    pub(crate) ids: Vec<i64>,
    pub(crate) deleted_at: Vec<OffsetDateTime>,
    pub(crate) changed: Vec<i64>,
}

impl MessageRevisions {
    /// Adds an edit, which is event `seq`.
    pub(crate) fn edit(&mut self, seq: u64, edit: MessageEdit) {
        let key = (to_i64(edit.room.0), to_i64(edit.message_id.0));
        if !self.deletions.contains_key(&key) {
            let edited_at = edit.edited_at.into();
            self.edits.insert(key, Edit { seq: to_i64(seq), body: edit.message, edited_at });
        }
    }

    /// Adds a deletion, which is event `seq`.
    pub(crate) fn delete(&mut self, seq: u64, delete: &MessageDelete) {
        for id in &delete.messages_ids {
            let deletion = Deletion { seq: to_i64(seq), deleted_at: delete.deleted_at.into() };
            self.deletions.entry((to_i64(delete.room.0), to_i64(id.0))).or_insert(deletion);
        }
    }

    /// Room and id of every changed message; some occur twice.
    pub(crate) fn message_keys(&self) -> impl Iterator<Item = (i64, i64)> {
        self.edits.keys().chain(self.deletions.keys()).copied()
    }

    pub(crate) fn edits(&self) -> EditColumns<'_> {
        let mut edits = EditColumns::default();
        for ((room, id), edit) in &self.edits {
            edits.rooms.push(*room);
            edits.ids.push(*id);
            edits.bodies.push(&edit.body);
            edits.edited_at.push(edit.edited_at);
            edits.changed.push(edit.seq);
        }
        edits
    }

    pub(crate) fn deletions(&self) -> DeletionColumns {
        let mut deletions = DeletionColumns::default();
        for ((room, id), deletion) in &self.deletions {
            deletions.rooms.push(*room);
            deletions.ids.push(*id);
            deletions.deleted_at.push(deletion.deleted_at);
            deletions.changed.push(deletion.seq);
        }
        deletions
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::{
        clock::Timestamp,
        id::{MessageId, RoomId, UserId},
    };

    use super::*;

    /// A row as far as revisions change it: text, whether it is deleted, last change.
    type Row = (String, bool, i64);

    fn user() -> UserId {
        "7".parse().expect("an id")
    }

    proptest! {
        #[test]
        fn merged_revisions_leave_the_same_messages_as_single_ones(
            events in prop::collection::vec((1_u64..4, any::<bool>()), 0..20),
        ) {
            let key = |id: u64| (1, to_i64(id));
            let mut one_by_one: HashMap<MessageKey, Row> =
                (1..4).map(|id| (key(id), ("first".to_owned(), id == 3, 0))).collect();
            let mut merged = one_by_one.clone();
            let mut revisions = MessageRevisions::default();
            let (room, now) = (RoomId(1), Timestamp::now());
            for (seq, (id, is_edit)) in (10_u64..).zip(events) {
                let row = one_by_one.get_mut(&key(id)).expect("a message");
                let text = if is_edit { format!("text {seq}") } else { String::new() };
                if !row.1 {
                    *row = (text.clone(), !is_edit, to_i64(seq));
                }
                if is_edit {
                    let message_id = MessageId(id);
                    revisions.edit(seq, MessageEdit { message_id, message: text, room, user: user(), edited_at: now });
                } else {
                    let messages_ids = vec![MessageId(id)];
                    revisions.delete(seq, &MessageDelete { messages_ids, room, user: user(), deleted_at: now });
                }
            }
            let edits = revisions.edits();
            for (n, id) in edits.ids.into_iter().enumerate() {
                let row = merged.get_mut(&(1, id)).expect("a message");
                if !row.1 {
                    *row = (edits.bodies[n].to_owned(), false, edits.changed[n]);
                }
            }
            let deletions = revisions.deletions();
            for (n, id) in deletions.ids.into_iter().enumerate() {
                let row = merged.get_mut(&(1, id)).expect("a message");
                if !row.1 {
                    *row = (String::new(), true, deletions.changed[n]);
                }
            }
            prop_assert_eq!(merged, one_by_one);
        }
    }
}
