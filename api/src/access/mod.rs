//! Answers who may do what in a room, from a cache where that is safe.
//!
//! What must hold: an answer is as good as a new snapshot that contains every received control event. A cached "no"
//! is never returned. A cached "yes" is returned for up to [`cached_yes::MAX_AGE`], or for as long as Postgres does not
//! answer, while the subscription to control events is not interrupted. However many requests wait, one query runs
//! for a room at a time. A control event removes its room from the cache. A snapshot names a bounded number of
//! members; in a larger room the people asked about are looked up, and a cached membership ends with the event that
//! ends it.

mod cached_yes;
mod entries;
mod invalidations;
mod listener;
mod matrix;
pub(crate) mod membership;
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

/// After a failure of Postgres, cached answers are returned for this long without a query.
const DATABASE_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a sender who has joined the room waits for Postgres, if no received event may have revoked their access.
const DATABASE_WAIT_AFTER_JOIN: Duration = Duration::from_millis(500);
/// Maximum rooms whose queries are shared by the requests that wait for them.
const LOADING_ROOMS_MAX: usize = 10_000;

/// Caches, on one api node, rooms and their members, by which access is decided.
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

    /// Returns access to a room for these people; from the cache only if `is_sufficient` accepts the cached answer.
    ///
    /// # Errors
    /// Fails if there is no such room, or if access can't be determined now.
    pub(crate) async fn room_access(
        &self,
        room: RoomId,
        people: &[&UserId],
        is_sufficient: impl Fn(&RoomAccess) -> bool + Sync,
    ) -> Result<RoomAccess, Error> {
        let now = Instant::now();
        if let Some(access) = self
            .cached(room, people)
            .filter(|cached| cached.queried_at + cached_yes::max_age(room) > now && is_sufficient(cached))
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

    /// Returns access to a room for a person who has joined it: the cached answer, of any age, if `is_sufficient`
    /// accepts it, else a new snapshot. Returns `None` if no received event may have revoked access to the room and
    /// Postgres does not answer within [`DATABASE_WAIT_AFTER_JOIN`]: then the grant of the join still holds.
    ///
    /// # Errors
    /// Fails if there is no such room, or if Postgres does not apply a received event in time.
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

    /// Returns whether Postgres failed within the last [`DATABASE_RETRY_INTERVAL`]. Once in each interval it returns
    /// false to one caller, who tries again.
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

    /// Returns cached access to a room for these people, unless a newer control event was received.
    fn cached(&self, room: RoomId, people: &[&UserId]) -> Option<RoomAccess> {
        self.entries.get(room, people).filter(|access| self.is_current(access))
    }

    fn is_current(&self, access: &RoomAccess) -> bool {
        self.invalidations.is_connected()
            && !self.with_snapshots(&access.room, |positions| self.invalidations.is_outdated(positions))
    }

    /// Reads access to a room for these people by a query that starts at `since` or later. The answer contains every
    /// control event that this node has received. One query runs for a room at a time; the requests that wait for it
    /// share the next answer.
    ///
    /// Fails if there is no such room, or if access can't be determined now.
    /// When there is no such room, or it can't be known now.
    pub(crate) async fn load(
        &self,
        room: RoomId,
        people: &[&UserId],
        since: Instant,
    ) -> Result<RoomAccess, Error> {
        self.load_for(room, people, since, &|_| false).await
    }

    /// Like [`Self::load`]. For a room that Postgres lacks and that has only gained members since its creation, the
    /// state at creation is returned if `is_sufficient` accepts it.
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
        // The cache and this request hold the load; if nobody else does, nobody waits for the answer.
        let is_shared = Arc::strong_count(&flight) > 2 || read.is_err();
        *last = is_shared.then(|| LoadedAccess { queried_at: asked_at, people: all, result: read.clone() });
        read.map(|access| access.for_people(people))
    }

    /// Reads a snapshot that contains every received event: retries for up to [`APPLIED_TIMEOUT`].
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
            let loaded = room_access::read_room(&self.pool, self.shards, room, people, Instant::now()).await;
            let down = loaded.as_ref().is_err_and(|error| error.code == ErrorCode::Unavailable);
            *self.database_failed_at() = down.then(Instant::now);
            let stale = match loaded? {
                Some(access) => match self.insert(&access, people, generation) {
                    None => return Ok(access),
                    Some(stale) => stale,
                },
                None => match self.access_of_unapplied_room(room, is_sufficient).await? {
                    Some(Ok(access)) => return Ok(access),
                    Some(Err(stale)) => stale,
                    // The log no longer has the creation: Postgres has the room by now, or there is none.
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

    /// Caches a snapshot, unless it is too old: then returns why.
    fn insert(&self, access: &RoomAccess, people: &[&UserId], generation: u64) -> Option<Stale> {
        let find_stale =
            || self.with_snapshots(&access.room, |positions| self.invalidations.find_stale(positions));
        if let Some(stale) = find_stale() {
            return Some(stale);
        }
        if !self.invalidations.is_connected() {
            return None;
        }
        self.entries.insert(access, people);
        // An event that was received before the insert found nothing to remove.
        let stale =
            find_stale().or((self.invalidations.generation() != generation).then_some(Stale::MinSeqUnknown));
        if stale.is_some() {
            self.entries.remove(access, people);
        }
        stale
    }

    /// Waits until Postgres may have what a snapshot lacked.
    async fn wait_until_fresh(
        &self,
        stale: Stale,
        mut changes: tokio::sync::watch::Receiver<u64>,
        budget: &mut RetryBudget,
    ) -> Result<(), Error> {
        // The watch on applied events may be ahead of what a query reads.
        if !budget.wait_for_retry().await {
            return Err(database_lags_error());
        }
        let supplied = match stale {
            Stale::MissingEvent(shard, seq) => self.applied.wait(shard, seq, budget.remaining()).await,
            Stale::MinSeqUnknown => timeout(budget.remaining(), changes.changed()).await.is_ok(),
        };
        if supplied { Ok(()) } else { Err(database_lags_error()) }
    }

    /// Returns a room that Postgres lacks, as its creation in the log describes it; `None` if the log has no
    /// creation. If members were added since, returns it only if `is_sufficient` accepts it: the creation can confirm
    /// access, but no longer deny it.
    async fn access_of_unapplied_room(
        &self,
        room: RoomId,
        is_sufficient: &(impl Fn(&RoomAccess) -> bool + Sync),
    ) -> Result<Option<Result<RoomAccess, Stale>>, Error> {
        let names = &[EventName::Chatroom, EventName::RoomMade];
        let created = log::get_event(&self.jetstream, Shard::SYSTEM, room.0, names).await?;
        let Some((_, Event::Chatroom(created) | Event::RoomMade(created))) = created else { return Ok(None) };
        // Access to a team's room depends on the team's members, whom only Postgres has.
        let is_team = created.team.is_some();
        let access = access_as_created(room, created);
        let known = match self.invalidations.changes_since_creation(room.0, &Channel::Room(room)) {
            Some(ChangesSinceCreation::Unchanged) => !is_team,
            Some(ChangesSinceCreation::OnlyAdditions) => !is_team && is_sufficient(&access),
            Some(ChangesSinceCreation::Changed) | None => false,
        };
        Ok(Some(if known { Ok(access) } else { Err(Stale::MissingEvent(Shard::SYSTEM, room.0)) }))
    }

    /// Calls `judge` with the positions of the snapshots of room and team that an access was read from.
    fn with_snapshots<T>(&self, snapshot: &RoomSnapshot, judge: impl Fn(&[SnapshotPosition<'_>]) -> T) -> T {
        let room = Channel::Room(snapshot.id);
        let position = SnapshotPosition { channel: &room, as_of: snapshot.as_of };
        match snapshot.team.map(Channel::Team) {
            None => judge(&[position]),
            Some(team) => judge(&[position, SnapshotPosition { channel: &team, as_of: snapshot.team_as_of }]),
        }
    }

    /// Returns whether a snapshot of a team, up to `as_of` of its shard, is fresh; if not, waits until a new one may
    /// be.
    ///
    /// # Errors
    /// Fails if Postgres does not apply the missing event in time.
    pub(crate) async fn is_fresh_for_team(
        &self,
        team: TeamId,
        as_of: u64,
        budget: &mut RetryBudget,
    ) -> Result<bool, Error> {
        let channel = Channel::Team(team);
        let changes = self.invalidations.subscribe();
        let Some(stale) = self.invalidations.find_stale(&[SnapshotPosition { channel: &channel, as_of }])
        else {
            return Ok(true);
        };
        self.stale.increment(1);
        self.wait_until_fresh(stale, changes, budget).await?;
        Ok(false)
    }
}

fn database_lags_error() -> Error {
    Error::unavailable("The check of your rights", &"Postgres lacks a control event")
}

fn access_as_created(room: RoomId, created: Room) -> RoomAccess {
    let org_id = match created.detail {
        Some(RoomDetail::Support { org_id, .. }) => Some(org_id),
        _ => None,
    };
    let asked_at = Instant::now();
    let snapshot = RoomSnapshot {
        id: room,
        name: created.name,
        description: created.description,
        kind: created.kind,
        creator: created.user.clone(),
        created_at: created.created_at,
        manager: created.user,
        is_closed: false,
        team: created.team,
        org_id,
        users: Members::from_users(created.users.iter().cloned()),
        is_applied: false,
        last_event: 0,
        as_of: 0,
        team_as_of: 0,
        queried_at: asked_at,
    };
    RoomAccess::new(Arc::new(snapshot)).with_members(created.users, 0, asked_at)
}
