//! Reads older events of a channel from the log into its ring, for clients that resume from before the ring's base.
//!
//! One read serves all clients that wait for the channel. Each read takes a consumer of its own, and a shard runs
//! a few reads at a time.
//!
//! What must hold: a client is called recovered only where every event after its `since` is in the ring, and the log
//! still began before them when the read was over. A client is refused only where the log lacks what it needs, or
//! holds more of it than a ring may. Otherwise it waits for another read. A resume that fails changes nothing for the
//! other clients. What no ring can hold is read once.

use std::{collections::VecDeque, time::Duration};

use anyhow::bail;
use bytes::Bytes;
use log::{LogReader, StreamState};
use protocol::subject::{self, Channel};
use service::metric_names as names;

use super::{
    ShardContext,
    channel::ChannelState,
    channels::Channels,
    ring::{RING_BYTES_MAX, RING_EVENTS_MAX},
};
use crate::encode::native;

/// Maximum reads of a shard at a time. Each takes a consumer of the broker, made for it and deleted after it.
///
/// One consumer for many channels is not faster: 40 channels of 100 events took 25 ms this way, and 27 to 41 ms by one
/// consumer with 40 filters (nats-server 2.15). It would also admit most clients only at its end, as it gives the
/// events of all channels in the stream's order. nats-server 2.9 ignores several filters without an error.
const REPLAYS_MAX: usize = 8;
/// Maximum attempts of a read.
const ATTEMPTS_MAX: u32 = 3;
/// Pause between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A read of one channel: its events in (since, upto].
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplayRequest {
    pub(super) since: u64,
    pub(super) upto: u64,
    pub(super) epoch: u64,
    /// Sequence from which the channel's state is complete. It identifies that state: a channel that was dropped and
    /// opened again meanwhile ignores this read, and begins its own.
    pub(super) start_seq: u64,
    /// Free space of the ring: events, and bytes.
    pub(super) free_space: (usize, usize),
}

/// Result of a read.
pub(super) enum ReplayOutcome {
    /// All events in (base, upto]. `base` is above `since` where the ring has no space for the events before it.
    Frames { base: u64, frames: Vec<(u64, Bytes)> },
    /// The read ended early: the events after this sequence fill the ring already, so a client whose last event is
    /// before it can't be served.
    TooMuch(u64),
    /// The log begins with this event: events after `since` were trimmed.
    LogBeginsAt(u64),
    /// The stream was made anew since: its epoch differs.
    OtherLog,
    /// Each attempt has failed.
    Unreadable,
}

impl ReplayOutcome {
    const fn metric_label(&self) -> &'static str {
        match self {
            Self::Frames { .. } => "read",
            Self::TooMuch(_) => "too_much",
            Self::LogBeginsAt(_) => "gone",
            Self::OtherLog => "another_log",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A read that has ended.
pub(super) struct FinishedReplay {
    pub(super) request: ReplayRequest,
    pub(super) outcome: ReplayOutcome,
}

/// The reads of a shard: how many run, and the channels whose read is queued.
#[derive(Default)]
pub(super) struct Replays {
    running: usize,
    waiting: VecDeque<Channel>,
}

impl Replays {
    /// Queues a read of a channel.
    pub(super) fn queue(&mut self, channel: Channel) {
        self.waiting.push_back(channel);
    }

    /// Begins reads of queued channels, as many as may run. Skips a channel whose subscribers no longer wait.
    pub(super) fn start(
        &mut self,
        channels: &mut Channels,
    ) -> impl Iterator<Item = (Channel, ReplayRequest)> {
        std::iter::from_fn(move || {
            while self.running < REPLAYS_MAX {
                let channel = self.waiting.pop_front()?;
                if let Some(request) = channels.get_mut(&channel).and_then(ChannelState::replay_request) {
                    self.running += 1;
                    return Some((channel, request));
                }
            }
            None
        })
    }

    /// Counts a read that has ended: another one may begin.
    pub(super) fn finish(&mut self, outcome: &ReplayOutcome) {
        self.running = self.running.saturating_sub(1);
        metrics::counter!(names::REPLAYS_TOTAL, "outcome" => outcome.metric_label()).increment(1);
    }
}

/// Reads a channel. An attempt that fails is logged and repeated after a pause, [`ATTEMPTS_MAX`] attempts in all.
pub(super) async fn read_with_retries(
    context: &ShardContext,
    channel: &Channel,
    request: ReplayRequest,
) -> ReplayOutcome {
    for attempt in 1.. {
        match read_once(context, channel, request).await {
            Ok(outcome) => return outcome,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), %channel, "a channel could not be read from the log");
                if attempt == ATTEMPTS_MAX {
                    break;
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
    ReplayOutcome::Unreadable
}

async fn read_once(
    context: &ShardContext,
    channel: &Channel,
    request: ReplayRequest,
) -> anyhow::Result<ReplayOutcome> {
    let ReplayRequest { since, upto, epoch, free_space: (free_events, free_bytes), .. } = request;
    let shard = channel.shard(context.shards);
    let missing_events = |state: StreamState| {
        if state.epoch != epoch {
            Some(ReplayOutcome::OtherLog)
        } else {
            (state.first > since + 1).then_some(ReplayOutcome::LogBeginsAt(state.first))
        }
    };
    let state = log::state(&context.jetstream, shard).await?;
    if let Some(outcome) = missing_events(state) {
        return Ok(outcome);
    }
    let filter = channel.log_filter(context.shards);
    // The leader knows the channel's last event. The reader's consumer may live on a replica that lags, and reports
    // only how many events are pending there.
    let last = log::last(&context.jetstream, &filter).await?.map_or(0, |stored| stored.seq);
    let end = last.min(upto);
    let mut reader = LogReader::open(context.jetstream.clone(), shard, Some(filter), since + 1);
    let (mut base, mut frames, mut bytes) = (since, VecDeque::new(), 0);
    // A read ends early after the ring's free space and one full ring more: so it raises the sequence below which no
    // client can be served by about a full ring.
    let (mut events_left, mut bytes_left) = (free_events + RING_EVENTS_MAX, free_bytes + RING_BYTES_MAX);
    let mut read_upto = since;
    while read_upto < end {
        let Some(read) = reader.next_stored().await? else {
            bail!("{channel} ends at {read_upto} for its consumer, and at {end} for the stream's leader");
        };
        let stored = read.stored;
        read_upto = stored.seq;
        if read_upto > upto {
            break;
        }
        let Ok(parsed) = subject::parse(&stored.subject) else { continue };
        if !native::is_replayed(parsed.event) {
            continue;
        }
        if let Some(frame) = native::push_frame(channel, parsed.event, stored.seq, &stored.payload) {
            bytes += frame.len();
            let remaining = events_left.checked_sub(1).zip(bytes_left.checked_sub(frame.len()));
            frames.push_back((stored.seq, frame));
            while frames.len() > free_events || bytes > free_bytes {
                let Some((seq, frame)) = frames.pop_front() else { break };
                bytes -= frame.len();
                base = seq;
            }
            let Some(remaining) = remaining else { return Ok(ReplayOutcome::TooMuch(base)) };
            (events_left, bytes_left) = remaining;
        }
    }
    // Events after `since` may have been trimmed during the read. A consumer that starts below the stream's first
    // event begins at that event without an error, so the stream is asked again.
    let state = log::state(&context.jetstream, shard).await?;
    Ok(missing_events(state).unwrap_or_else(|| ReplayOutcome::Frames { base, frames: frames.into() }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::id::RoomId;

    use super::*;
    use crate::{
        encode::{PushFormat, event::LiveEvent},
        outbox::Outbox,
        shard::{bench, task::ShardTask, work::Work},
    };

    const AGE: Duration = Duration::from_secs(600);

    fn channel() -> Channel {
        Channel::Room(RoomId(1))
    }

    /// A shard that receives a room from event 10 on, and has received 11 and 12.
    async fn task() -> ShardTask {
        let (mut task, _) = bench::shard_task().await;
        bench::open_room(&mut task, RoomId(1), 10);
        for seq in [11, 12] {
            let payload = Bytes::from_static(b"{}");
            task.channels.deliver(
                &channel(),
                LiveEvent { name: "chat-message", seq, headers: None, payload: &payload },
            );
        }
        task.drop_from_rings_older_than(AGE);
        task
    }

    /// A socket resumes from `since`; its answer is whether it is recovered.
    fn resume(task: &mut ShardTask, since: u64) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::new(1 << 20, PushFormat::Native));
        let request = bench::resume_request(since, &outbox);
        task.admit_or_ask_stream_end(&channel(), request);
        outbox
    }

    /// The read that was started last.
    fn started_read(task: &mut ShardTask) -> ReplayRequest {
        match task.new_work.pop() {
            Some(Work::Replay { request, .. }) => request,
            _ => panic!("no read was started"),
        }
    }

    /// Ends a read that has found event 7 of (5, 10], and all of `later`.
    fn finish(task: &mut ShardTask, request: ReplayRequest, later: &[u64]) {
        let frame = |seq: u64| (seq, Bytes::from(seq.to_string()));
        let frames = [7].iter().chain(later).copied().map(frame).collect();
        task.finish_replay(
            &channel(),
            FinishedReplay { request, outcome: ReplayOutcome::Frames { base: 5, frames } },
        );
    }

    /// The answer, and the number of events after it.
    fn received(outbox: &Outbox) -> Option<(Bytes, usize)> {
        let mut frames = outbox.take_frames().into_iter();
        frames.next().map(|answer| (answer, frames.count()))
    }

    #[tokio::test(start_paused = true)]
    async fn resume_is_recovered_where_events_grow_old_while_the_log_is_read() {
        let mut task = task().await;
        let socket = resume(&mut task, 5);
        let request = started_read(&mut task);
        assert_eq!((request.since, request.upto), (5, 10));
        tokio::time::advance(AGE).await;
        task.drop_from_rings_older_than(AGE);
        finish(&mut task, request, &[]);
        assert_eq!(
            received(&socket),
            Some((Bytes::from("true"), 3)),
            "7 was read, 11 and 12 are in the ring"
        );
        task.drop_from_rings_older_than(AGE);
        assert_eq!(
            task.channels.get_mut(&channel()).map(|channel_state| channel_state.ring.base()),
            Some(12),
            "no client waits for them now"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn resume_waits_for_another_read_where_the_ring_has_moved_on() {
        let mut task = task().await;
        let socket = resume(&mut task, 5);
        let request = started_read(&mut task);
        tokio::time::advance(AGE).await;
        task.channels.get_mut(&channel()).expect("it is open").ring.drop_older_than(AGE);
        finish(&mut task, request, &[]);
        assert_eq!(received(&socket), None, "the log has what the ring has dropped");
        let request = started_read(&mut task);
        assert_eq!((request.since, request.upto), (5, 12));
        finish(&mut task, request, &[11, 12]);
        assert_eq!(received(&socket), Some((Bytes::from("true"), 3)));
    }

    #[tokio::test]
    async fn resume_is_refused_where_the_log_begins_later() {
        let mut task = task().await;
        let sockets = [4, 7, 8].map(|since| resume(&mut task, since));
        let request = started_read(&mut task);
        task.finish_replay(&channel(), FinishedReplay { request, outcome: ReplayOutcome::LogBeginsAt(8) });
        assert_eq!(received(&sockets[0]), Some((Bytes::from("false"), 0)));
        assert_eq!(
            (received(&sockets[1]), received(&sockets[2])),
            (None, None),
            "the log has all that these lack"
        );
        assert_eq!(started_read(&mut task).since, 7);
    }
}
