//! Paces repeated queries for a snapshot that was too old.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The first pause after the immediate retry; later ones double up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// The attempts of one request: the second follows at once, later ones after growing pauses.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    deadline: Instant,
    last_pause: Option<Duration>,
}

impl RetryBudget {
    /// Allows attempts for at most this long.
    pub(crate) fn within(at_most: Duration) -> Self {
        Self { deadline: Instant::now() + at_most, last_pause: None }
    }

    /// Returns the time left until the deadline.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Waits before another attempt; returns false if no time is left for one.
    pub(crate) async fn wait_for_retry(&mut self) -> bool {
        let pause = self.next_pause();
        if self.remaining() <= pause {
            return false;
        }
        sleep(pause).await;
        true
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.last_pause.map_or(Duration::ZERO, |last| (last * 2).clamp(PAUSE_MIN, PAUSE_MAX));
        self.last_pause = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_attempt_follows_at_once_within_a_budget_a_second() {
        let mut tries = RetryBudget::within(Duration::from_secs(1));
        assert_eq!(tries.next_pause(), Duration::ZERO);
        let (mut total, mut count) = (Duration::ZERO, 0);
        while total < Duration::from_secs(1) {
            total += tries.next_pause();
            count += 1;
        }
        assert_eq!(count, 14);
    }

    #[tokio::test]
    async fn attempts_end_with_the_deadline() {
        assert!(!RetryBudget::within(Duration::ZERO).wait_for_retry().await);
        assert!(RetryBudget::within(Duration::from_secs(60)).wait_for_retry().await);
    }
}
