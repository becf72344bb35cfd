//! Says for how long a cached "yes" is returned.

use std::time::Duration;

use protocol::id::RoomId;

/// Maximum age of a cached "yes": a removal whose event was lost takes effect after that.
pub(super) const MAX_AGE: Duration = Duration::from_secs(50);
/// By how much the maximum age of a room's "yes" may be less.
const SPREAD_MS: u64 = 20_000;
/// Spreads the ages of rooms whose ids follow one another: it has no factor in common with [`SPREAD_MS`].
const FACTOR: u64 = 7_919;

/// Returns the maximum age for a room. It differs between rooms, because rooms that were read at the same moment would
/// be read again at the same moment: of 500 busy rooms with one age, messages waited for up to 60 ms every 20 s.
pub(super) fn max_age(room: RoomId) -> Duration {
    MAX_AGE - Duration::from_millis(room.0.wrapping_mul(FACTOR) % SPREAD_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_made_together_are_read_again_at_different_times() {
        let mut ages: Vec<_> = (1..=500).map(|room| max_age(RoomId(room))).collect();
        ages.sort_unstable();
        assert!(ages[0] > MAX_AGE - Duration::from_millis(SPREAD_MS) && ages[499] <= MAX_AGE);
        let in_one_second = |first: &Duration| {
            ages.iter().filter(|age| (*first..*first + Duration::from_secs(1)).contains(*age)).count()
        };
        let most = ages.iter().map(in_one_second).max();
        assert!(most < Some(50), "of 500 rooms {most:?} are read in one second, of 20 seconds");
    }
}
