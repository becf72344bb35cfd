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

/// The format in which events are pushed to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushFormat {
    /// Channel, event, id and data.
    Native,
    /// Like [`PushFormat::Native`], compressed if that pays.
    Deflated,
    /// The envelope of answers; only for events about messages.
    Match,
}

impl PushFormat {
    /// The format of a socket of this surface; `deflates` says whether compression was negotiated.
    pub(crate) const fn of(surface: Surface, deflates: bool) -> Self {
        match surface {
            Surface::Native if deflates => Self::Deflated,
            Surface::Native => Self::Native,
            Surface::Match | Surface::MatchAdmin => Self::Match,
        }
    }
}

/// The frames of one event, one for each format; `None` if sockets with that format are not pushed it.
#[derive(Clone)]
pub(crate) struct EncodedEvent {
    pub(crate) native: Option<Bytes>,
    /// `None` also if compression does not pay, or no subscriber needs it.
    deflated: Option<Bytes>,
    match_room: Option<Bytes>,
}

impl EncodedEvent {
    /// Encodes the native frame, and those of the other formats for which `needs_format` is true.
    pub(crate) fn encode(
        channel: &Channel,
        event: LiveEvent<'_>,
        needs_format: impl Fn(PushFormat) -> bool,
    ) -> Self {
        let native = native::push_frame(channel, event.name, event.seq, event.payload);
        let deflated =
            native.as_ref().filter(|_| needs_format(PushFormat::Deflated)).and_then(frame::deflated);
        if deflated.is_some() {
            metrics::counter!(names::DEFLATED_TOTAL).increment(1);
        }
        let matches = if needs_format(PushFormat::Match) { match_rooms::push_frame(event) } else { None };
        Self { native, deflated, match_room: matches }
    }

    /// The frame for sockets with this format.
    pub(crate) fn frame(&self, form: PushFormat) -> Option<&Bytes> {
        match form {
            PushFormat::Native => self.native.as_ref(),
            PushFormat::Deflated => self.deflated.as_ref().or(self.native.as_ref()),
            PushFormat::Match => self.match_room.as_ref(),
        }
    }
}
