//! Tracks the control events that this node has received, and decides which snapshots are too old because of them.
//!
//! What must hold: no snapshot is used that lacks a received event of its room or team. After the subscription was
//! interrupted, no snapshot is used that lacks what the shard's log held when it was restored.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::{
    id::{Shard, ShardCount},
    subject::Channel,
};
use tokio::{sync::watch, time::Instant};

/// A snapshot of one channel: it contains all events of the channel's shard up to `as_of`.
pub(super) struct SnapshotPosition<'a> {
    pub(super) channel: &'a Channel,
    pub(super) as_of: u64,
}

/// Why a snapshot is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// It lacks this event of this shard, or an earlier one.
    MissingEvent(Shard, u64),
    /// Not known: the subscription was just made, and the shard's leader has not yet told where its log ends.
    MinSeqUnknown,
}

/// The control events that this node has received, of all channels.
pub(super) struct AccessInvalidations {
    shards: ShardCount,
    state: Mutex<InvalidationState>,
    /// Number of changes of the state; tasks wait on it.
    change_count: watch::Sender<u64>,
}

struct InvalidationState {
    is_connected: bool,
    /// Increases each time the subscription is interrupted.
    generation: u64,
    /// By shard: the event that every snapshot must contain. `None` until the shard's leader has answered.
    min_seqs: Vec<Option<u64>>,
    by_channel: HashMap<Channel, ChannelInvalidation>,
}

/// How long a revocation is remembered: within this time fan-out asks api to confirm everybody in the room, or
/// removes them.
const REVOCATION_KEPT_FOR: Duration = Duration::from_secs(60);

/// The last control event of a channel, kept until Postgres has it and no socket can rely on access from before.
#[derive(Clone, Copy, Default)]
struct ChannelInvalidation {
    seq: u64,
    /// Whether any of the channel's events may have revoked access.
    revokes: bool,
    /// When the last such event was received.
    revoked_at: Option<Instant>,
}

impl ChannelInvalidation {
    fn is_recently_revoked(&self) -> bool {
        self.revoked_at.is_some_and(|at| at.elapsed() < REVOCATION_KEPT_FOR)
    }
}

impl AccessInvalidations {
    pub(super) fn new(shards: ShardCount) -> Self {
        let min_seqs = vec![None; shards.all().count()];
        let state =
            InvalidationState { is_connected: true, generation: 0, min_seqs, by_channel: HashMap::new() };
        Self { shards, state: Mutex::new(state), change_count: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, InvalidationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts over because the subscription begins or was interrupted: no cached snapshot may be used.
    pub(super) fn restart(&self, connected: bool) {
        let mut state = self.state();
        state.is_connected = connected;
        state.generation += 1;
        state.min_seqs.fill(None);
        drop(state);
        self.change_count.send_modify(|count| *count += 1);
    }

    /// Records that the subscription stood when the shard's log ended at `last`. An answer to a question from before
    /// an interruption (another `generation`) is ignored.
    pub(super) fn set_min_seq(&self, generation: u64, shard: Shard, last: u64) {
        let mut state = self.state();
        if state.generation != generation {
            return;
        }
        state.min_seqs[shard.index()] = Some(last);
        drop(state);
        self.change_count.send_modify(|count| *count += 1);
    }

    /// Returns the shards whose leaders must still be asked where the log ends.
    pub(super) fn shards_without_min_seq(&self) -> Vec<Shard> {
        let state = self.state();
        self.shards.all().filter(|shard| state.min_seqs[shard.index()].is_none()).collect()
    }

    /// Records a control event.
    pub(super) fn note(&self, channel: Channel, seq: u64, revokes: bool) {
        let mut state = self.state();
        let change = state.by_channel.entry(channel).or_default();
        change.seq = change.seq.max(seq);
        change.revokes |= revokes;
        if revokes {
            change.revoked_at = Some(Instant::now());
        }
    }

    /// Records that an event of the room's team revoked access to the room.
    pub(super) fn note_revocation(&self, room: Channel) {
        let mut state = self.state();
        let change = state.by_channel.entry(room).or_default();
        change.revokes = true;
        change.revoked_at = Some(Instant::now());
    }

    /// Returns whether access to a channel was revoked within [`REVOCATION_KEPT_FOR`].
    pub(super) fn is_recently_revoked(&self, channel: &Channel) -> bool {
        self.state().by_channel.get(channel).is_some_and(ChannelInvalidation::is_recently_revoked)
    }

    /// Forgets the events that Postgres has applied. A query that started before is still refused: forgetting an
    /// event raises its shard's minimum.
    pub(super) fn forget_applied(&self, applied: impl Fn(Shard) -> u64) {
        let mut state = self.state();
        let InvalidationState { min_seqs, by_channel: channels, .. } = &mut *state;
        channels.retain(|channel, change| {
            let shard = channel.shard(self.shards);
            // The state at creation is used for a room that Postgres lacks, so every later event of the room is kept.
            let unmade = matches!(channel, Channel::Room(room) if room.0 > applied(Shard::SYSTEM));
            let keep = change.seq > applied(shard) || unmade || change.is_recently_revoked();
            if !keep && let Some(Some(min_seq)) = min_seqs.get_mut(shard.index()) {
                *min_seq = (*min_seq).max(change.seq);
            }
            keep
        });
    }

    /// Returns a number that changes when the subscription is interrupted.
    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// Returns a watch that changes whenever a subscription restarts or a log end becomes known.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.change_count.subscribe()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state().is_connected
    }

    /// Returns why a new snapshot is too old; `None` if it may be used. While the broker is not reachable no event is
    /// received, and only readers by HTTP ask: then any snapshot may be used.
    pub(super) fn find_stale(&self, positions: &[SnapshotPosition<'_>]) -> Option<Stale> {
        let state = self.state();
        positions.iter().find_map(|part| {
            let shard = part.channel.shard(self.shards);
            let change = state.by_channel.get(part.channel).map_or(0, |change| change.seq);
            let min_seq = match state.min_seqs.get(shard.index()) {
                Some(Some(min_seq)) => *min_seq,
                _ if state.is_connected => return Some(Stale::MinSeqUnknown),
                _ => 0,
            };
            let needed = change.max(min_seq);
            (part.as_of < needed).then_some(Stale::MissingEvent(shard, needed))
        })
    }

    /// Returns whether a cached snapshot lacks a received event.
    pub(super) fn is_outdated(&self, positions: &[SnapshotPosition<'_>]) -> bool {
        let state = self.state();
        positions
            .iter()
            .any(|part| state.by_channel.get(part.channel).is_some_and(|change| change.seq > part.as_of))
    }

    /// Returns what happened to a room since its creation, the event `made`, if this node has received all of it: the
    /// room must have been created after the subscription began. `None` otherwise.
    pub(super) fn changes_since_creation(
        &self,
        created: u64,
        room: &Channel,
    ) -> Option<ChangesSinceCreation> {
        let state = self.state();
        let begun = state.min_seqs.first().copied().flatten()?;
        let invalidations = state.min_seqs[room.shard(self.shards).index()].is_some();
        (created > begun && invalidations).then(|| match state.by_channel.get(room) {
            None => ChangesSinceCreation::Unchanged,
            Some(ChannelInvalidation { revokes: false, .. }) => ChangesSinceCreation::OnlyAdditions,
            Some(_) => ChangesSinceCreation::Changed,
        })
    }
}

/// The control events of a room since its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangesSinceCreation {
    /// None: the room is as it was created.
    Unchanged,
    /// Only members were added: the state at creation can confirm access, but not deny it.
    OnlyAdditions,
    /// Others: the state at creation says nothing about access any more.
    Changed,
}

#[cfg(test)]
mod tests {
    use protocol::id::RoomId;

    use super::*;

    const ROOM: Channel = Channel::Room(RoomId(8));

    fn subscribed() -> (AccessInvalidations, Shard) {
        let shards = ShardCount::new(8).expect("8");
        let invalidations = AccessInvalidations::new(shards);
        invalidations.restart(true);
        (invalidations, ROOM.shard(shards))
    }

    fn staleness(invalidations: &AccessInvalidations, as_of: u64) -> Option<Stale> {
        invalidations.find_stale(&[SnapshotPosition { channel: &ROOM, as_of }])
    }

    #[test]
    fn snapshot_must_contain_events_from_before_the_subscription() {
        let (invalidations, shard) = subscribed();
        assert_eq!(staleness(&invalidations, 100), Some(Stale::MinSeqUnknown));
        invalidations.set_min_seq(1, shard, 7);
        assert_eq!(staleness(&invalidations, 6), Some(Stale::MissingEvent(shard, 7)));
        assert_eq!(staleness(&invalidations, 7), None);
        invalidations.restart(true);
        assert_eq!(staleness(&invalidations, 7), Some(Stale::MinSeqUnknown), "a break ends what was known");
        invalidations.restart(false);
        assert_eq!(staleness(&invalidations, 0), None, "without a broker the database alone counts");
    }

    #[test]
    fn snapshot_must_contain_events_received_of_its_room() {
        let (invalidations, shard) = subscribed();
        invalidations.set_min_seq(1, shard, 0);
        invalidations.note(ROOM, 9, true);
        assert_eq!(staleness(&invalidations, 8), Some(Stale::MissingEvent(shard, 9)));
        assert!(invalidations.is_outdated(&[SnapshotPosition { channel: &ROOM, as_of: 8 }]));
        assert_eq!(staleness(&invalidations, 9), None);
        let other = Channel::Room(RoomId(16));
        assert_eq!(
            invalidations.find_stale(&[SnapshotPosition { channel: &other, as_of: 8 }]),
            None,
            "another room of the shard"
        );
        invalidations.forget_applied(|shard| if shard == Shard::SYSTEM { 7 } else { 9 });
        invalidations.forget_applied(|_| 8);
        assert_eq!(staleness(&invalidations, 8), Some(Stale::MissingEvent(shard, 9)), "not applied yet");
        invalidations.forget_applied(|_| 9);
        assert_eq!(
            staleness(&invalidations, 8),
            Some(Stale::MissingEvent(shard, 9)),
            "a snapshot on its way is refused still"
        );
    }

    #[test]
    fn revoked_right_is_remembered_after_postgres_has_the_revocation() {
        let (invalidations, shard) = subscribed();
        invalidations.set_min_seq(1, shard, 0);
        invalidations.note(ROOM, 8, false);
        assert!(!invalidations.is_recently_revoked(&ROOM), "who is added takes nothing away");
        invalidations.note(ROOM, 9, true);
        assert!(invalidations.is_recently_revoked(&ROOM));
        invalidations.forget_applied(|_| 9);
        assert!(
            invalidations.is_recently_revoked(&ROOM),
            "a socket may still be in the room by an older right"
        );
        let other = Channel::Room(RoomId(16));
        assert!(!invalidations.is_recently_revoked(&other));
        invalidations.note_revocation(other.clone());
        assert!(invalidations.is_recently_revoked(&other), "its team lost somebody");
        assert_eq!(
            invalidations.find_stale(&[SnapshotPosition { channel: &other, as_of: 0 }]),
            None,
            "which no event of its own says"
        );
    }

    #[test]
    fn room_that_postgres_lacks_is_known_if_its_creation_was_received() {
        let (invalidations, shard) = subscribed();
        assert_eq!(invalidations.changes_since_creation(8, &ROOM), None);
        invalidations.set_min_seq(1, shard, 0);
        invalidations.set_min_seq(1, Shard::SYSTEM, 7);
        assert_eq!(invalidations.changes_since_creation(7, &ROOM), None, "made before");
        assert_eq!(invalidations.changes_since_creation(8, &ROOM), Some(ChangesSinceCreation::Unchanged));
        invalidations.note(ROOM, 1, false);
        assert_eq!(invalidations.changes_since_creation(8, &ROOM), Some(ChangesSinceCreation::OnlyAdditions));
        invalidations.note(ROOM, 2, true);
        invalidations.note(ROOM, 3, false);
        assert_eq!(invalidations.changes_since_creation(8, &ROOM), Some(ChangesSinceCreation::Changed));
    }
}
