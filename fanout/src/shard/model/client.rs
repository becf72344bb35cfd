//! Models a client that keeps positions as the documentation says, and checks the frames that it gets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use protocol::{caller::Caller, id::UserId, rpc::AccessGrant, subject::Channel};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::log::Log;
use crate::{
    encode::{PushFormat, frame},
    outbox::registry::SocketRegistration,
    outbox::{Outbox, close::CloseReason},
    shard::{
        ShardCommand, ShardContext,
        subscribe::{Admission, SubscribeRequest},
    },
};

/// The events that a client has of a channel.
#[derive(Debug, Default)]
struct ClientChannel {
    /// Its answer was received on this socket.
    is_followed: bool,
    as_of: u64,
    /// The last `id`, or a later position, and its epoch. Nothing before the first answer.
    last: Option<(u64, u64)>,
    have: BTreeSet<u64>,
}

/// A client with its socket.
pub(super) struct Client {
    caller: Caller,
    socket_id: u64,
    outbox: Arc<Outbox>,
    _registration: SocketRegistration,
    frames_sent: u64,
    known: BTreeMap<String, (Channel, ClientChannel)>,
    /// Its requests to follow channels that are not decided yet, by their frames.
    pending: Vec<(Channel, u64, oneshot::Receiver<Admission>)>,
    /// The last position that was pushed: its epoch, and the event up to which the client has all events.
    position: Option<(u64, u64)>,
    /// Invitations that were pushed though their channel is not followed.
    invitations: BTreeSet<u64>,
    /// The log's last event when it began to get invitations this way.
    connected_at: u64,
}

fn socket(context: &ShardContext, caller: &Caller, socket_id: u64) -> (Arc<Outbox>, SocketRegistration) {
    let outbox = Arc::new(Outbox::new(1 << 20, PushFormat::Native));
    let registration = context.sockets.register(socket_id, caller, outbox.clone()).expect("there is room");
    (outbox, registration)
}

fn text(frame: &Bytes) -> Value {
    let head = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    serde_json::from_slice(&frame[head..]).expect("JSON")
}

impl Client {
    pub(super) fn new(context: &ShardContext, caller: Caller, socket_id: u64, log: &Log) -> Self {
        let (outbox, registration) = socket(context, &caller, socket_id);
        Self {
            caller,
            socket_id,
            outbox,
            _registration: registration,
            frames_sent: 0,
            known: BTreeMap::new(),
            pending: Vec::new(),
            position: None,
            invitations: BTreeSet::new(),
            connected_at: log.last(),
        }
    }

    /// Asks to follow a channel, from its last position.
    pub(super) fn subscribe(&mut self, channel: Channel, log: &Log) -> Option<ShardCommand> {
        if self.pending.iter().any(|(pending, ..)| *pending == channel) {
            return None;
        }
        let (_, known) = self
            .known
            .entry(channel.to_string())
            .or_insert_with(|| (channel.clone(), ClientChannel::default()));
        if known.is_followed {
            return None;
        }
        self.frames_sent += 1;
        let (admitted, admission) = oneshot::channel();
        self.pending.push((channel.clone(), self.frames_sent, admission));
        known.as_of = log.last();
        let name = channel.to_string();
        let grant =
            AccessGrant { public: false, pair: false, as_of: known.as_of, team: None, last_event: u64::MAX };
        let request = SubscribeRequest {
            socket_id: self.socket_id,
            frame_number: self.frames_sent,
            caller: self.caller.clone(),
            outbox: self.outbox.clone(),
            since: known.last.map(|(id, _)| id),
            epoch: known.last.map(|(_, epoch)| epoch),
            grant: Some(grant),
            answer: Some(Box::new(move |start| {
                let (id, epoch, recovered) = (start.after_seq, start.epoch, start.is_recovered);
                let answer = json!({ "answer": name, "id": id, "epoch": epoch, "recovered": recovered });
                frame::text(&[answer.to_string().as_bytes()])
            })),
            admitted,
        };
        Some(ShardCommand::Subscribe { channel, request })
    }

    /// Follows a channel no more, and forgets it.
    pub(super) fn unsubscribe(&mut self, channel: &Channel, log: &Log) -> ShardCommand {
        self.connected_at = log.last();
        self.known.remove(&channel.to_string());
        self.pending.retain(|(pending, ..)| pending != channel);
        self.unsubscribe_command(channel)
    }

    fn unsubscribe_command(&self, channel: &Channel) -> ShardCommand {
        let (channel, done) = (channel.clone(), oneshot::channel().0);
        ShardCommand::Unsubscribe {
            channel,
            socket_id: self.socket_id,
            frame_number: self.frames_sent,
            is_watcher: false,
            done,
        }
    }

    /// Comes back with another socket: the subscriptions of the old one have to be ended, and are asked for again.
    pub(super) fn come_back(
        &mut self,
        context: &ShardContext,
        socket_id: u64,
        log: &Log,
    ) -> Vec<ShardCommand> {
        let commands = self.known.values().map(|(channel, _)| self.unsubscribe_command(channel)).collect();
        self.socket_id = socket_id;
        (self.outbox, self._registration) = socket(context, &self.caller, socket_id);
        self.pending.clear();
        self.known.values_mut().for_each(|(_, known)| known.is_followed = false);
        // Invitations of the meantime are read over REST.
        self.connected_at = log.last();
        self.invitations.clear();
        commands
    }

    /// Reads all frames. True if it was closed, with the commands that follow.
    pub(super) fn read(&mut self, log: &Log, shard: usize) -> (bool, Vec<ShardCommand>) {
        for frame in self.outbox.take_frames() {
            let push = text(&frame);
            if let Some(name) = push["answer"].as_str() {
                self.take_answer(name, &push, log);
            } else if push["event"] == "position" {
                self.take_position(&push["data"][shard], log);
            } else {
                self.take_push(&push);
            }
        }
        let mut commands = Vec::new();
        for (channel, frame) in self.outbox.take_evictions() {
            if self.pending.iter().all(|(pending, asked_in, _)| *pending != channel || *asked_in <= frame) {
                commands.push(self.unsubscribe(&channel, log));
            }
        }
        let mut refused = Vec::new();
        self.pending.retain_mut(|(channel, _, admission)| match admission.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => true,
            // Its right has ended.
            Ok(Admission::AccessEnded) => {
                refused.push(channel.clone());
                false
            }
            // It follows the channel, or asks again.
            Ok(Admission::Admitted) | Err(oneshot::error::TryRecvError::Closed) => false,
        });
        for channel in refused {
            self.known.remove(&channel.to_string());
        }
        match self.outbox.close_reason() {
            None => (false, commands),
            Some(reason) => {
                assert_eq!(reason, CloseReason::Heal);
                self.rewind();
                (true, commands)
            }
        }
    }

    /// Closed with the heal code: it resumes from the last position, if it has later events.
    fn rewind(&mut self) {
        for (_, known) in self.known.values_mut() {
            known.last = match (known.last, self.position) {
                (Some((id, epoch)), Some((pushed_epoch, position))) if pushed_epoch == epoch => {
                    Some((id.min(position), epoch))
                }
                (Some(_), Some((pushed_epoch, position))) => Some((position, pushed_epoch)),
                (last, _) => last,
            };
        }
    }

    fn take_answer(&mut self, name: &str, answer: &Value, log: &Log) {
        let Some((channel, known)) = self.known.get_mut(name) else { return };
        let number = |field: &str| answer[field].as_u64().expect("a number");
        let (id, epoch) = (number("id"), number("epoch"));
        known.is_followed = true;
        match known.last {
            Some((last, known_epoch)) if answer["recovered"] == true => {
                assert_eq!((id, epoch), (last, known_epoch), "{name} begins where it was asked to");
                // Events that are pushed twice after a heal are known.
                known.have.retain(|seq| *seq <= last);
            }
            last => {
                if let Some((last, epoch)) = last {
                    assert!(
                        log.may_lack(last, epoch),
                        "{name} is not recovered from {last}, which the log has"
                    );
                }
                // It reads these events over REST.
                known.have = log.of(channel).map(|logged| logged.seq).filter(|seq| *seq <= id).collect();
            }
        }
        known.last = Some((id, epoch));
    }

    fn take_push(&mut self, push: &Value) {
        let name = push["channel"].as_str().expect("a channel");
        let seq = push["id"].as_u64().expect("an id");
        match self.known.get_mut(name) {
            Some((_, known)) if known.is_followed => {
                let (last, epoch) = known.last.expect("its answer came first");
                assert!(seq > last, "{name}: {seq} comes after {last}");
                known.last = Some((seq, epoch));
                known.have.insert(seq);
            }
            _ if push["event"] == "invitation" => {
                assert!(self.invitations.insert(seq), "{name}: the invitation {seq} comes twice");
            }
            _ => panic!("{name} is not followed: {push}"),
        }
    }

    /// Takes a position, up to which it must have all events.
    fn take_position(&mut self, pair: &Value, log: &Log) {
        let (epoch, position) = (pair[0].as_u64().expect("an epoch"), pair[1].as_u64().expect("a sequence"));
        self.position = Some((epoch, position));
        for (channel, known) in self.known.values_mut() {
            let Some((last, known_epoch)) = known.last.filter(|_| known.is_followed) else { continue };
            if known_epoch == epoch && epoch == log.epoch {
                // No event after the end of its right is due: it reads the eviction later.
                let end = log.end(channel, self.caller.user.as_str(), known.as_of).unwrap_or(u64::MAX);
                let upto = position.min(end);
                let missing = log.of(channel).filter(|logged| logged.is_needed() && logged.seq <= upto);
                let missing: Vec<u64> =
                    missing.map(|logged| logged.seq).filter(|seq| !known.have.contains(seq)).collect();
                assert!(missing.is_empty(), "{channel}: position {position} without {missing:?}");
                known.last = Some((last.max(position), epoch));
            }
        }
    }

    /// Checks, at the end, that it has all events that were stored in the channels that it follows.
    pub(super) fn check(&self, log: &Log) {
        for (channel, known) in self.known.values() {
            assert!(known.is_followed, "{channel} is not followed");
            assert!(
                !log.has_ended(channel, self.caller.user.as_str(), known.as_of),
                "the right to {channel} is over"
            );
            let needed = log.of(channel).filter(|logged| logged.is_needed());
            let missing: Vec<u64> =
                needed.map(|logged| logged.seq).filter(|seq| !known.have.contains(seq)).collect();
            assert!(missing.is_empty(), "{} lacks {missing:?} of {channel}: {known:?}", self.socket_id);
        }
        let own = Channel::User(self.caller.user.clone());
        if !self.known.contains_key(&own.to_string()) {
            let new =
                log.of(&own).filter(|logged| logged.event == "invitation" && logged.seq > self.connected_at);
            for logged in new {
                assert!(self.invitations.contains(&logged.seq), "{own}: no invitation {}", logged.seq);
            }
        }
    }

    /// Whether it is a client of that person, and its right to the channel has ended.
    pub(super) fn has_lost_access(&self, user: &UserId, channel: &Channel, log: &Log) -> bool {
        let known = self.known.get(&channel.to_string()).filter(|_| self.caller.user == *user);
        known.is_some_and(|(_, known)| log.has_ended(channel, user.as_str(), known.as_of))
    }

    /// The channels that it wants to follow and does not.
    pub(super) fn wanted(&self) -> Vec<Channel> {
        let wanted = self.known.values().filter(|(_, known)| !known.is_followed);
        wanted.map(|(channel, _)| channel.clone()).collect()
    }

    /// Pushes the positions to its socket, as to all sockets.
    pub(super) fn push_position(&self, frame: &Bytes) {
        self.outbox.push_unstored(frame);
    }
}
