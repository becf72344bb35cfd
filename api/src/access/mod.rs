//! Answers who may do what in a room, from a cache where that is safe.
//!
//! What must hold: an answer is as good as a new snapshot that contains every received control event. A cached "no" is
//! never given. A cached "yes" is given for twenty seconds, and as long as Postgres does not answer, while the
//! subscription to control events is not interrupted. However many requests ask, one query runs for a room at a time.
//! A control event causes its room to be read again. A snapshot names a bounded number of members; of a larger room
//! the members among those who ask are looked up, and a cached membership ends by the event that ends it.

mod entries;
mod invalidations;
mod listener;
mod matrix;
mod retry_budget;
mod room_access;
mod room_load;

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
    matrix::{can_delete, can_edit},
    retry_budget::RetryBudget,
    room_access::{RoomAccess, RoomSnapshot},
};
use crate::{
    database::{APPLIED_TIMEOUT, ReadPool},
    queries::members::Members,
};
use entries::AccessEntries;
use invalidations::{AccessInvalidations, ChangesSinceCreation, SnapshotPosition, Stale};
pub(crate) use listener::listen;
use room_load::{LoadedAccess, RoomLoad};

/// How long a cached "yes" is given: a removal whose event was lost counts after that. (With 5 s, a third of
/// Postgres's work for 500 rooms of 2 messages a second each was this query.)
const CACHED_YES_MAX_AGE: Duration = Duration::from_secs(20);
/// After Postgres did not answer, cached answers are given for so long without asking it.
const DATABASE_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a sender who has joined the room waits for Postgres if no received event speaks against them.
const DATABASE_WAIT_AFTER_JOIN: Duration = Duration::from_millis(500);
/// Maximum rooms whose queries are shared by the requests that wait for them.
const LOADING_ROOMS_MAX: usize = 10_000;

/// The cache of access to rooms of one api node.
pub(crate) struct AccessCache {
    pool: ReadPool,
    jetstream: Context,
    shards: ShardCount,
    applied: AppliedWatch,
    invalidations: AccessInvalidations,
    entries: AccessEntries,
    loads: Cache<RoomId, Arc<RoomLoad>>,
    database_failed_at: Mutex<Option<Instant>>,
    hits: Counter,
    misses: Counter,
    stale: Counter,
    served_while_down: Counter,
}

impl AccessCache {
    /// An empty cache.
    pub(crate) fn new(pool: ReadPool, jetstream: Context, shards: ShardCount, applied: AppliedWatch) -> Self {
        let counter = |outcome: &'static str| metrics::counter!(names::RIGHTS_TOTAL, "outcome" => outcome);
        Self {
            pool,
            jetstream,
            shards,
            applied,
            invalidations: AccessInvalidations::new(shards),
            entries: AccessEntries::new(),
            loads: Cache::new(LOADING_ROOMS_MAX),
            database_failed_at: Mutex::new(None),
            hits: counter("hit"),
            misses: counter("miss"),
            stale: counter("stale"),
            served_while_down: counter("held"),
        }
    }

    /// Access to a room for these people; from the cache only if the cached answer is `good` for the asker.
    ///
    /// # Errors
    /// When there is no such room, or it can't be known now.
    pub(crate) async fn room_access(
        &self,
        room: RoomId,
        people: &[&UserId],
        is_sufficient: impl Fn(&RoomAccess) -> bool + Sync,
    ) -> Result<RoomAccess, Error> {
        let now = Instant::now();
        if let Some(access) = self
            .cached(room, people)
            .filter(|kept| kept.queried_at + CACHED_YES_MAX_AGE > now && is_sufficient(kept))
        {
            self.hits.increment(1);
            return Ok(access);
        }
        if self.is_database_down()
            && let Some(access) = self.cached(room, people).filter(&is_sufficient)
        {
            self.served_while_down.increment(1);
            return Ok(access);
        }
        self.misses.increment(1);
        match self.load_for(room, people, now, &is_sufficient).await {
            Err(error) if error.code == ErrorCode::Unavailable => {
                let cached = self.cached(room, people).filter(&is_sufficient).ok_or(error)?;
                self.served_while_down.increment(1);
                Ok(cached)
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
    pub(crate) async fn room_access_since_joined(
        &self,
        room: RoomId,
        user: &UserId,
        is_sufficient: impl Fn(&RoomAccess) -> bool + Send + Sync,
    ) -> Result<Option<RoomAccess>, Error> {
        if let Some(access) = self.cached(room, &[user]).filter(&is_sufficient) {
            self.hits.increment(1);
            return Ok(Some(access));
        }
        let channel = Channel::Room(room);
        let is_unrevoked = || !self.invalidations.is_recently_revoked(&channel);
        if is_unrevoked() && self.is_database_down() {
            self.served_while_down.increment(1);
            return Ok(None);
        }
        self.misses.increment(1);
        let check_timeout = if is_unrevoked() { DATABASE_WAIT_AFTER_JOIN } else { APPLIED_TIMEOUT * 2 };
        let read = timeout(check_timeout, self.load_for(room, &[user], Instant::now(), &is_sufficient)).await;
        match read {
            Err(_) if is_unrevoked() => *self.database_failed_at() = Some(Instant::now()),
            Err(_) => return Err(database_lags_error()),
            Ok(Err(error)) if error.code == ErrorCode::Unavailable && is_unrevoked() => {}
            Ok(read) => return read.map(Some),
        }
        self.served_while_down.increment(1);
        Ok(None)
    }

    fn database_failed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.database_failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether Postgres did not answer within the last second. Once a second it is false for one asker, who tries again.
    fn is_database_down(&self) -> bool {
        let mut failed_at = self.database_failed_at();
        match failed_at.as_mut() {
            Some(at) if at.elapsed() < DATABASE_RETRY_INTERVAL => true,
            Some(at) => {
                *at = Instant::now();
                false
            }
            None => false,
        }
    }

    /// The cached access to a room for these people, if no newer event was received.
    fn cached(&self, room: RoomId, people: &[&UserId]) -> Option<RoomAccess> {
        self.entries.get(room, people).filter(|access| self.is_current(access))
    }

    fn is_current(&self, access: &RoomAccess) -> bool {
        self.invalidations.is_connected()
            && !self.with_snapshots(&access.room, |seen| self.invalidations.is_outdated(seen))
    }

    /// A room, seen with these people, asked for at `since` or later: no answer given before that is missing.
    /// One query runs for a room at a time; the requests that wait share the next answer.
    ///
    /// # Errors
    /// When there is no such room, or it can't be known now.
    pub(crate) async fn load(
        &self,
        room: RoomId,
        people: &[&UserId],
        since: Instant,
    ) -> Result<RoomAccess, Error> {
        self.load_for(room, people, since, &|_| false).await
    }

    /// The same for an asker who knows enough of a room that only grew since it was made where it is `good`.
    async fn load_for(
        &self,
        room: RoomId,
        people: &[&UserId],
        since: Instant,
        is_sufficient: &(impl Fn(&RoomAccess) -> bool + Sync),
    ) -> Result<RoomAccess, Error> {
        let flight = self.loads.get_or_insert_with(&room, || Ok::<_, Error>(Arc::default()))?;
        flight.join(people);
        let mut last = flight.last_answer.lock().await;
        let shared =
            last.as_ref().and_then(|last| last.for_caller(since, people, |access| self.is_current(access)));
        if let Some(answer) = shared {
            return answer;
        }
        let (asked_at, all) = (Instant::now(), flight.take_people(people));
        let read = self.load_fresh(room, &Vec::from_iter(&all), is_sufficient).await;
        // The cache and this asker hold the turn; where nobody else does, nobody waits for the answer.
        let is_shared = Arc::strong_count(&flight) > 2 || read.is_err();
        *last = is_shared.then(|| LoadedAccess { queried_at: asked_at, people: all, result: read.clone() });
        read.map(|access| access.for_people(people))
    }

    /// A new snapshot that contains every received event: waits up to a second for it.
    async fn load_fresh(
        &self,
        room: RoomId,
        people: &[&UserId],
        is_sufficient: &(impl Fn(&RoomAccess) -> bool + Sync),
    ) -> Result<RoomAccess, Error> {
        let mut budget = RetryBudget::within(APPLIED_TIMEOUT);
        loop {
            let changes = self.invalidations.subscribe();
            let generation = self.invalidations.generation();
            let asked = room_access::read_room(&self.pool, self.shards, room, people, Instant::now()).await;
            let down = asked.as_ref().is_err_and(|error| error.code == ErrorCode::Unavailable);
            *self.database_failed_at() = down.then(Instant::now);
            let stale = match asked? {
                Some(access) => match self.insert(&access, people, generation) {
                    None => return Ok(access),
                    Some(lack) => lack,
                },
                None => match self.access_of_unapplied_room(room, is_sufficient).await? {
                    Some(Ok(access)) => return Ok(access),
                    Some(Err(lack)) => lack,
                    // It has left the log since: Postgres has it by now, or there is none.
                    None => match room_access::read_room(&self.pool, self.shards, room, &[], Instant::now())
                        .await?
                    {
                        Some(_) => continue,
                        None => return Err(Error::not_found()),
                    },
                },
            };
            self.stale.increment(1);
            self.wait_until_fresh(stale, changes, &mut budget).await?;
        }
    }

    /// Caches a snapshot, unless it is too old: then says why.
    fn insert(&self, access: &RoomAccess, people: &[&UserId], generation: u64) -> Option<Stale> {
        let lacks = || self.with_snapshots(&access.room, |seen| self.invalidations.find_stale(seen));
        if let Some(lack) = lacks() {
            return Some(lack);
        }
        if !self.invalidations.is_connected() {
            return None;
        }
        self.entries.insert(access, people);
        // What was heard in between found nothing to drop.
        let lack =
            lacks().or((self.invalidations.generation() != generation).then_some(Stale::MinSeqUnknown));
        if lack.is_some() {
            self.entries.remove(access, people);
        }
        lack
    }

    /// Waits until a snapshot can have what one lacked.
    async fn wait_until_fresh(
        &self,
        stale: Stale,
        mut changes: tokio::sync::watch::Receiver<u64>,
        budget: &mut RetryBudget,
    ) -> Result<(), Error> {
        // What is heard of Postgres may be ahead of what it answers with.
        if !budget.wait_for_retry().await {
            return Err(database_lags_error());
        }
        let supplied = match stale {
            Stale::MissingEvent(shard, seq) => self.applied.wait(shard, seq, budget.remaining()).await,
            Stale::MinSeqUnknown => timeout(budget.remaining(), changes.changed()).await.is_ok(),
        };
        if supplied { Ok(()) } else { Err(database_lags_error()) }
    }

    /// A room that Postgres has not got yet, as it was made; `None` where the log has none either. Where people were
    /// let in since, only what is `good` for the asker is known: nobody else is told no by how it was made.
    async fn access_of_unapplied_room(
        &self,
        room: RoomId,
        is_sufficient: &(impl Fn(&RoomAccess) -> bool + Sync),
    ) -> Result<Option<Result<RoomAccess, Stale>>, Error> {
        let names = &[EventName::Chatroom, EventName::RoomMade];
        let made = log::get_event(&self.jetstream, Shard::SYSTEM, room.0, names).await?;
        let Some((_, Event::Chatroom(made) | Event::RoomMade(made))) = made else { return Ok(None) };
        // The rooms of a team depend on what Postgres alone has.
        let is_team = made.team.is_some();
        let access = access_as_created(room, made);
        let known = match self.invalidations.changes_since_creation(room.0, &Channel::Room(room)) {
            Some(ChangesSinceCreation::Unchanged) => !is_team,
            Some(ChangesSinceCreation::OnlyAdditions) => !is_team && is_sufficient(&access),
            Some(ChangesSinceCreation::Changed) | None => false,
        };
        Ok(Some(if known { Ok(access) } else { Err(Stale::MissingEvent(Shard::SYSTEM, room.0)) }))
    }

    /// The snapshots of room and team that an access was read from.
    fn with_snapshots<T>(&self, facts: &RoomSnapshot, judge: impl Fn(&[SnapshotPosition<'_>]) -> T) -> T {
        let room = Channel::Room(facts.id);
        let seen = SnapshotPosition { channel: &room, as_of: facts.as_of };
        match facts.team.map(Channel::Team) {
            None => judge(&[seen]),
            Some(team) => judge(&[seen, SnapshotPosition { channel: &team, as_of: facts.team_as_of }]),
        }
    }

    /// Whether a snapshot of a team, up to `as_of` of its shard, lacks something; then waits for it.
    ///
    /// # Errors
    /// When it does not come in time.
    pub(crate) async fn is_fresh_for_team(
        &self,
        team: TeamId,
        as_of: u64,
        budget: &mut RetryBudget,
    ) -> Result<bool, Error> {
        let channel = Channel::Team(team);
        let changes = self.invalidations.subscribe();
        let Some(lack) = self.invalidations.find_stale(&[SnapshotPosition { channel: &channel, as_of }])
        else {
            return Ok(true);
        };
        self.stale.increment(1);
        self.wait_until_fresh(lack, changes, budget).await?;
        Ok(false)
    }
}

fn database_lags_error() -> Error {
    Error::unavailable("Whether you may do that", &"what is stored lags behind what was decided")
}

fn access_as_created(room: RoomId, made: Room) -> RoomAccess {
    let org_id = match made.detail {
        Some(RoomDetail::Support { org_id, .. }) => Some(org_id),
        _ => None,
    };
    let asked_at = Instant::now();
    let facts = RoomSnapshot {
        id: room,
        name: made.name,
        description: made.description,
        kind: made.kind,
        creator: made.user.clone(),
        created_at: made.created_at,
        manager: made.user,
        is_closed: false,
        team: made.team,
        org_id,
        users: Members::from_users(made.users.iter().cloned()),
        is_applied: false,
        last_event: 0,
        as_of: 0,
        team_as_of: 0,
        queried_at: asked_at,
    };
    RoomAccess::new(Arc::new(facts)).with_members(made.users, 0, asked_at)
}
