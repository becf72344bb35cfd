//! An event becomes one frame per push form, once, for every socket.

pub(crate) mod matches;
pub(crate) mod native;

use bytes::Bytes;
use protocol::{rpc::Surface, subject::Channel};
use service::metric_names as names;

use crate::{hub::channel::Heard, session::frame};

/// In which form a socket is pushed what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Channel, event and data.
    Native,
    /// The same, compressed where that pays.
    Deflated,
    /// The envelope of the answers, and nothing that is no message's.
    Match,
}

impl Form {
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
pub(crate) struct Rendered {
    pub(crate) native: Option<Bytes>,
    /// There where it pays, and somebody takes it.
    deflated: Option<Bytes>,
    matches: Option<Bytes>,
}

impl Rendered {
    /// The native frame, and those of the other forms that somebody takes.
    pub(crate) fn of(channel: &Channel, heard: Heard<'_>, takes: impl Fn(Form) -> bool) -> Self {
        let Heard { event, seq, payload, .. } = heard;
        let native = native::push(channel, event, seq, payload);
        let deflated = native.as_ref().filter(|_| takes(Form::Deflated)).and_then(frame::deflated);
        if deflated.is_some() {
            metrics::counter!(names::DEFLATED_TOTAL).increment(1);
        }
        let matches = if takes(Form::Match) { matches::push(heard) } else { None };
        Self { native, deflated, matches }
    }

    /// The event's frame in that form.
    pub(crate) fn frame(&self, form: Form) -> Option<&Bytes> {
        match form {
            Form::Native => self.native.as_ref(),
            Form::Deflated => self.deflated.as_ref().or(self.native.as_ref()),
            Form::Match => self.matches.as_ref(),
        }
    }
}
