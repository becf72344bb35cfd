//! Lets sockets leave their rooms and join them again.

use std::collections::VecDeque;

use super::LoadDriver;
use crate::timing::SendSchedule;

/// Distance between the numbers of two sockets that leave one after another: a prime, so that every socket leaves.
const STRIDE: usize = 7_919;

/// Which sockets leave and join, and when.
pub(super) struct Churn {
    schedule: SendSchedule,
    /// The socket that left last.
    last_left: usize,
    outside: VecDeque<usize>,
    /// Maximum number of sockets outside: above it, the socket that left first joins again.
    outside_max: usize,
}

impl LoadDriver<'_> {
    /// Starts churn: `per_second` sockets per second leave their rooms, and as many join again.
    pub(crate) fn start_churn(&mut self, per_second: f64, outside_max: usize) {
        let churn = Churn {
            schedule: SendSchedule::new(per_second),
            last_left: 0,
            outside: VecDeque::new(),
            outside_max,
        };
        self.churn = (per_second > 0.0 && !self.sockets.is_empty()).then_some(churn);
    }

    /// Stops churn. Sockets outside their rooms stay there.
    pub(crate) fn stop_churn(&mut self) {
        self.churn = None;
    }

    /// Lets the sockets leave and join whose time has come, and returns when the next one is due.
    pub(super) fn run_due_churn(&mut self, now: u64) -> u64 {
        let Some(mut churn) = self.churn.take() else { return u64::MAX };
        while churn.schedule.next_due_ns() <= now {
            // A large stride, so that consecutive sockets are in different rooms.
            churn.last_left = (churn.last_left + STRIDE) % self.sockets.len();
            churn.outside.push_back(churn.last_left);
            self.with_socket(churn.last_left, |socket, context| socket.leave_room(context));
            if churn.outside.len() > churn.outside_max
                && let Some(next) = churn.outside.pop_front()
            {
                self.with_socket(next, |socket, context| socket.rejoin_room(context));
            }
            churn.schedule.record_sent();
        }
        let next = churn.schedule.next_due_ns();
        self.churn = Some(churn);
        next
    }
}
