//! When messages are due, and a clock that wakes for them.
//!
//! What must hold: a message is due by the schedule, however late the loop comes to it: what a slow server
//! or a slow client delays counts as latency.

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

/// When the next is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendSchedule {
    start_ns: u64,
    /// From one to the next; none where each writer's next follows the answer to its last.
    interval_ns: Option<f64>,
    sent: u64,
}

impl SendSchedule {
    /// So many a second, from now on.
    pub(crate) fn new(per_second: f64) -> Self {
        Self { start_ns: now_ns(), interval_ns: Some(1e9 / per_second), sent: 0 }
    }

    /// As fast as answers come.
    pub(crate) fn paced_by_answers() -> Self {
        Self { start_ns: now_ns(), interval_ns: None, sent: 0 }
    }

    /// Whether answers say when.
    pub(crate) const fn is_paced_by_answers(&self) -> bool {
        self.interval_ns.is_none()
    }

    /// Messages a second; none where answers say when.
    pub(crate) fn per_second(&self) -> f64 {
        self.interval_ns.map_or(0.0, |step| 1e9 / step)
    }

    /// When the next is due.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn next_due_ns(&self) -> u64 {
        self.interval_ns.map_or(u64::MAX, |step| self.start_ns + (self.sent as f64 * step) as u64)
    }

    /// One was sent.
    pub(crate) const fn note_sent(&mut self) {
        self.sent += 1;
    }
}

/// Wakes the loop at a time: finer than a poll's timeout, which counts milliseconds.
#[derive(Debug)]
pub(crate) struct WakeTimer(OwnedFd);

impl WakeTimer {
    /// One that is not set.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&alarm.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(alarm))
    }

    /// Wakes after that time.
    pub(crate) fn set(&self, after: Duration) -> io::Result<()> {
        // Zero would switch it off.
        let after = after.max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(after).map_err(|_| io::ErrorKind::InvalidInput)?;
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}
