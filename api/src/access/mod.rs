//! Who may do what in a room, from memory where that is safe.
//!
//! What must hold: an answer is as true as a new snapshot that contains every control event heard.
//! A kept "no" is never given; a kept "yes" for twenty seconds, and for as long as Postgres does not
//! answer, while hearing of control events has no break. However many ask, one question is under way for a room.
//! A control event has its room read again, of which no more than a bounded number of members are named; of other
//! members only those are looked up who ask, and what is known of one ends by the event that names them.

mod facts;
mod heard;
mod kept;
mod listen;
mod matrix;
mod tries;
mod turns;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::jetstream::Context;
use log::AppliedWatch;
use metrics::Counter;
use protocol::{
    error::{Error, ErrorCode},
    event::{Event, EventName, Room, RoomDetail},
    id::{RoomId, Shard, ShardCount, TeamId, UserId},
    subject::Channel,
};
use quick_cache::sync::Cache;
use service::metric_names as names;
use tokio::time::{Instant, timeout};

pub(crate) use self::{
    facts::{Facts, RoomAccess},
    matrix::{may_delete, may_edit},
    tries::Tries,
};
use crate::{
    database::{APPLIED_TIMEOUT, Database},
    queries::members::Members,
};
use heard::{Heard, Lack, Life, Seen};
use kept::Kept;
pub(crate) use listen::listen;
use turns::{Answer, Turn};

/// How long a kept "yes" is given: should a removal not have been heard, it counts after that. (With 5 s, 500
/// rooms of 2 messages a second each paid a third of all that Postgres did for that question.)
const FRESH: Duration = Duration::from_secs(20);
/// After Postgres did not answer, kept answers are given without asking it, for that long.
const DOWN: Duration = Duration::from_secs(1);
/// How long a sender who was let into a room waits for Postgres where nothing speaks against them.
const PATIENCE: Duration = Duration::from_millis(500);
/// Rooms read at a time for which askers wait for each other.
const TURNS: usize = 10_000;

/// A node's rights.
pub(crate) struct Rights {
    pool: Database,
    jetstream: Context,
    shards: ShardCount,
    applied: AppliedWatch,
    heard: Heard,
    kept: Kept,
    turns: Cache<RoomId, Arc<Turn>>,
    failed_at: Mutex<Option<Instant>>,
    hits: Counter,
    misses: Counter,
    stale: Counter,
    held: Counter,
}

impl Rights {
    /// Keeps nothing yet.
    pub(crate) fn new(pool: Database, jetstream: Context, shards: ShardCount, applied: AppliedWatch) -> Self {
        let counter = |outcome: &'static str| metrics::counter!(names::RIGHTS_TOTAL, "outcome" => outcome);
        Self {
            pool,
            jetstream,
            shards,
            applied,
            heard: Heard::new(shards),
            kept: Kept::new(),
            turns: Cache::new(TURNS),
            failed_at: Mutex::new(None),
            hits: counter("hit"),
            misses: counter("miss"),
            stale: counter("stale"),
            held: counter("held"),
        }
    }

    /// A room, seen with these people; what is kept of it only where it is `good` for the asker.
    ///
    /// # Errors
    /// When there is no such room, or it can't be known now.
    pub(crate) async fn facts(
        &self,
        room: RoomId,
        people: &[&UserId],
        good: impl Fn(&RoomAccess) -> bool + Sync,
    ) -> Result<RoomAccess, Error> {
        let now = Instant::now();
        if let Some(access) = self.kept(room, people).filter(|kept| kept.asked_at + FRESH > now && good(kept))
        {
            self.hits.increment(1);
            return Ok(access);
        }
        if self.is_down()
            && let Some(access) = self.kept(room, people).filter(&good)
        {
            self.held.increment(1);
            return Ok(access);
        }
        self.misses.increment(1);
        match self.read_for(room, people, now, &good).await {
            Err(error) if error.code == ErrorCode::Unavailable => {
                let held = self.kept(room, people).filter(&good).ok_or(error)?;
                self.held.increment(1);
                Ok(held)
            }
            read => read,
        }
    }

    /// A room for a person who was let into it: what is kept of it where it is `good`, however old, else a new
    /// snapshot. `None` where nothing was heard that took a right away there, and Postgres does not answer in a
    /// short time: then the right by which they were let in stands.
    ///
    /// # Errors
    /// When there is no such room, or what was heard of it is not applied.
    pub(crate) async fn since_joined(
        &self,
        room: RoomId,
        user: &UserId,
        good: impl Fn(&RoomAccess) -> bool + Send + Sync,
    ) -> Result<Option<RoomAccess>, Error> {
        if let Some(access) = self.kept(room, &[user]).filter(&good) {
            self.hits.increment(1);
            return Ok(Some(access));
        }
        let channel = Channel::Room(room);
        let stands = || !self.heard.is_narrowed(&channel);
        if stands() && self.is_down() {
            self.held.increment(1);
            return Ok(None);
        }
        self.misses.increment(1);
        let patience = if stands() { PATIENCE } else { APPLIED_TIMEOUT * 2 };
        let read = timeout(patience, self.read_for(room, &[user], Instant::now(), &good)).await;
        match read {
            Err(_) if stands() => *self.failed_at() = Some(Instant::now()),
            Err(_) => return Err(late()),
            Ok(Err(error)) if error.code == ErrorCode::Unavailable && stands() => {}
            Ok(read) => return read.map(Some),
        }
        self.held.increment(1);
        Ok(None)
    }

    fn failed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether Postgres did not answer within the last second. Once a second it is false for one asker, who tries again.
    fn is_down(&self) -> bool {
        let mut failed_at = self.failed_at();
        match failed_at.as_mut() {
            Some(at) if at.elapsed() < DOWN => true,
            Some(at) => {
                *at = Instant::now();
                false
            }
            None => false,
        }
    }

    /// What is kept of a room and these people, if nothing newer was heard.
    fn kept(&self, room: RoomId, people: &[&UserId]) -> Option<RoomAccess> {
        self.kept.access(room, people).filter(|access| self.is_current(access))
    }

    fn is_current(&self, access: &RoomAccess) -> bool {
        self.heard.is_connected() && !self.seen(&access.room, |seen| self.heard.is_outdated(seen))
    }

    /// A room, seen with these people, asked for at `since` or later: no answer given before that is missing.
    /// One question is under way for a room at a time; those who wait share the next answer.
    ///
    /// # Errors
    /// When there is no such room, or it can't be known now.
    pub(crate) async fn read(
        &self,
        room: RoomId,
        people: &[&UserId],
        since: Instant,
    ) -> Result<RoomAccess, Error> {
        self.read_for(room, people, since, &|_| false).await
    }

    /// The same for an asker who knows enough of a room that only grew since it was made where it is `good`.
    async fn read_for(
        &self,
        room: RoomId,
        people: &[&UserId],
        since: Instant,
        good: &(impl Fn(&RoomAccess) -> bool + Sync),
    ) -> Result<RoomAccess, Error> {
        let turn = self.turns.get_or_insert_with(&room, || Ok::<_, Error>(Arc::default()))?;
        turn.wait_for(people);
        let mut last = turn.last.lock().await;
        let shared = last.as_ref().and_then(|last| last.of(since, people, |access| self.is_current(access)));
        if let Some(answer) = shared {
            return answer;
        }
        let (asked_at, all) = (Instant::now(), turn.people(people));
        let read = self.snapshot(room, &Vec::from_iter(&all), good).await;
        // The cache and this asker hold the turn; where nobody else does, nobody waits for the answer.
        let is_shared = Arc::strong_count(&turn) > 2 || read.is_err();
        *last = is_shared.then(|| Answer { asked_at, people: all, found: read.clone() });
        read.map(|access| access.of(people))
    }

    /// A new snapshot that lacks nothing heard: waits up to a second for it.
    async fn snapshot(
        &self,
        room: RoomId,
        people: &[&UserId],
        good: &(impl Fn(&RoomAccess) -> bool + Sync),
    ) -> Result<RoomAccess, Error> {
        let mut tries = Tries::within(APPLIED_TIMEOUT);
        loop {
            let changes = self.heard.changes();
            let generation = self.heard.generation();
            let asked = facts::facts(&self.pool, self.shards, room, people, Instant::now()).await;
            let down = asked.as_ref().is_err_and(|error| error.code == ErrorCode::Unavailable);
            *self.failed_at() = down.then(Instant::now);
            let lack = match asked? {
                Some(access) => match self.keep(&access, people, generation) {
                    None => return Ok(access),
                    Some(lack) => lack,
                },
                None => match self.unapplied(room, good).await? {
                    Some(Ok(access)) => return Ok(access),
                    Some(Err(lack)) => lack,
                    // It has left the log since: Postgres has it by now, or there is none.
                    None => match facts::facts(&self.pool, self.shards, room, &[], Instant::now()).await? {
                        Some(_) => continue,
                        None => return Err(Error::not_found()),
                    },
                },
            };
            self.stale.increment(1);
            self.supply(lack, changes, &mut tries).await?;
        }
    }

    /// Keeps a snapshot, unless it lacks something: answers what.
    fn keep(&self, access: &RoomAccess, people: &[&UserId], generation: u64) -> Option<Lack> {
        let lacks = || self.seen(&access.room, |seen| self.heard.lacks(seen));
        if let Some(lack) = lacks() {
            return Some(lack);
        }
        if !self.heard.is_connected() {
            return None;
        }
        self.kept.insert(access, people);
        // What was heard in between found nothing to drop.
        let lack = lacks().or((self.heard.generation() != generation).then_some(Lack::Unknown));
        if lack.is_some() {
            self.kept.remove(access, people);
        }
        lack
    }

    /// Waits until a snapshot can have what one lacked.
    async fn supply(
        &self,
        lack: Lack,
        mut changes: tokio::sync::watch::Receiver<u64>,
        tries: &mut Tries,
    ) -> Result<(), Error> {
        // What is heard of Postgres may be ahead of what it answers with.
        if !tries.again().await {
            return Err(late());
        }
        let supplied = match lack {
            Lack::Event(shard, seq) => self.applied.wait(shard, seq, tries.left()).await,
            Lack::Unknown => timeout(tries.left(), changes.changed()).await.is_ok(),
        };
        if supplied { Ok(()) } else { Err(late()) }
    }

    /// A room that Postgres has not got yet, as it was made; `None` where the log has none either. Where people were
    /// let in since, only what is `good` for the asker is known: nobody else is told no by how it was made.
    async fn unapplied(
        &self,
        room: RoomId,
        good: &(impl Fn(&RoomAccess) -> bool + Sync),
    ) -> Result<Option<Result<RoomAccess, Lack>>, Error> {
        let names = &[EventName::Chatroom, EventName::RoomMade];
        let made = log::get_event(&self.jetstream, Shard::SYSTEM, room.0, names).await?;
        let Some((_, Event::Chatroom(made) | Event::RoomMade(made))) = made else { return Ok(None) };
        // The rooms of a team depend on what Postgres alone has.
        let is_team = made.team.is_some();
        let access = as_made(room, made);
        let known = match self.heard.whole_life(room.0, &Channel::Room(room)) {
            Some(Life::Quiet) => !is_team,
            Some(Life::Grew) => !is_team && good(&access),
            Some(Life::Changed) | None => false,
        };
        Ok(Some(if known { Ok(access) } else { Err(Lack::Event(Shard::SYSTEM, room.0)) }))
    }

    /// What a snapshot says that it contains.
    fn seen<T>(&self, facts: &Facts, judge: impl Fn(&[Seen<'_>]) -> T) -> T {
        let room = Channel::Room(facts.id);
        let seen = Seen { channel: &room, as_of: facts.as_of };
        match facts.team.map(Channel::Team) {
            None => judge(&[seen]),
            Some(team) => judge(&[seen, Seen { channel: &team, as_of: facts.team_as_of }]),
        }
    }

    /// Whether a snapshot of a team, up to `as_of` of its shard, lacks something; then waits for it.
    ///
    /// # Errors
    /// When it does not come in time.
    pub(crate) async fn contains(&self, team: TeamId, as_of: u64, tries: &mut Tries) -> Result<bool, Error> {
        let channel = Channel::Team(team);
        let changes = self.heard.changes();
        let Some(lack) = self.heard.lacks(&[Seen { channel: &channel, as_of }]) else { return Ok(true) };
        self.stale.increment(1);
        self.supply(lack, changes, tries).await?;
        Ok(false)
    }
}

fn late() -> Error {
    Error::unavailable("Whether you may do that", &"what is stored lags behind what was decided")
}

fn as_made(room: RoomId, made: Room) -> RoomAccess {
    let org_id = match made.detail {
        Some(RoomDetail::Support { org_id, .. }) => Some(org_id),
        _ => None,
    };
    let asked_at = Instant::now();
    let facts = Facts {
        id: room,
        name: made.name,
        description: made.description,
        kind: made.kind,
        creator: made.user.clone(),
        created_at: made.created_at,
        manager: made.user,
        closed: false,
        team: made.team,
        org_id,
        users: Members::of(made.users.iter().cloned()),
        is_applied: false,
        last_event: 0,
        as_of: 0,
        team_as_of: 0,
        asked_at,
    };
    RoomAccess::new(Arc::new(facts)).with(made.users, 0, asked_at)
}
