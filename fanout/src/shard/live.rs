//! Handles live messages of channels: stored events in the log's order, and the few kinds that are never stored.

use async_nats::{HeaderMap, Message, header as nats_header};
use protocol::{
    event::live,
    subject::{self, Channel},
};
use service::metric_names as names;

use super::{channels::Channels, latency::DeliveryLatency, people};
use crate::encode::{event::LiveEvent, native};

fn number<T: std::str::FromStr>(
    headers: Option<&HeaderMap>,
    name: impl async_nats::header::IntoHeaderName,
) -> Option<T> {
    headers?.get_last(name)?.as_str().parse().ok()
}

/// Events of a channel were lost before one that was received.
pub(super) struct Gap {
    /// The last event before the lost ones: everything after it has to be read from the log.
    pub(super) after: u64,
}

/// Handles a live message of a channel. An event without a sequence was not stored: only few kinds may be so.
///
/// # Errors
/// If the event shows that one before it was lost. It is not delivered then: both are to be read from the log.
pub(super) fn receive_channel_message(
    channels: &mut Channels,
    latency: &mut DeliveryLatency,
    message: &Message,
) -> Result<(), Gap> {
    let headers = message.headers.as_ref();
    let Ok(parsed) = subject::parse(&message.subject) else { return Ok(()) };
    if channels.buffer_if_opening(&parsed.channel, message) {
        return Ok(());
    }
    let Some(seq) = number(headers, nats_header::NATS_SEQUENCE) else {
        receive_unstored(channels, &parsed, message);
        return Ok(());
    };
    let before = number(headers, nats_header::NATS_LAST_SEQUENCE).unwrap_or(0);
    let Some(channel_state) = channels.get(&parsed.channel) else { return Ok(()) };
    // 0 is "none, or unknown".
    if seq > channel_state.last_seq()
        && let Some(after) = channel_state.gap(parsed.event, before)
    {
        return Err(Gap { after });
    }
    let event = LiveEvent { name: parsed.event, seq, headers, payload: &message.payload };
    channels.deliver(&parsed.channel, event);
    latency.note_queued(headers);
    Ok(())
}

fn receive_unstored(channels: &mut Channels, parsed: &subject::ParsedSubject<'_>, message: &Message) {
    let is_known = match parsed.channel {
        Channel::Room(_) => parsed.event == live::TYPING,
        // A socket that follows a person's channel receives these with all of the person's sockets.
        Channel::User(_) => people::is_unstored_person_event(parsed.event),
        Channel::Team(_) | Channel::System => false,
    };
    if !is_known {
        metrics::counter!(names::DROPPED_FRAMES_TOTAL, "class" => "unstored").increment(1);
    } else if let (Channel::Room(_), Some(channel_state)) =
        (&parsed.channel, channels.get_mut(&parsed.channel))
    {
        channel_state.push_unstored(&native::unstored_push_frame(
            &parsed.channel,
            parsed.event,
            &message.payload,
        ));
    }
}
