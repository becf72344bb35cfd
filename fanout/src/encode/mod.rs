//! Encodes an event into one frame for each push format, once for all sockets.

pub(crate) mod deflate;
pub(crate) mod event;
pub(crate) mod frame;
pub(crate) mod match_rooms;
pub(crate) mod native;

use bytes::Bytes;
use protocol::{rpc::Surface, subject::Channel};
use service::metric_names as names;

use event::LiveEvent;

/// In which form a socket is pushed what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushFormat {
    /// Channel, event and data.
    Native,
    /// The same, compressed where that pays.
    Deflated,
    /// The envelope of the answers, and nothing that is no message's.
    Match,
}

impl PushFormat {
    /// That of a socket of that sort, which may have agreed to compression.
    pub(crate) const fn of(surface: Surface, deflates: bool) -> Self {
        match surface {
            Surface::Native if deflates => Self::Deflated,
            Surface::Native => Self::Native,
            Surface::Match | Surface::MatchAdmin => Self::Match,
        }
    }
}

/// One event's frame in each form; `None` where sockets of that form do not get it.
#[derive(Clone)]
pub(crate) struct EncodedEvent {
    pub(crate) native: Option<Bytes>,
    /// There where it pays, and somebody takes it.
    deflated: Option<Bytes>,
    match_room: Option<Bytes>,
}

impl EncodedEvent {
    /// The native frame, and those of the other forms that somebody takes.
    pub(crate) fn encode(
        channel: &Channel,
        heard: LiveEvent<'_>,
        needs_format: impl Fn(PushFormat) -> bool,
    ) -> Self {
        let LiveEvent { name: event, seq, payload, .. } = heard;
        let native = native::push_frame(channel, event, seq, payload);
        let deflated =
            native.as_ref().filter(|_| needs_format(PushFormat::Deflated)).and_then(frame::deflated);
        if deflated.is_some() {
            metrics::counter!(names::DEFLATED_TOTAL).increment(1);
        }
        let matches = if needs_format(PushFormat::Match) { match_rooms::push_frame(heard) } else { None };
        Self { native, deflated, match_room: matches }
    }

    /// The event's frame in that form.
    pub(crate) fn frame(&self, form: PushFormat) -> Option<&Bytes> {
        match form {
            PushFormat::Native => self.native.as_ref(),
            PushFormat::Deflated => self.deflated.as_ref().or(self.native.as_ref()),
            PushFormat::Match => self.match_room.as_ref(),
        }
    }
}
