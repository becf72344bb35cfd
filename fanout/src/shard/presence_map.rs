//! Merges the log's joins and leaves of a room into who is present: clients see one join and one leave for a person,
//! however many sockets, tabs and nodes they have.
//!
//! Each process with sockets appends joins and leaves of its own people, under its incarnation and a counter that only
//! rises. What must hold: the change with the highest counter counts, in whatever order changes arrive. So a snapshot
//! and the events after it may be merged in either order.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use protocol::{id::UserId, socket::push::PresencePush};
use tokio::time::Instant;

/// Number of people above which they are counted, not named.
const NAMED_MAX: usize = 1_000;
/// Number of people below which they are named again.
const NAMED_AGAIN_BELOW: usize = 800;
/// How long a complete map remembers a leave, so that an older join that comes later does not undo it.
const LEAVE_KEPT_FOR: Duration = Duration::from_secs(60);
/// Maximum leaves that a map remembers while it is not complete.
const LEAVES_MAX: usize = 10_000;

struct ProcessEntry {
    incarnation: u64,
    counter: u64,
    is_present: bool,
    received_at: Instant,
}

/// The people of one room.
#[derive(Default)]
pub(crate) struct PresenceMap {
    entries: HashMap<UserId, Vec<ProcessEntry>>,
    present: BTreeSet<UserId>,
    /// It has everyone who was present when the channel was opened.
    is_complete: bool,
    /// Leaves up to this event may be forgotten: the snapshot that completes the map has to reach up to there.
    leaves_forgotten_up_to: u64,
    is_crowd: bool,
    /// Number of joins and leaves that were not announced by name since the last push of counts.
    unannounced_joins: u64,
    unannounced_leaves: u64,
    /// Subscribers do not know who is present, and are to be pushed the whole list.
    is_list_due: bool,
    /// The last answer about who is present, while nothing changes.
    cached_answer: Option<Arc<str>>,
}

impl PresenceMap {
    /// Merges a change of a process. True if it changes who is present, and has to be pushed by name.
    pub(crate) fn apply(&mut self, user: &UserId, incarnation: u64, counter: u64, is_present: bool) -> bool {
        let entries_of_user = self.entries.entry(user.clone()).or_default();
        let received_at = Instant::now();
        match entries_of_user.iter_mut().find(|entry| entry.incarnation == incarnation) {
            Some(entry) if counter <= entry.counter => return false,
            Some(entry) => *entry = ProcessEntry { incarnation, counter, is_present, received_at },
            None => {
                entries_of_user.push(ProcessEntry { incarnation, counter, is_present, received_at });
            }
        }
        let is_present = entries_of_user.iter().any(|entry| entry.is_present);
        let changed = if is_present { self.present.insert(user.clone()) } else { self.present.remove(user) };
        if !changed {
            return false;
        }
        self.cached_answer = None;
        let count = self.present.len();
        let was_crowd = self.is_crowd;
        self.is_crowd = if was_crowd { count >= NAMED_AGAIN_BELOW } else { count > NAMED_MAX };
        self.is_list_due |= was_crowd && !self.is_crowd;
        if self.is_crowd {
            *(if is_present { &mut self.unannounced_joins } else { &mut self.unannounced_leaves }) += 1;
        }
        !self.is_crowd
    }

    /// Notes that the snapshot of those who were present at the beginning was merged. `has_subscribers`: some may have
    /// been answered that it is not known who is present.
    pub(crate) fn mark_complete(&mut self, has_subscribers: bool) {
        self.is_list_due |= has_subscribers && !self.is_complete;
        self.is_complete = true;
        self.cached_answer = None;
        (self.unannounced_joins, self.unannounced_leaves) = (0, 0);
    }

    /// The fields that answer who is present: `"participants":…,"count":…`.
    pub(crate) fn participants_json(&mut self) -> Arc<str> {
        let (is_complete, is_crowd) = (self.is_complete, self.is_crowd);
        let present = &self.present;
        self.cached_answer
            .get_or_insert_with(|| {
                let names = if is_complete && !is_crowd {
                    serde_json::to_string(present).unwrap_or_else(|_| "null".to_owned())
                } else {
                    "null".to_owned()
                };
                let count = if is_complete { present.len().to_string() } else { "null".to_owned() };
                format!(r#""participants":{names},"count":{count}"#).into()
            })
            .clone()
    }

    /// The push to subscribers beside joins and leaves by name, at most once a second. `None` while it is not known who
    /// is present, and if nothing has changed since the last push.
    pub(crate) fn take_push(&mut self) -> Option<PresencePush<'_>> {
        if !self.is_complete {
            return None;
        }
        let joined = std::mem::take(&mut self.unannounced_joins);
        let left = std::mem::take(&mut self.unannounced_leaves);
        let is_list_due = std::mem::take(&mut self.is_list_due);
        let participants = (is_list_due && !self.is_crowd).then_some(&self.present);
        (joined + left > 0 || is_list_due).then_some(PresencePush {
            count: self.present.len(),
            joined,
            left,
            participants,
        })
    }

    /// The event up to which a snapshot has to reach, at least, to complete the map.
    pub(crate) const fn leaves_forgotten_up_to(&self) -> u64 {
        self.leaves_forgotten_up_to
    }

    /// Forgets old leaves; `last` is the room's last event. Until everyone who was present at the beginning has been
    /// merged, none is forgotten: however long that takes, a join from before a leave may arrive after it. If there are
    /// too many, all are forgotten, and the snapshot has to contain them.
    pub(crate) fn forget_old_leaves(&mut self, last: u64) {
        if !self.is_complete {
            let leaves = self.entries.values().flatten().filter(|entry| !entry.is_present).count();
            if leaves > LEAVES_MAX {
                self.forget_all_leaves(last);
            }
            return;
        }
        self.entries.retain(|_, entries_of_user| {
            entries_of_user.retain(|entry| entry.is_present || entry.received_at.elapsed() < LEAVE_KEPT_FOR);
            !entries_of_user.is_empty()
        });
    }

    fn forget_all_leaves(&mut self, last: u64) {
        self.entries.retain(|_, entries_of_user| {
            entries_of_user.retain(|entry| entry.is_present);
            !entries_of_user.is_empty()
        });
        self.leaves_forgotten_up_to = last;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(n: usize) -> UserId {
        format!("u{n}").parse().expect("an id")
    }

    #[test]
    fn person_on_two_nodes_is_present_until_both_leave() {
        let mut presence_map = PresenceMap::default();
        presence_map.mark_complete(false);
        assert!(presence_map.apply(&user(1), 10, 1, true));
        assert!(!presence_map.apply(&user(1), 20, 1, true), "already present");
        assert!(!presence_map.apply(&user(1), 10, 2, false), "one node is left");
        assert!(!presence_map.apply(&user(1), 20, 1, false), "the counter has not risen");
        assert!(presence_map.apply(&user(1), 20, 2, false));
        assert_eq!(&*presence_map.participants_json(), r#""participants":[],"count":0"#);
    }

    #[test]
    fn participants_are_counted_until_they_are_few_again() {
        let mut presence_map = PresenceMap::default();
        presence_map.mark_complete(false);
        let announced = (0..=NAMED_MAX).filter(|n| presence_map.apply(&user(*n), 1, 1, true)).count();
        assert_eq!(announced, NAMED_MAX);
        assert_eq!(&*presence_map.participants_json(), r#""participants":null,"count":1001"#);
        assert_eq!(
            presence_map.take_push(),
            Some(PresencePush { count: NAMED_MAX + 1, joined: 1, left: 0, participants: None })
        );
        assert_eq!(presence_map.take_push(), None);
        let left = NAMED_MAX + 1 - NAMED_AGAIN_BELOW;
        assert!((0..left).all(|n| !presence_map.apply(&user(n), 1, 2, false)), "still counted");
        assert!(presence_map.apply(&user(left), 1, 2, false), "named again");
        let untold = u64::try_from(left).expect("small");
        let push = presence_map.take_push().expect("the names are known again");
        assert_eq!((push.count, push.joined, push.left), (NAMED_AGAIN_BELOW - 1, 0, untold));
        assert_eq!(push.participants.map(BTreeSet::len), Some(NAMED_AGAIN_BELOW - 1));
        assert_eq!(presence_map.take_push(), None);
    }

    #[test]
    fn late_snapshot_is_pushed_to_subscribers_that_were_admitted_before() {
        let mut presence_map = PresenceMap::default();
        assert!(presence_map.apply(&user(1), 10, 1, true), "a join is announced by name");
        assert_eq!(presence_map.take_push(), None, "it is not known who else is present");
        presence_map.apply(&user(2), 20, 1, true);
        presence_map.mark_complete(true);
        let everyone = BTreeSet::from([user(1), user(2)]);
        let push = PresencePush { count: 2, joined: 0, left: 0, participants: Some(&everyone) };
        assert_eq!(presence_map.take_push(), Some(push));
        presence_map.mark_complete(true);
        assert_eq!(presence_map.take_push(), None, "they know it already");
    }

    #[tokio::test(start_paused = true)]
    async fn leave_received_long_before_an_older_snapshot_is_kept() {
        let mut presence_map = PresenceMap::default();
        assert!(!presence_map.apply(&user(1), 10, 2, false), "nobody was known to be here");
        tokio::time::advance(LEAVE_KEPT_FOR * 60).await;
        presence_map.forget_old_leaves(2);
        assert!(!presence_map.apply(&user(1), 10, 1, true), "the join of before");
        presence_map.mark_complete(false);
        assert_eq!(&*presence_map.participants_json(), r#""participants":[],"count":0"#);
        presence_map.forget_old_leaves(2);
        assert!(presence_map.entries.is_empty(), "it is complete: nothing older comes");
    }

    #[test]
    fn leaves_are_bounded_until_a_later_snapshot_is_merged() {
        let mut presence_map = PresenceMap::default();
        for n in 0..LEAVES_MAX {
            presence_map.apply(&user(n), 10, 2, false);
        }
        presence_map.forget_old_leaves(76);
        assert_eq!(presence_map.leaves_forgotten_up_to(), 0);
        presence_map.apply(&user(LEAVES_MAX), 10, 2, false);
        presence_map.apply(&user(0), 20, 1, true);
        presence_map.forget_old_leaves(77);
        assert_eq!(
            (presence_map.leaves_forgotten_up_to(), presence_map.entries.len()),
            (77, 1),
            "who is present is remembered"
        );
        assert_eq!(presence_map.present.len(), 1);
    }

    /// A change in the log: person, node, whether they are present, and whether a long time passes after it.
    type LoggedChange = (usize, u64, bool, bool);

    /// Applies the changes of the log at these positions.
    async fn apply_range(
        presence_map: &mut PresenceMap,
        log: &[LoggedChange],
        positions: std::ops::Range<usize>,
    ) {
        for position in positions {
            let (n, node, present, is_long) = log[position];
            presence_map.apply(&user(n), node, position as u64 + 1, present);
            if is_long {
                tokio::time::advance(LEAVE_KEPT_FOR * 2).await;
                presence_map.forget_old_leaves(position as u64 + 1);
            }
        }
    }

    /// The changes of those who are present by Postgres, once it has this part of the log.
    fn snapshot(log: &[LoggedChange]) -> impl Iterator<Item = (usize, u64, u64)> {
        let last = log
            .iter()
            .enumerate()
            .map(|(position, (n, node, present, _))| ((*n, *node), (position, *present)));
        let last: HashMap<_, _> = last.collect();
        let present = last.into_iter().filter(|(_, (_, present))| *present);
        present.map(|((n, node), (position, _))| (n, node, position as u64 + 1))
    }

    proptest! {
        #[test]
        fn snapshot_of_any_event_merged_at_any_time_is_exact(
            log in proptest::collection::vec((0_usize..3, 0_u64..3, any::<bool>(), any::<bool>()), 0..24),
            positions in proptest::array::uniform4(0_usize..=24),
        ) {
            let [start, as_of, full, merged] = positions.map(|position| position.min(log.len()));
            let full = full.max(start);
            let merged = merged.max(full).max(as_of);
            let clock = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let (received, all) = clock.expect("a clock").block_on(async {
                let mut presence_map = PresenceMap::default();
                apply_range(&mut presence_map, &log, start..full).await;
                // There are too many leaves at this point: the snapshot reaches up to it.
                presence_map.forget_all_leaves(full as u64);
                apply_range(&mut presence_map, &log, full..merged).await;
                for (n, node, counter) in snapshot(&log[..as_of]) {
                    presence_map.apply(&user(n), node, counter, true);
                }
                apply_range(&mut presence_map, &log, as_of..full).await;
                presence_map.mark_complete(false);
                apply_range(&mut presence_map, &log, merged..log.len()).await;
                let mut all = PresenceMap::default();
                all.mark_complete(false);
                apply_range(&mut all, &log, 0..log.len()).await;
                (presence_map.participants_json(), all.participants_json())
            });
            prop_assert_eq!(received, all);
        }

        #[test]
        fn presence_changes_merge_in_any_order(
            entries_of_user in proptest::collection::vec((0_usize..3, 0_u64..3, any::<bool>()), 0..20),
            seed in any::<u64>(),
        ) {
            // A counter is used once.
            let entries_of_user: Vec<_> =
                (1_u64..).zip(entries_of_user).map(|(counter, (n, node, present))| (n, node, counter, present)).collect();
            let mut shuffled = entries_of_user.clone();
            shuffled.sort_by_key(|(_, _, counter, _)| counter.wrapping_mul(seed | 1));
            let people = |entries_of_user: &[(usize, u64, u64, bool)]| {
                let mut presence_map = PresenceMap::default();
                presence_map.mark_complete(false);
                for (n, node, counter, present) in entries_of_user {
                    presence_map.apply(&user(*n), *node, *counter, *present);
                }
                presence_map.participants_json()
            };
            prop_assert_eq!(people(&entries_of_user), people(&shuffled));
        }
    }
}
