//! Sockets that leave their rooms and enter them again.

use std::collections::VecDeque;

use super::World;
use crate::pace::Pace;

/// From one socket that leaves to the next: a prime.
const STRIDE: usize = 7_919;

/// Who comes and goes.
pub(super) struct Churn {
    pace: Pace,
    /// Who has left last.
    last: usize,
    outside: VecDeque<usize>,
    /// How many are outside at once: the next to leave lets in who has been there longest.
    away: usize,
}

impl World<'_> {
    /// From now on so many sockets a second leave their rooms and enter them again.
    pub(crate) fn churn(&mut self, rate: f64, away: usize) {
        let churn = Churn { pace: Pace::new(rate), last: 0, outside: VecDeque::new(), away };
        self.churn = (rate > 0.0 && !self.sockets.is_empty()).then_some(churn);
    }

    /// Nobody leaves any more.
    pub(crate) fn rest(&mut self) {
        self.churn = None;
    }

    /// Has leave and enter whose turn it is, and says when the next one's is.
    pub(super) fn churn_due(&mut self, now: u64) -> u64 {
        let Some(mut churn) = self.churn.take() else { return u64::MAX };
        while churn.pace.next() <= now {
            // A stride without a common divisor, so that rooms come in turn as well.
            churn.last = (churn.last + STRIDE) % self.sockets.len();
            churn.outside.push_back(churn.last);
            self.of(churn.last, |socket, around| socket.leave(around));
            if churn.outside.len() > churn.away
                && let Some(next) = churn.outside.pop_front()
            {
                self.of(next, |socket, around| socket.enter(around));
            }
            churn.pace.did();
        }
        let next = churn.pace.next();
        self.churn = Some(churn);
        next
    }
}
