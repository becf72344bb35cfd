//! Collects the signals that live events may have been lost.
//!
//! What must hold: whatever was said before a live event was taken from its queue is known before that event is
//! received. So what was lost before it is read from the log first.

use std::sync::{Arc, atomic::Ordering};

use async_nats::Statistics;
use futures_util::{FutureExt as _, StreamExt as _};
use log::SyncHint;
use service::nats::NatsEvent;
use tokio::{
    sync::{
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
        watch,
    },
    task::coop::unconstrained,
};

use super::inbox::MessageStream;

/// Something that was said.
#[derive(Debug)]
pub(super) enum LossSignal {
    /// There is another connection to the broker: what was published meanwhile was not received.
    Reconnected,
    /// A subscription has lost what was too much for it.
    SlowConsumer,
    /// A live copy may be lost.
    Hint(SyncHint),
    /// More was said than could be remembered.
    SignalsLost,
    /// The shard's stream has another leader: the last live copies of the one before may be lost.
    Election,
    /// The connection to the broker is closed for good.
    ConnectionClosed,
}

/// What one shard listens to.
pub(super) struct LossSignals {
    statistics: Arc<Statistics>,
    /// How many connections there were when it was looked at last. The client counts one before it reads
    /// anything of it, while its event takes a way of its own and may be later than what is received.
    connects: u64,
    /// While there is no connection nothing is said of what is lost.
    is_connected: bool,
    events: broadcast::Receiver<NatsEvent>,
    /// How often the shard's own subscriptions have lost something.
    losses: watch::Receiver<u64>,
    /// Nothing once the node stops: the task that hands hints on ends first.
    hints: Option<broadcast::Receiver<SyncHint>>,
    elections: Option<MessageStream>,
}

fn count(statistics: &Statistics) -> u64 {
    // The queue of a message that came later orders this load behind the count.
    statistics.connects.load(Ordering::Acquire)
}

impl LossSignals {
    /// What is said from now on.
    pub(super) fn new(
        statistics: Arc<Statistics>,
        events: broadcast::Receiver<NatsEvent>,
        losses: watch::Receiver<u64>,
        hints: broadcast::Receiver<SyncHint>,
    ) -> Self {
        let (connects, hints) = (count(&statistics), Some(hints));
        Self { connects, is_connected: true, statistics, events, losses, hints, elections: None }
    }

    /// Elections are received from now on.
    pub(super) fn watch_elections(&mut self, elections: MessageStream) {
        self.elections = Some(elections);
    }

    /// Whether there is a connection to the broker.
    pub(super) const fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// The next of what was said already.
    pub(super) fn try_next(&mut self) -> Option<LossSignal> {
        let connects = count(&self.statistics);
        if std::mem::replace(&mut self.connects, connects) != connects {
            return Some(LossSignal::Reconnected);
        }
        if self.losses.has_changed().unwrap_or(false) {
            self.losses.mark_unchanged();
            return Some(LossSignal::SlowConsumer);
        }
        loop {
            match self.events.try_recv() {
                Ok(event) => {
                    if let Some(signal) = self.take_nats_event(event) {
                        return Some(signal);
                    }
                }
                Err(TryRecvError::Lagged(_)) => return Some(LossSignal::SignalsLost),
                Err(TryRecvError::Closed) => return Some(LossSignal::ConnectionClosed),
                Err(TryRecvError::Empty) => break,
            }
        }
        match self.hints.as_mut().map(broadcast::Receiver::try_recv) {
            Some(Ok(hint)) => return Some(LossSignal::Hint(hint)),
            Some(Err(TryRecvError::Lagged(_))) => return Some(LossSignal::SignalsLost),
            Some(Err(TryRecvError::Closed)) => self.hints = None,
            Some(Err(TryRecvError::Empty)) | None => {}
        }
        let elections = self.elections.as_mut()?;
        unconstrained(elections.next()).now_or_never()?.map(|_| LossSignal::Election)
    }

    /// Waits for the next of it. Cancel safe.
    pub(super) async fn next(&mut self) -> LossSignal {
        loop {
            if let Some(signal) = self.try_next() {
                return signal;
            }
            let elections = async {
                match &mut self.elections {
                    Some(elections) => elections.next().await,
                    None => std::future::pending().await,
                }
            };
            let hints = async {
                match &mut self.hints {
                    Some(hints) => hints.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.events.recv() => match event {
                    // A connection is told by the count of them.
                    Ok(event) => if let Some(signal) = self.take_nats_event(event) {
                        return signal;
                    },
                    Err(RecvError::Lagged(_)) => return LossSignal::SignalsLost,
                    Err(RecvError::Closed) => return LossSignal::ConnectionClosed,
                },
                Ok(()) = self.losses.changed() => return LossSignal::SlowConsumer,
                hint = hints => match hint {
                    Ok(hint) => return LossSignal::Hint(hint),
                    Err(RecvError::Lagged(_)) => return LossSignal::SignalsLost,
                    Err(RecvError::Closed) => self.hints = None,
                },
                election = elections => match election {
                    Some(_) => return LossSignal::Election,
                    // The client is gone: its events say so too.
                    None => self.elections = None,
                },
            }
        }
    }

    const fn take_nats_event(&mut self, event: NatsEvent) -> Option<LossSignal> {
        match event {
            NatsEvent::SlowConsumer => return Some(LossSignal::SlowConsumer),
            NatsEvent::Closed => return Some(LossSignal::ConnectionClosed),
            NatsEvent::Connected => self.is_connected = true,
            NatsEvent::Disconnected => self.is_connected = false,
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::bench::LossSources;

    #[tokio::test]
    async fn end_of_the_hints_is_no_failure() {
        let LossSources { statistics, events, losses, hints } = LossSources::new();
        let mut signals =
            LossSignals::new(statistics, events.subscribe(), losses.subscribe(), hints.subscribe());
        drop(hints);
        assert!(signals.next().now_or_never().is_none());
        assert!(signals.try_next().is_none());
        let _ = events.send(NatsEvent::SlowConsumer);
        assert!(matches!(signals.next().await, LossSignal::SlowConsumer));
        for _ in 0..2 {
            losses.send_modify(|count| *count += 100);
            assert!(matches!(signals.next().await, LossSignal::SlowConsumer));
            assert!(signals.try_next().is_none(), "many losses are one cause");
        }
    }
}
