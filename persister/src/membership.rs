//! Additions and removals of members, folded so that a batch writes them by two statements.
//!
//! What must hold: removing `removed()` and then adding `added()`, where an addition of somebody who is a
//! member changes nothing, leaves the same rows as all changes one after the other.

use std::collections::{HashMap, hash_map::Entry};

use protocol::id::UserId;

use crate::watermark::number;

/// The membership changes of a batch, by room or team.
#[derive(Debug, Default)]
pub(crate) struct Membership(HashMap<(i64, String), Change>);

/// The last change of one person's membership.
#[derive(Debug)]
enum Change {
    Removed,
    Added {
        by: String,
        /// They were removed earlier in the batch: who added them before does not count any more.
        after_removal: bool,
    },
}

/// The columns of members to add.
#[derive(Debug, Default)]
pub(crate) struct Added<'a> {
    pub(crate) places: Vec<i64>,
    pub(crate) users: Vec<&'a str>,
    pub(crate) by: Vec<&'a str>,
}

/// The columns of members to remove.
#[derive(Debug, Default)]
pub(crate) struct Removed<'a> {
    pub(crate) places: Vec<i64>,
    pub(crate) users: Vec<&'a str>,
}

impl Membership {
    /// Adds a person. Of several additions the first one counts.
    pub(crate) fn add(&mut self, place: u64, user: &UserId, by: &UserId) {
        match self.0.entry((number(place), user.to_string())) {
            Entry::Vacant(vacant) => {
                vacant.insert(Change::Added { by: by.to_string(), after_removal: false });
            }
            Entry::Occupied(mut occupied) => {
                if matches!(occupied.get(), Change::Removed) {
                    occupied.insert(Change::Added { by: by.to_string(), after_removal: true });
                }
            }
        }
    }

    /// Removes a person.
    pub(crate) fn remove(&mut self, place: u64, user: &UserId) {
        self.0.insert((number(place), user.to_string()), Change::Removed);
    }

    /// Whose rows are removed.
    pub(crate) fn removed(&self) -> Removed<'_> {
        let mut removed = Removed::default();
        for ((place, user), change) in &self.0 {
            if matches!(change, Change::Removed | Change::Added { after_removal: true, .. }) {
                removed.places.push(*place);
                removed.users.push(user);
            }
        }
        removed
    }

    /// Whose rows are added, after the removals.
    pub(crate) fn added(&self) -> Added<'_> {
        let mut added = Added::default();
        for ((place, user), change) in &self.0 {
            if let Change::Added { by, .. } = change {
                added.places.push(*place);
                added.users.push(user);
                added.by.push(by);
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
        fn folded_changes_leave_the_same_members_as_single_ones(
            before in prop::collection::vec((0_u64..3, 0_u8..3), 0..6),
            changes in prop::collection::vec((0_u64..3, 0_u8..3, prop::option::of(0_u8..9)), 0..30),
        ) {
            let key = |place: u64, who: u8| (number(place), user(who).to_string());
            let mut one_by_one: Rows =
                before.into_iter().map(|(place, who)| (key(place, who), "before".to_owned())).collect();
            let mut folded = one_by_one.clone();
            let mut membership = Membership::default();
            for (place, who, added_by) in changes {
                if let Some(by) = added_by {
                    one_by_one.entry(key(place, who)).or_insert_with(|| user(by).to_string());
                    membership.add(place, &user(who), &user(by));
                } else {
                    one_by_one.remove(&key(place, who));
                    membership.remove(place, &user(who));
                }
            }
            let Removed { places, users } = membership.removed();
            for (place, user) in places.into_iter().zip(users) {
                folded.remove(&(place, user.to_owned()));
            }
            let Added { places, users, by } = membership.added();
            for ((place, user), by) in places.into_iter().zip(users).zip(by) {
                folded.entry((place, user.to_owned())).or_insert_with(|| by.to_owned());
            }
            prop_assert_eq!(folded, one_by_one);
        }
    }
}
