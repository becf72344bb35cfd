//! A run of events as it is written: messages by columns, participants folded to the last word of
//! each, read marks to the highest, members and texts to what stays, everything else in order. Pure: what
//! can't be decoded is set aside here, with its reason.

use std::{collections::HashMap, hash::Hash};

use async_nats::HeaderMap;
use log::StoredEvent;
use protocol::{
    event::{ChatMessage, Event, EventName, MessageEdit, MessageRead, Online, Participant, Room, header},
    subject,
};

use crate::{
    closed::ClosedRooms,
    membership::Membership,
    rejection::{Cause, Rejected},
    revisions::Revisions,
    validate,
    watermark::number,
};

/// The most events in a transaction.
pub(crate) const ROWS: usize = 1_000;
/// The most payload bytes in a transaction, but for the last event's.
pub(crate) const BYTES: usize = 2 << 20;

/// Whether a batch is full.
pub(crate) const fn is_full(rows: usize, bytes: usize) -> bool {
    rows >= ROWS || bytes >= BYTES
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// New messages with their ids.
    pub(crate) messages: Vec<(u64, ChatMessage)>,
    /// The highest counter of each participant.
    pub(crate) participants: HashMap<ParticipantKey, ParticipantState>,
    /// The highest counter of each process's word on who is online.
    pub(crate) online: HashMap<OnlineKey, ParticipantState>,
    /// New rooms.
    pub(crate) rooms: Vec<NewRoom>,
    /// Up to where people have read rooms: of each room and person the highest mark.
    pub(crate) marks: HashMap<(i64, String), i64>,
    /// Edits and deletions of messages.
    pub(crate) revisions: Revisions,
    /// Who may enter rooms, or may not any more.
    pub(crate) members: Membership,
    /// The rooms of these, and the last event of each.
    pub(crate) touched: HashMap<i64, i64>,
    /// Who belongs to teams, or does not any more.
    pub(crate) team_members: Membership,
    /// Everything else, in order, with its sequence.
    pub(crate) changes: Vec<(u64, Event)>,
    /// What can't be applied.
    pub(crate) rejected: Vec<Rejected>,
    /// What is applied but for fields that this version does not know.
    pub(crate) noted: Vec<Rejected>,
    /// What must be applied after an event that may have been rejected.
    pub(crate) dependents: Vec<Dependent>,
    /// Messages and edits that are left out since their room was closed before them.
    pub(crate) after_closing: u64,
}

/// A new room.
#[derive(Debug)]
pub(crate) struct NewRoom {
    pub(crate) id: u64,
    pub(crate) room: Room,
    /// What is unique about it, and how many closed ones of that key came before.
    pub(crate) key: Option<(String, i32)>,
}

/// One person in one room, by the process that holds their sockets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ParticipantKey {
    pub(crate) room: i64,
    pub(crate) user: String,
    pub(crate) incarnation: i64,
}

/// One person online, by the process that holds their sockets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OnlineKey {
    pub(crate) user: String,
    pub(crate) incarnation: i64,
}

/// What that process said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParticipantState {
    pub(crate) counter: i64,
    pub(crate) present: bool,
    /// The event that says so.
    pub(crate) seq: i64,
}

/// An event that changes what another event has made.
#[derive(Debug)]
pub(crate) struct Dependent {
    /// The events that made it, as sequences.
    pub(crate) targets: Vec<i64>,
    /// The event itself, to be kept where one of them is kept.
    pub(crate) event: Rejected,
}

impl Plan {
    /// Sorts events into what is written, given the rooms that were closed before; those that are closed by these events
    /// are added.
    pub(crate) fn of(events: &[StoredEvent], closed: &mut ClosedRooms) -> Self {
        let mut plan = Self::default();
        for stored in events {
            if let Err(reason) = plan.add(stored, closed) {
                plan.rejected.push(Rejected::new(stored, Cause::Unreadable, &reason));
            }
        }
        plan
    }

    /// The plan that only notes that an event can't be applied.
    pub(crate) fn rejecting(stored: &StoredEvent, reason: &str) -> Self {
        Self { rejected: vec![Rejected::new(stored, Cause::Refused, reason)], ..Self::default() }
    }

    fn add(&mut self, stored: &StoredEvent, closed: &mut ClosedRooms) -> Result<(), String> {
        let parsed = subject::parse(&stored.subject).map_err(|_| "an unknown form of subject".to_owned())?;
        let name =
            EventName::parse(parsed.event).ok_or_else(|| format!("unknown event {:?}", parsed.event))?;
        let event = Event::decode(name, &stored.payload).map_err(|error| error.to_string())?;
        validate::check(&parsed.channel, &event)?;
        if let Event::ChatMessage(ChatMessage { room, .. }) | Event::MessageEdit(MessageEdit { room, .. }) =
            event
            && closed.is_closed_before(room, stored.seq)
        {
            self.after_closing += 1;
            return Ok(());
        }
        if event.lacks_fields_of(&stored.payload) {
            self.noted.push(Rejected::new(stored, Cause::UnknownFields, "applied, but for unknown fields"));
        }
        if let Some(targets) = targets(&event) {
            let event = Rejected::new(stored, Cause::Waits, "it changes what a rejected event has made");
            self.dependents.push(Dependent { targets, event });
        }
        match event {
            Event::ChatMessage(message) => self.messages.push((stored.seq, message)),
            Event::ParticipantJoin(participant) => self.participant(&participant, stored, true)?,
            Event::ParticipantLeave(participant) => self.participant(&participant, stored, false)?,
            Event::Online(person) => self.online(&person, stored, true)?,
            Event::Offline(person) => self.online(&person, stored, false)?,
            Event::Chatroom(room) | Event::RoomMade(room) => {
                let generation = |key| Ok::<_, String>((key, generation(&stored.headers)?));
                let key = parsed.key.map(generation).transpose()?;
                self.rooms.push(NewRoom { id: stored.seq, room, key });
            }
            Event::MessageRead(read) => self.mark(&read),
            Event::MessageEdit(edit) => self.revisions.edit(stored.seq, edit),
            Event::MessageDelete(delete) => self.revisions.delete(stored.seq, &delete),
            Event::MemberAdd(member) => {
                self.touched.insert(number(member.room.0), number(stored.seq));
                self.members.add(member.room.0, &member.user, &member.by);
            }
            Event::MemberRemove(member) => {
                self.touched.insert(number(member.room.0), number(stored.seq));
                self.members.remove(member.room.0, &member.user);
            }
            Event::TeamMemberAdd(member) => {
                self.team_members.add(member.team.0, &member.user, &member.by);
            }
            Event::TeamMemberRemove(member) => self.team_members.remove(member.team.0, &member.user),
            event => {
                if let Event::RoomUpdate(update) = &event
                    && update.closed == Some(true)
                {
                    closed.note(update.room, stored.seq);
                }
                self.changes.push((stored.seq, event));
            }
        }
        Ok(())
    }

    fn mark(&mut self, read: &MessageRead) {
        let mark = number(read.message_id.0);
        let known = self.marks.entry((number(read.room.0), read.user.to_string())).or_insert(mark);
        *known = mark.max(*known);
    }

    fn participant(&mut self, who: &Participant, stored: &StoredEvent, present: bool) -> Result<(), String> {
        let (incarnation, state) = word(stored, present)?;
        let key = ParticipantKey { room: number(who.room.0), user: who.user.to_string(), incarnation };
        fold(&mut self.participants, key, state);
        Ok(())
    }

    fn online(&mut self, who: &Online, stored: &StoredEvent, present: bool) -> Result<(), String> {
        let (incarnation, state) = word(stored, present)?;
        fold(&mut self.online, OnlineKey { user: who.user.to_string(), incarnation }, state);
        Ok(())
    }
}

/// The events that made what this one changes, in the same shard.
fn targets(event: &Event) -> Option<Vec<i64>> {
    match event {
        Event::MessageEdit(edit) => Some(vec![number(edit.message_id.0)]),
        Event::MessageDelete(delete) => Some(delete.messages_ids.iter().map(|id| number(id.0)).collect()),
        _ => None,
    }
}

/// Which process says so, and as which of its words.
fn word(stored: &StoredEvent, present: bool) -> Result<(i64, ParticipantState), String> {
    let incarnation = unsigned(&stored.headers, header::INCARNATION)?;
    let counter = unsigned(&stored.headers, header::COUNTER)?;
    let counter = i64::try_from(counter).map_err(|_| "the counter is out of range".to_owned())?;
    // The same 64 bits: it is compared for equality only.
    Ok((incarnation.cast_signed(), ParticipantState { counter, present, seq: number(stored.seq) }))
}

fn generation(headers: &HeaderMap) -> Result<i32, String> {
    let generation = unsigned(headers, header::GENERATION)?;
    i32::try_from(generation).map_err(|_| "the generation is out of range".to_owned())
}

fn fold<K: Eq + Hash>(words: &mut HashMap<K, ParticipantState>, key: K, new: ParticipantState) {
    let known = words.entry(key).or_insert(new);
    if new.counter > known.counter {
        *known = new;
    }
}

fn unsigned(headers: &HeaderMap, name: &'static str) -> Result<u64, String> {
    let value = headers.get_last(name).ok_or_else(|| format!("the header {name} is missing"))?;
    value.as_str().parse().map_err(|_| format!("the header {name} is not a number"))
}

#[cfg(test)]
mod tests;
