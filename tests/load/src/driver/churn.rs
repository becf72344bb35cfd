//! Sockets that leave their rooms and enter them again.

use std::collections::VecDeque;

use super::LoadDriver;
use crate::timing::SendSchedule;

/// From one socket that leaves to the next: a prime.
const STRIDE: usize = 7_919;

/// Who comes and goes.
pub(super) struct Churn {
    schedule: SendSchedule,
    /// Who has left last.
    last_left: usize,
    outside: VecDeque<usize>,
    /// How many are outside at once: the next to leave lets in who has been there longest.
    outside_max: usize,
}

impl LoadDriver<'_> {
    /// From now on so many sockets a second leave their rooms and enter them again.
    pub(crate) fn start_churn(&mut self, per_second: f64, outside_max: usize) {
        let churn = Churn {
            schedule: SendSchedule::new(per_second),
            last_left: 0,
            outside: VecDeque::new(),
            outside_max,
        };
        self.churn = (per_second > 0.0 && !self.sockets.is_empty()).then_some(churn);
    }

    /// Nobody leaves any more.
    pub(crate) fn stop_churn(&mut self) {
        self.churn = None;
    }

    /// Has leave and enter whose turn it is, and says when the next one's is.
    pub(super) fn run_due_churn(&mut self, now: u64) -> u64 {
        let Some(mut churn) = self.churn.take() else { return u64::MAX };
        while churn.schedule.next_due_ns() <= now {
            // A stride without a common divisor, so that rooms come in turn as well.
            churn.last_left = (churn.last_left + STRIDE) % self.sockets.len();
            churn.outside.push_back(churn.last_left);
            self.with_socket(churn.last_left, |socket, around| socket.leave_room(around));
            if churn.outside.len() > churn.outside_max
                && let Some(next) = churn.outside.pop_front()
            {
                self.with_socket(next, |socket, around| socket.rejoin_room(around));
            }
            churn.schedule.note_sent();
        }
        let next = churn.schedule.next_due_ns();
        self.churn = Some(churn);
        next
    }
}
