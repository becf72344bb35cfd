//! Schedules messages, and wakes the event loop when they are due.
//!
//! What must hold: the schedule alone decides when a message is due, however late the loop sends it. So delays by a
//! slow server or a slow client count as latency.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// When messages are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendSchedule {
    start_ns: u64,
    /// Time between two messages; `None` if each writer sends its next message when the last is answered.
    interval_ns: Option<f64>,
    sent: u64,
}

impl SendSchedule {
    /// A constant rate, from now on.
    pub(crate) fn new(per_second: f64) -> Self {
        Self { start_ns: now_ns(), interval_ns: Some(1e9 / per_second), sent: 0 }
    }

    /// A schedule in which each writer sends its next message when the last is answered.
    pub(crate) fn paced_by_answers() -> Self {
        Self { start_ns: now_ns(), interval_ns: None, sent: 0 }
    }

    /// Whether answers determine when messages are sent.
    pub(crate) const fn is_paced_by_answers(&self) -> bool {
        self.interval_ns.is_none()
    }

    /// Messages per second; 0 if answers determine when messages are sent.
    pub(crate) fn per_second(&self) -> f64 {
        self.interval_ns.map_or(0.0, |interval| 1e9 / interval)
    }

    /// When the next message is due, in nanoseconds since 1970; `u64::MAX` if answers determine it.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn next_due_ns(&self) -> u64 {
        self.interval_ns.map_or(u64::MAX, |interval| self.start_ns + (self.sent as f64 * interval) as u64)
    }

    /// Counts a message as sent.
    pub(crate) const fn record_sent(&mut self) {
        self.sent += 1;
    }
}

/// A timer that wakes the event loop. It has nanoseconds; the timeout of a poll only has milliseconds.
#[derive(Debug)]
pub(crate) struct WakeTimer(OwnedFd);

impl WakeTimer {
    /// Creates a timer that is not set.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Sets the timer to fire once, after this time.
    pub(crate) fn set(&self, after: Duration) -> io::Result<()> {
        // Zero would disarm the timer.
        let after = after.max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(after).map_err(|_| io::ErrorKind::InvalidInput)?;
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}
