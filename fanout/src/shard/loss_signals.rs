//! Collects the signals that live events may have been lost.
//!
//! What must hold: a signal that was sent before a live event was taken from its queue is handled before that event. So
//! events that were lost before it are read from the log first.

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

/// A signal that live events may have been lost.
#[derive(Debug)]
pub(super) enum LossSignal {
    /// The node has connected to the broker again: events that were published meanwhile were not received.
    Reconnected,
    /// A subscription has dropped messages, because they arrived faster than they were taken.
    SlowConsumer,
    /// Api's hint that the live copy of an event may be lost.
    Hint(SyncHint),
    /// Signals were dropped, because too many were queued.
    SignalsLost,
    /// The shard's stream has another leader: the last live copies of the one before may be lost.
    Election,
    /// The connection to the broker is closed for good.
    ConnectionClosed,
}

/// The sources of one shard's signals.
pub(super) struct LossSignals {
    statistics: Arc<Statistics>,
    /// Number of connections so far, at the last look. The client counts a connection before it reads messages of it,
    /// while the event of the connection may be received later than these messages.
    connects: u64,
    /// While there is no connection, no signal of a loss arrives.
    is_connected: bool,
    events: broadcast::Receiver<NatsEvent>,
    /// Number of times that the shard's own subscriptions have dropped messages.
    losses: watch::Receiver<u64>,
    /// `None` once the node stops: the task that forwards hints ends first.
    hints: Option<broadcast::Receiver<SyncHint>>,
    elections: Option<MessageStream>,
}

fn count(statistics: &Statistics) -> u64 {
    // The queue of a message that came later orders this load behind the count.
    statistics.connects.load(Ordering::Acquire)
}

impl LossSignals {
    /// The signals from now on.
    pub(super) fn new(
        statistics: Arc<Statistics>,
        events: broadcast::Receiver<NatsEvent>,
        losses: watch::Receiver<u64>,
        hints: broadcast::Receiver<SyncHint>,
    ) -> Self {
        let (connects, hints) = (count(&statistics), Some(hints));
        Self { connects, is_connected: true, statistics, events, losses, hints, elections: None }
    }

    /// Takes the subscription to elections of the stream's leader.
    pub(super) fn watch_elections(&mut self, elections: MessageStream) {
        self.elections = Some(elections);
    }

    /// Whether there is a connection to the broker.
    pub(super) const fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// The next signal that has arrived already.
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

    /// Waits for the next signal. Cancel safe.
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
                    // A new connection is noticed by the count of connections.
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
