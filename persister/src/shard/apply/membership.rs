//! Merges additions and removals of members, so that a batch writes them by two statements.
//!
//! What must hold: removing `removed()` and then adding `added()`, where adding a member again changes nothing, leaves
//! the same rows as all changes one after the other.

use std::collections::{HashMap, hash_map::Entry};

use protocol::id::UserId;

use crate::database::to_i64;

/// The membership changes of a batch, by room or team and by person.
#[derive(Debug, Default)]
pub(crate) struct MembershipChanges(HashMap<(i64, String), MembershipChange>);

/// The last change of one person's membership.
#[derive(Debug)]
enum MembershipChange {
    Removed,
    Added {
        added_by: String,
        /// They were removed earlier in the batch, so an existing row is deleted first.
        is_after_removal: bool,
    },
}

/// Columns of the members to add.
#[derive(Debug, Default)]
pub(crate) struct AddedMembers<'a> {
    pub(crate) owner_ids: Vec<i64>,
    pub(crate) users: Vec<&'a str>,
    pub(crate) added_by: Vec<&'a str>,
}

/// Columns of the members to remove.
#[derive(Debug, Default)]
pub(crate) struct RemovedMembers<'a> {
    pub(crate) owner_ids: Vec<i64>,
    pub(crate) users: Vec<&'a str>,
}

impl MembershipChanges {
    /// Adds a person. Of several additions the first one counts.
    pub(crate) fn add(&mut self, owner_id: u64, user: &UserId, added_by: &UserId) {
        match self.0.entry((to_i64(owner_id), user.to_string())) {
            Entry::Vacant(vacant) => {
                vacant.insert(MembershipChange::Added {
                    added_by: added_by.to_string(),
                    is_after_removal: false,
                });
            }
            Entry::Occupied(mut occupied) => {
                if matches!(occupied.get(), MembershipChange::Removed) {
                    occupied.insert(MembershipChange::Added {
                        added_by: added_by.to_string(),
                        is_after_removal: true,
                    });
                }
            }
        }
    }

    /// Removes a person.
    pub(crate) fn remove(&mut self, owner_id: u64, user: &UserId) {
        self.0.insert((to_i64(owner_id), user.to_string()), MembershipChange::Removed);
    }

    /// The members whose rows are deleted.
    pub(crate) fn removed(&self) -> RemovedMembers<'_> {
        let mut removed = RemovedMembers::default();
        for ((owner_id, user), change) in &self.0 {
            if matches!(
                change,
                MembershipChange::Removed | MembershipChange::Added { is_after_removal: true, .. }
            ) {
                removed.owner_ids.push(*owner_id);
                removed.users.push(user);
            }
        }
        removed
    }

    /// The members whose rows are inserted, after the deletions.
    pub(crate) fn added(&self) -> AddedMembers<'_> {
        let mut added = AddedMembers::default();
        for ((owner_id, user), change) in &self.0 {
            if let MembershipChange::Added { added_by, .. } = change {
                added.owner_ids.push(*owner_id);
                added.users.push(user);
                added.added_by.push(added_by);
            }
        }
        added
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Rows = HashMap<(i64, String), String>;

    fn user(n: u8) -> UserId {
        format!("u{n}").parse().expect("an id")
    }

    proptest! {
        #[test]
        fn merged_changes_leave_the_same_members_as_single_ones(
            before in prop::collection::vec((0_u64..3, 0_u8..3), 0..6),
            changes in prop::collection::vec((0_u64..3, 0_u8..3, prop::option::of(0_u8..9)), 0..30),
        ) {
            let key = |owner_id: u64, person: u8| (to_i64(owner_id), user(person).to_string());
            let mut one_by_one: Rows =
                before.into_iter().map(|(id, person)| (key(id, person), "before".to_owned())).collect();
            let mut merged = one_by_one.clone();
            let mut membership = MembershipChanges::default();
            for (owner_id, person, added_by) in changes {
                if let Some(adder) = added_by {
                    one_by_one.entry(key(owner_id, person)).or_insert_with(|| user(adder).to_string());
                    membership.add(owner_id, &user(person), &user(adder));
                } else {
                    one_by_one.remove(&key(owner_id, person));
                    membership.remove(owner_id, &user(person));
                }
            }
            let RemovedMembers { owner_ids, users } = membership.removed();
            for (owner_id, user) in owner_ids.into_iter().zip(users) {
                merged.remove(&(owner_id, user.to_owned()));
            }
            let AddedMembers { owner_ids, users, added_by } = membership.added();
            for ((owner_id, user), adder) in owner_ids.into_iter().zip(users).zip(added_by) {
                merged.entry((owner_id, user.to_owned())).or_insert_with(|| adder.to_owned());
            }
            prop_assert_eq!(merged, one_by_one);
        }
    }
}
