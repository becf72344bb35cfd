//! What is heard live: stored events in the log's order, and the few kinds that are never stored.

use async_nats::{HeaderMap, Message, header as nats_header};
use protocol::{
    event::live,
    subject::{self, Channel},
};
use service::metric_names as names;

use super::{Entry, Feed, GATE, Live, people};
use crate::{hub::channel::Heard, render::native};

fn number<T: std::str::FromStr>(
    headers: Option<&HeaderMap>,
    name: impl async_nats::header::IntoHeaderName,
) -> Option<T> {
    headers?.get_last(name)?.as_str().parse().ok()
}

impl Feed {
    pub(super) fn hear(&mut self, live: &Live) {
        match live {
            Live::Channel(message) => drop(self.hear_channel(message)),
            Live::People(message) => self.hear_people(message),
        }
    }

    /// A live event. One without a sequence was not stored: few kinds may be so. False where it shows that one
    /// before it was lost: then both are healed.
    pub(super) fn hear_channel(&mut self, message: &Message) -> bool {
        let headers = message.headers.as_ref();
        let Ok(parsed) = subject::parse(&message.subject) else { return true };
        if let Some(Entry::Opening(opening)) = self.entries.get_mut(&parsed.channel) {
            if opening.gate.len() < GATE {
                opening.gate.push(message.clone());
            }
            return true;
        }
        let Some(seq) = number(headers, nats_header::NATS_SEQUENCE) else {
            self.hear_unstored(&parsed, message);
            return true;
        };
        let before = number(headers, nats_header::NATS_LAST_SEQUENCE).unwrap_or(0);
        let Some(hub) = self.hub(&parsed.channel) else { return true };
        // 0 is "none, or unknown".
        if seq > hub.last
            && let Some(known) = hub.gap(parsed.event, before)
        {
            self.heal("gap", Some(known));
            return false;
        }
        let heard = Heard { event: parsed.event, seq, headers, payload: &message.payload };
        self.deliver(&parsed.channel, heard);
        self.latency.note(headers);
        true
    }

    fn hear_unstored(&mut self, parsed: &subject::ParsedSubject<'_>, message: &Message) {
        let is_known = match parsed.channel {
            Channel::Room(_) => parsed.event == live::TYPING,
            // Who follows a person's channel hears these with all of the person's sockets.
            Channel::User(_) => people::is_unstored(parsed.event),
            Channel::Team(_) | Channel::System => false,
        };
        if !is_known {
            metrics::counter!(names::DROPPED_FRAMES_TOTAL, "class" => "unstored").increment(1);
        } else if let (Channel::Room(_), Some(hub)) = (&parsed.channel, self.hub(&parsed.channel)) {
            hub.push_unstored(&native::push_unstored(&parsed.channel, parsed.event, &message.payload));
        }
    }

    /// Where people are too many to be named, what has changed is counted, once a second.
    pub(super) fn count_crowds(&mut self) {
        for (channel, entry) in &mut self.entries {
            let Entry::Heard(hub) = entry else { continue };
            hub.fold.tidy(hub.last);
            if let Some(crowd) = hub.fold.crowd() {
                let data = serde_json::to_vec(&crowd).unwrap_or_default();
                hub.push_unstored(&native::push_unstored(channel, live::PRESENCE, &data));
            }
        }
    }
}
