//! Who may do what in a room, from memory where that is safe.
//!
//! What must hold: an answer is as true as a new snapshot that contains every control event heard.
//! A kept "no" is never given; a kept "yes" for twenty seconds, and for as long as Postgres does not
//! answer, while hearing of control events has no break. However many ask, a room is read once.

mod heard;
mod listen;
mod tries;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::jetstream::Context;
use metrics::Counter;
use quick_cache::{Weighter, sync::Cache};
use shared::{
    error::{Error, ErrorCode},
    event::{Event, EventName, Room, RoomDetail},
    id::{RoomId, Shard, ShardCount, TeamId},
    log::AppliedWatch,
    metric_names as names,
    subject::Channel,
};
use tokio::time::{Instant, timeout};

use crate::{
    commands::stored,
    database::Database,
    queries::facts::{self, Facts},
    state::APPLY,
};
use heard::{Heard, Lack, Life, Seen};
pub(crate) use listen::listen;
pub(crate) use tries::Tries;

/// How long a kept "yes" is given: should a removal not have been heard, it counts after that. (With 5 s, 500
/// rooms of 2 messages a second each paid a third of all that Postgres did for that question.)
const FRESH: Duration = Duration::from_secs(20);
/// After Postgres did not answer, kept answers are given without asking it, for that long.
const DOWN: Duration = Duration::from_secs(1);
/// How long a sender who was let into a room waits for Postgres where nothing speaks against them.
const PATIENCE: Duration = Duration::from_millis(500);
/// People in all rooms that are kept; a room counts as one more.
const PEOPLE: u64 = 1_000_000;
/// Rooms expected among them.
const ROOMS: usize = 50_000;
/// Rooms read at a time for which askers wait for each other.
const TURNS: usize = 10_000;

#[derive(Clone)]
struct People;

impl Weighter<RoomId, Arc<Facts>> for People {
    fn weight(&self, _: &RoomId, facts: &Arc<Facts>) -> u64 {
        1 + facts.members.len() as u64
    }
}

/// Whose turn it is to read a room, and why the last one had no answer.
type Turn = Arc<tokio::sync::Mutex<Option<(Instant, Error)>>>;

/// A node's rights.
pub(crate) struct Rights {
    pool: Database,
    jetstream: Context,
    shards: ShardCount,
    applied: AppliedWatch,
    heard: Heard,
    kept: Cache<RoomId, Arc<Facts>, People>,
    turns: Cache<RoomId, Turn>,
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
            kept: Cache::with_weighter(ROOMS, PEOPLE, People),
            turns: Cache::new(TURNS),
            failed_at: Mutex::new(None),
            hits: counter("hit"),
            misses: counter("miss"),
            stale: counter("stale"),
            held: counter("held"),
        }
    }

    /// The facts of a room; those that are kept only where they are `good` for the asker.
    ///
    /// # Errors
    /// When there is no such room, or it can't be known now.
    pub(crate) async fn facts(
        &self,
        room: RoomId,
        good: impl Fn(&Facts) -> bool + Sync,
    ) -> Result<Arc<Facts>, Error> {
        let now = Instant::now();
        if let Some(facts) = self.kept(room).filter(|facts| facts.asked_at + FRESH > now && good(facts)) {
            self.hits.increment(1);
            return Ok(facts);
        }
        if self.is_down()
            && let Some(facts) = self.kept(room).filter(|facts| good(facts))
        {
            self.held.increment(1);
            return Ok(facts);
        }
        self.misses.increment(1);
        match self.read_for(room, now, &good).await {
            Err(error) if error.code == ErrorCode::Unavailable => {
                let held = self.kept(room).filter(|facts| good(facts)).ok_or(error)?;
                self.held.increment(1);
                Ok(held)
            }
            read => read,
        }
    }

    /// The facts of a room for one who was let into it: those that are kept where they are `good`, however old, else
    /// those of a new snapshot. `None` where nothing was heard that took a right away there, and Postgres does not
    /// answer in a short time: then the right by which they were let in stands.
    ///
    /// # Errors
    /// When there is no such room, or what was heard of it is not applied.
    pub(crate) async fn since_joined(
        &self,
        room: RoomId,
        good: impl Fn(&Facts) -> bool + Send + Sync,
    ) -> Result<Option<Arc<Facts>>, Error> {
        if let Some(facts) = self.kept(room).filter(|facts| good(facts)) {
            self.hits.increment(1);
            return Ok(Some(facts));
        }
        let channel = Channel::Room(room);
        let stands = || !self.heard.is_narrowed(&channel);
        if stands() && self.is_down() {
            self.held.increment(1);
            return Ok(None);
        }
        self.misses.increment(1);
        let patience = if stands() { PATIENCE } else { APPLY * 2 };
        let read = timeout(patience, self.read_for(room, Instant::now(), &good)).await;
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

    /// Whether Postgres has just not answered. One asker a second is told no, and tries it again.
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

    /// What is kept of a room, if nothing newer was heard.
    fn kept(&self, room: RoomId) -> Option<Arc<Facts>> {
        let facts = self.kept.get(&room)?;
        let current = self.heard.is_connected() && !self.seen(&facts, |seen| self.heard.is_outdated(seen));
        current.then_some(facts)
    }

    /// The facts of a room, asked for at `since` or later: nothing that was answered before that is
    /// missing. One question is under way for a room at a time; who waits shares the next answer.
    ///
    /// # Errors
    /// When there is no such room, or it can't be known now.
    pub(crate) async fn read(&self, room: RoomId, since: Instant) -> Result<Arc<Facts>, Error> {
        self.read_for(room, since, &|_| false).await
    }

    /// The same for one to whom a room that only grew since it was made is known well enough where it is `good`.
    async fn read_for(
        &self,
        room: RoomId,
        since: Instant,
        good: &(impl Fn(&Facts) -> bool + Sync),
    ) -> Result<Arc<Facts>, Error> {
        let turn = self.turns.get_or_insert_with(&room, || Ok::<_, Error>(Turn::default()))?;
        let mut failed = turn.lock().await;
        if let Some(facts) = self.kept(room).filter(|facts| facts.asked_at >= since) {
            return Ok(facts);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(asked_at, _)| *asked_at >= since) {
            return Err(error.clone());
        }
        let asked_at = Instant::now();
        let read = self.snapshot(room, good).await;
        *failed = read.as_ref().err().map(|error| (asked_at, error.clone()));
        read
    }

    /// A new snapshot that lacks nothing heard: waits up to a second for it.
    async fn snapshot(
        &self,
        room: RoomId,
        good: &(impl Fn(&Facts) -> bool + Sync),
    ) -> Result<Arc<Facts>, Error> {
        let mut tries = Tries::within(APPLY);
        loop {
            let changes = self.heard.changes();
            let generation = self.heard.generation();
            let asked = facts::facts(&self.pool, self.shards, room, Instant::now()).await;
            let down = asked.as_ref().is_err_and(|error| error.code == ErrorCode::Unavailable);
            *self.failed_at() = down.then(Instant::now);
            let lack = match asked? {
                Some(facts) => match self.keep(Arc::new(facts), generation) {
                    Ok(facts) => return Ok(facts),
                    Err(lack) => lack,
                },
                None => match self.unapplied(room, good).await? {
                    Some(Ok(facts)) => return Ok(Arc::new(facts)),
                    Some(Err(lack)) => lack,
                    // It has left the log since: Postgres has it by now, or there is none.
                    None => match facts::facts(&self.pool, self.shards, room, Instant::now()).await? {
                        Some(_) => continue,
                        None => return Err(Error::not_found()),
                    },
                },
            };
            self.stale.increment(1);
            self.supply(lack, changes, &mut tries).await?;
        }
    }

    /// Keeps a snapshot, unless it lacks something.
    fn keep(&self, facts: Arc<Facts>, generation: u64) -> Result<Arc<Facts>, Lack> {
        let lacks = || self.seen(&facts, |seen| self.heard.lacks(seen));
        if let Some(lack) = lacks() {
            return Err(lack);
        }
        if !self.heard.is_connected() {
            return Ok(facts);
        }
        self.kept.insert(facts.room, facts.clone());
        // What was heard in between found nothing to drop.
        let lack = lacks().or((self.heard.generation() != generation).then_some(Lack::Unknown));
        match lack {
            None => Ok(facts),
            Some(lack) => {
                self.kept.remove(&facts.room);
                Err(lack)
            }
        }
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
        good: &(impl Fn(&Facts) -> bool + Sync),
    ) -> Result<Option<Result<Facts, Lack>>, Error> {
        let names = &[EventName::Chatroom, EventName::RoomMade];
        let made = stored(&self.jetstream, Shard::SYSTEM, room.0, names).await?;
        let Some((_, Event::Chatroom(made) | Event::RoomMade(made))) = made else { return Ok(None) };
        // The rooms of a team depend on what Postgres alone has.
        let is_team = made.team.is_some();
        let facts = as_made(room, made);
        let known = match self.heard.whole_life(room.0, &Channel::Room(room)) {
            Some(Life::Quiet) => !is_team,
            Some(Life::Grew) => !is_team && good(&facts),
            Some(Life::Changed) | None => false,
        };
        Ok(Some(if known { Ok(facts) } else { Err(Lack::Event(Shard::SYSTEM, room.0)) }))
    }

    /// What a snapshot says that it contains.
    fn seen<T>(&self, facts: &Facts, judge: impl Fn(&[Seen<'_>]) -> T) -> T {
        let room = Channel::Room(facts.room);
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

fn as_made(room: RoomId, made: Room) -> Facts {
    let org_id = match made.detail {
        Some(RoomDetail::Support { org_id, .. }) => Some(org_id),
        _ => None,
    };
    Facts {
        room,
        name: made.name,
        description: made.description,
        kind: made.kind,
        creator: made.user.clone(),
        created_at: made.created_at,
        manager: made.user,
        closed: false,
        team: made.team,
        org_id,
        members: made.users.into_iter().collect(),
        last_event: 0,
        as_of: 0,
        team_as_of: 0,
        asked_at: Instant::now(),
    }
}
