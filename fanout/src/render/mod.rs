//! An event becomes one frame per push form, once, for every socket.

pub(crate) mod matches;
pub(crate) mod native;

use std::cell::OnceCell;

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

/// One event in every form that is asked for, each made once.
pub(crate) struct Rendered<'a> {
    channel: &'a Channel,
    heard: Heard<'a>,
    native: OnceCell<Option<Bytes>>,
    matches: OnceCell<Option<Bytes>>,
}

impl<'a> Rendered<'a> {
    /// Nothing is made yet.
    pub(crate) const fn new(channel: &'a Channel, heard: Heard<'a>) -> Self {
        Self { channel, heard, native: OnceCell::new(), matches: OnceCell::new() }
    }

    /// The event's frame; `None` where sockets of that form do not get it.
    pub(crate) fn frame(&self, form: Form) -> Option<&Bytes> {
        let Heard { event, seq, payload, .. } = self.heard;
        let frame = match form {
            Form::Native => self.native.get_or_init(|| native::push(self.channel, event, seq, payload)),
            Form::Match => self.matches.get_or_init(|| matches::push(self.heard)),
        };
        frame.as_ref()
    }
}
