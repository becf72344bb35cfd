//! Plans what a run of events writes, without any I/O.
//!
//! New messages become columns. Participants are reduced to the latest state of each, read marks to the highest,
//! members and edits to their final state. All other events are written in order. Events that can't be decoded are set
//! aside, with the reason.

use std::{collections::HashMap, hash::Hash};

use async_nats::HeaderMap;
use log::StoredEvent;
use protocol::{
    event::{ChatMessage, Event, EventName, MessageEdit, MessageRead, Online, Participant, Room, header},
    subject,
};

use crate::{
    database::to_i64,
    shard::apply::{
        closed_rooms::RecentlyClosedRooms,
        membership::MembershipChanges,
        rejected_event::{RejectedEvent, RejectionCause},
        revisions::MessageRevisions,
        validate,
    },
};

/// Maximum events of a transaction.
pub(crate) const BATCH_EVENTS_MAX: usize = 1_000;
/// Payload bytes after which a transaction takes no further event.
pub(crate) const BATCH_BYTES_MAX: usize = 2 << 20;

/// Whether a batch of this size takes no further event.
pub(crate) const fn is_batch_full(events: usize, bytes: usize) -> bool {
    events >= BATCH_EVENTS_MAX || bytes >= BATCH_BYTES_MAX
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct WritePlan {
    /// New messages with their ids.
    pub(crate) messages: Vec<(u64, ChatMessage)>,
    /// For each participant, the state with the highest counter.
    pub(crate) participants: HashMap<ParticipantRowKey, LatestPresence>,
    /// For each person and process, the online state with the highest counter.
    pub(crate) online: HashMap<OnlineRowKey, LatestPresence>,
    /// New rooms.
    pub(crate) rooms: Vec<RoomInsert>,
    /// The highest read mark of each room and person.
    pub(crate) read_marks: HashMap<(i64, String), i64>,
    /// Edits and deletions of messages.
    pub(crate) revisions: MessageRevisions,
    /// Members added to rooms and removed from them.
    pub(crate) room_members: MembershipChanges,
    /// The rooms whose members changed, with the last such event of each.
    pub(crate) last_seq_by_room: HashMap<i64, i64>,
    /// Members added to teams and removed from them.
    pub(crate) team_members: MembershipChanges,
    /// All other events with their sequences, in order.
    pub(crate) ordered_events: Vec<(u64, Event)>,
    /// Events that can't be applied.
    pub(crate) rejected: Vec<RejectedEvent>,
    /// Events that are applied except for fields that this version does not know.
    pub(crate) partly_applied: Vec<RejectedEvent>,
    /// Events that must be applied after an event that may have been rejected.
    pub(crate) dependents: Vec<DependentEvent>,
    /// Number of messages and edits left out because their room was closed before them.
    pub(crate) dropped_after_closing: u64,
}

/// A new room.
#[derive(Debug)]
pub(crate) struct RoomInsert {
    pub(crate) id: u64,
    pub(crate) room: Room,
    /// The key that makes it unique, and how many closed rooms of that key came before it.
    pub(crate) key_and_generation: Option<(String, i32)>,
}

/// Key of a `participant` row: a person in a room, through the fan-out process that holds their sockets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ParticipantRowKey {
    pub(crate) room: i64,
    pub(crate) user: String,
    pub(crate) incarnation: i64,
}

/// Key of an `online` row: a person, through the fan-out process that holds their sockets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OnlineRowKey {
    pub(crate) user: String,
    pub(crate) incarnation: i64,
}

/// The state that the process reported last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LatestPresence {
    pub(crate) counter: i64,
    pub(crate) is_present: bool,
    /// The event that reports it.
    pub(crate) seq: i64,
}

/// An event that changes what another event has created.
#[derive(Debug)]
pub(crate) struct DependentEvent {
    /// Sequences of the events that created it.
    pub(crate) target_seqs: Vec<i64>,
    /// The event itself, to be recorded if one of them is in `rejected_event`.
    pub(crate) event: RejectedEvent,
}

impl WritePlan {
    /// Plans events. `closed_rooms` has the rooms that were closed before; rooms that these events close are added to
    /// it.
    pub(crate) fn build(events: &[StoredEvent], closed_rooms: &mut RecentlyClosedRooms) -> Self {
        let mut plan = Self::default();
        for stored in events {
            if let Err(reason) = plan.add(stored, closed_rooms) {
                plan.rejected.push(RejectedEvent::new(stored, RejectionCause::Unreadable, &reason));
            }
        }
        plan
    }

    /// The plan that only records an event as rejected.
    pub(crate) fn reject_only(stored: &StoredEvent, reason: &str) -> Self {
        Self {
            rejected: vec![RejectedEvent::new(stored, RejectionCause::Refused, reason)],
            ..Self::default()
        }
    }

    fn add(&mut self, stored: &StoredEvent, closed_rooms: &mut RecentlyClosedRooms) -> Result<(), String> {
        let parsed = subject::parse(&stored.subject).map_err(|_| "an unknown form of subject".to_owned())?;
        let name =
            EventName::parse(parsed.event).ok_or_else(|| format!("unknown event {:?}", parsed.event))?;
        let event = Event::decode(name, &stored.payload).map_err(|error| error.to_string())?;
        validate::require_valid(&parsed.channel, &event)?;
        if let Event::ChatMessage(ChatMessage { room, .. }) | Event::MessageEdit(MessageEdit { room, .. }) =
            event
            && closed_rooms.is_closed_before(room, stored.seq)
        {
            self.dropped_after_closing += 1;
            return Ok(());
        }
        if event.lacks_fields_of(&stored.payload) {
            self.partly_applied.push(RejectedEvent::new(
                stored,
                RejectionCause::UnknownFields,
                "applied, but for unknown fields",
            ));
        }
        if let Some(targets) = target_seqs(&event) {
            let event = RejectedEvent::new(
                stored,
                RejectionCause::DependsOnRejected,
                "it changes what a rejected event has made",
            );
            self.dependents.push(DependentEvent { target_seqs: targets, event });
        }
        match event {
            Event::ChatMessage(message) => self.messages.push((stored.seq, message)),
            Event::ParticipantJoin(participant) => self.add_participant(&participant, stored, true)?,
            Event::ParticipantLeave(participant) => self.add_participant(&participant, stored, false)?,
            Event::Online(person) => self.add_online(&person, stored, true)?,
            Event::Offline(person) => self.add_online(&person, stored, false)?,
            Event::Chatroom(room) | Event::RoomMade(room) => {
                let add_generation = |key| Ok::<_, String>((key, generation_header(&stored.headers)?));
                let key_and_generation = parsed.key.map(add_generation).transpose()?;
                self.rooms.push(RoomInsert { id: stored.seq, room, key_and_generation });
            }
            Event::MessageRead(read) => self.add_read_mark(&read),
            Event::MessageEdit(edit) => self.revisions.edit(stored.seq, edit),
            Event::MessageDelete(delete) => self.revisions.delete(stored.seq, &delete),
            Event::MemberAdd(member) => {
                self.last_seq_by_room.insert(to_i64(member.room.0), to_i64(stored.seq));
                self.room_members.add(member.room.0, &member.user, &member.by);
            }
            Event::MemberRemove(member) => {
                self.last_seq_by_room.insert(to_i64(member.room.0), to_i64(stored.seq));
                self.room_members.remove(member.room.0, &member.user);
            }
            Event::TeamMemberAdd(member) => {
                self.team_members.add(member.team.0, &member.user, &member.by);
            }
            Event::TeamMemberRemove(member) => self.team_members.remove(member.team.0, &member.user),
            event => {
                if let Event::RoomUpdate(update) = &event
                    && update.closed == Some(true)
                {
                    closed_rooms.note_closing(update.room, stored.seq);
                }
                self.ordered_events.push((stored.seq, event));
            }
        }
        Ok(())
    }

    fn add_read_mark(&mut self, read: &MessageRead) {
        let message_id = to_i64(read.message_id.0);
        let highest =
            self.read_marks.entry((to_i64(read.room.0), read.user.to_string())).or_insert(message_id);
        *highest = message_id.max(*highest);
    }

    fn add_participant(
        &mut self,
        participant: &Participant,
        stored: &StoredEvent,
        is_present: bool,
    ) -> Result<(), String> {
        let (incarnation, state) = presence_from_headers(stored, is_present)?;
        let key = ParticipantRowKey {
            room: to_i64(participant.room.0),
            user: participant.user.to_string(),
            incarnation,
        };
        keep_highest_counter(&mut self.participants, key, state);
        Ok(())
    }

    fn add_online(&mut self, person: &Online, stored: &StoredEvent, is_present: bool) -> Result<(), String> {
        let (incarnation, state) = presence_from_headers(stored, is_present)?;
        keep_highest_counter(
            &mut self.online,
            OnlineRowKey { user: person.user.to_string(), incarnation },
            state,
        );
        Ok(())
    }
}

/// Sequences of the events, in the same shard, that created what this event changes.
fn target_seqs(event: &Event) -> Option<Vec<i64>> {
    match event {
        Event::MessageEdit(edit) => Some(vec![to_i64(edit.message_id.0)]),
        Event::MessageDelete(delete) => Some(delete.messages_ids.iter().map(|id| to_i64(id.0)).collect()),
        _ => None,
    }
}

/// Reads the process's incarnation, and its counter, from an event's headers.
fn presence_from_headers(stored: &StoredEvent, is_present: bool) -> Result<(i64, LatestPresence), String> {
    let incarnation = u64_header(&stored.headers, header::INCARNATION)?;
    let counter = u64_header(&stored.headers, header::COUNTER)?;
    let counter = i64::try_from(counter).map_err(|_| "the counter is out of range".to_owned())?;
    // Reinterprets the 64 bits: an incarnation is compared for equality only.
    Ok((incarnation.cast_signed(), LatestPresence { counter, is_present, seq: to_i64(stored.seq) }))
}

fn generation_header(headers: &HeaderMap) -> Result<i32, String> {
    let generation = u64_header(headers, header::GENERATION)?;
    i32::try_from(generation).map_err(|_| "the generation is out of range".to_owned())
}

fn keep_highest_counter<K: Eq + Hash>(states: &mut HashMap<K, LatestPresence>, key: K, new: LatestPresence) {
    let latest = states.entry(key).or_insert(new);
    if new.counter > latest.counter {
        *latest = new;
    }
}

fn u64_header(headers: &HeaderMap, name: &'static str) -> Result<u64, String> {
    let value = headers.get_last(name).ok_or_else(|| format!("the header {name} is missing"))?;
    value.as_str().parse().map_err(|_| format!("the header {name} is not a number"))
}

#[cfg(test)]
mod tests;
