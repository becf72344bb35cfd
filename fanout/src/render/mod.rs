//! An event becomes one frame per push form, once, for every socket.

pub(crate) mod matches;
pub(crate) mod native;

use bytes::Bytes;
use shared::{rpc::Surface, subject::Channel};

use crate::hub::channel::Heard;

/// In which form a socket is pushed what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Channel, event and data.
    Native,
    /// The envelope of the answers, and nothing that is no message's.
    Match,
}

impl From<Surface> for Form {
    fn from(surface: Surface) -> Self {
        match surface {
            Surface::Native => Self::Native,
            Surface::Match | Surface::MatchAdmin => Self::Match,
        }
    }
}

/// One event's frame in each form; `None` where sockets of that form do not get it.
#[derive(Clone)]
pub(crate) struct Rendered {
    pub(crate) native: Option<Bytes>,
    pub(crate) matches: Option<Bytes>,
}

impl Rendered {
    /// The native frame, and the other one where somebody asks for it.
    pub(crate) fn of(channel: &Channel, heard: Heard<'_>, has_matches: bool) -> Self {
        let Heard { event, seq, payload, .. } = heard;
        let matches = if has_matches { matches::push(heard) } else { None };
        Self { native: native::push(channel, event, seq, payload), matches }
    }

    /// The event's frame in that form.
    pub(crate) const fn frame(&self, form: Form) -> Option<&Bytes> {
        match form {
            Form::Native => self.native.as_ref(),
            Form::Match => self.matches.as_ref(),
        }
    }
}
