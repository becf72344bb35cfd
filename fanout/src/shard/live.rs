//! Handles live messages: stored events in the log's order, and the few kinds that are never stored.

use async_nats::{HeaderMap, Message, header as nats_header};
use protocol::{
    event::live,
    subject::{self, Channel},
};
use service::metric_names as names;

use super::{BUFFERED_MAX, ChannelEntry, LiveMessage, ShardTask, people};
use crate::encode::{event::LiveEvent, native};

fn number<T: std::str::FromStr>(
    headers: Option<&HeaderMap>,
    name: impl async_nats::header::IntoHeaderName,
) -> Option<T> {
    headers?.get_last(name)?.as_str().parse().ok()
}

impl ShardTask {
    pub(super) fn receive(&mut self, live: &LiveMessage) {
        match live {
            LiveMessage::Channel(message) => drop(self.receive_channel_message(message)),
            LiveMessage::People(message) => self.receive_person_message(message),
        }
    }

    /// A live event. One without a sequence was not stored: few kinds may be so. False where it shows that one
    /// before it was lost: then both are caught up.
    pub(super) fn receive_channel_message(&mut self, message: &Message) -> bool {
        let headers = message.headers.as_ref();
        let Ok(parsed) = subject::parse(&message.subject) else { return true };
        if let Some(ChannelEntry::Opening(opening)) = self.channels.get_mut(&parsed.channel) {
            if opening.buffered.len() < BUFFERED_MAX {
                opening.buffered.push(message.clone());
            }
            return true;
        }
        let Some(seq) = number(headers, nats_header::NATS_SEQUENCE) else {
            self.receive_unstored(&parsed, message);
            return true;
        };
        let before = number(headers, nats_header::NATS_LAST_SEQUENCE).unwrap_or(0);
        let Some(channel_state) = self.open_channel_mut(&parsed.channel) else { return true };
        // 0 is "none, or unknown".
        if seq > channel_state.last_seq
            && let Some(known) = channel_state.gap(parsed.event, before)
        {
            self.start_catch_up("gap", Some(known));
            return false;
        }
        let event = LiveEvent { name: parsed.event, seq, headers, payload: &message.payload };
        self.deliver(&parsed.channel, event);
        self.latency.note_queued(headers);
        true
    }

    fn receive_unstored(&mut self, parsed: &subject::ParsedSubject<'_>, message: &Message) {
        let is_known = match parsed.channel {
            Channel::Room(_) => parsed.event == live::TYPING,
            // Who follows a person's channel receives these with all of the person's sockets.
            Channel::User(_) => people::is_unstored_person_event(parsed.event),
            Channel::Team(_) | Channel::System => false,
        };
        if !is_known {
            metrics::counter!(names::DROPPED_FRAMES_TOTAL, "class" => "unstored").increment(1);
        } else if let (Channel::Room(_), Some(channel_state)) =
            (&parsed.channel, self.open_channel_mut(&parsed.channel))
        {
            channel_state.push_unstored(&native::unstored_push_frame(
                &parsed.channel,
                parsed.event,
                &message.payload,
            ));
        }
    }

    /// Pushes, once a second, how many people have come and gone in rooms with too many to be named, and who is in a
    /// room whose subscribers could not be told before.
    pub(super) fn push_presence(&mut self) {
        for (channel, entry) in &mut self.channels {
            let ChannelEntry::Open(channel_state) = entry else { continue };
            channel_state.presence.forget_old_leaves(channel_state.last_seq);
            let Some(push) = channel_state.presence.take_push() else { continue };
            let is_list = push.participants.is_some();
            let data = serde_json::to_vec(&push).unwrap_or_default();
            let frame = native::unstored_push_frame(channel, live::PRESENCE, &data);
            if is_list {
                channel_state.push_state(&frame);
            } else {
                channel_state.push_unstored(&frame);
            }
        }
    }
}
