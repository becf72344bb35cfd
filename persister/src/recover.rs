//! `roomcast recover`: what only a person can decide where the log and Postgres disagree.
//!
//! What must hold: a shard is changed only while its lock is held, and as it is found then; Postgres
//! first, so that wherever this stops it can be run again, with no id given twice. What the log is
//! known to have lost is given up only when told so, and noted.

use anyhow::Context as _;
use async_nats::jetstream::Context;
use protocol::id::Shard;
use service::nats::{self, BrokerUser};
use sqlx::{Connection as _, PgConnection};

use crate::{
    config::{Config, LogArgs},
    lead,
    repair::{Judged, Verdict},
    session::Database,
    streams::{self, Appends},
    watermark::{self, Place},
};

/// What was found of a shard, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The shard.
    pub shard: Shard,
    /// One line for a person.
    pub text: String,
    /// Something is left to do: the shard can't go on yet.
    pub left: bool,
}

/// What a shard needs.
enum Need {
    /// Nothing, for the reason said.
    Nothing(String),
    /// Its log is gone: a new one.
    NewLog { lost: Option<(u64, u64)> },
    /// Its log has lost events that Postgres has not got: to go on without them.
    Skip { lost: (u64, u64), judged: Box<Judged> },
}

/// Makes a log that is gone anew, and goes on without lost events where `accept_loss` says so. Everything
/// else is left as it is, and said.
///
/// # Errors
/// When broker or database do not answer, or a change could not be made.
pub async fn recover(config: &Config, accept_loss: bool) -> anyhow::Result<Vec<Finding>> {
    let shards = config.log.shard_count()?;
    let database = Database::new(&config.database)?;
    let mut session = database.connect().await.context("DATABASE_URL")?;
    let connection = nats::connect_once(&config.nats, BrokerUser::Persister).await.context("NATS_URL")?;
    let jetstream = connection.jetstream();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM watermark")
        .fetch_one(&mut session)
        .await
        .context("DATABASE_URL: not a database of Roomcast")?;
    anyhow::ensure!(
        rows == i64::from(shards.get()) + 1,
        "ROOMCAST_SHARDS is {}, but the database has {} shards",
        shards.get(),
        rows - 1
    );
    let mut findings = Vec::new();
    for shard in shards.all() {
        let recovered = one(&mut session, &jetstream, &config.log, shard, accept_loss).await;
        let (text, left) = recovered.with_context(|| format!("shard {shard}"))?;
        findings.push(Finding { shard, text, left });
    }
    session.close().await?;
    Ok(findings)
}

async fn one(
    session: &mut PgConnection,
    jetstream: &Context,
    args: &LogArgs,
    shard: Shard,
    accept_loss: bool,
) -> anyhow::Result<(String, bool)> {
    let place = watermark::read(session, shard).await?;
    let need = look(jetstream, shard, &place).await?;
    if let Need::Nothing(text) = need {
        return Ok((text, false));
    }
    let (found, would) = describe(&need, &place);
    if need.is_loss() && !accept_loss {
        return Ok((format!("{found}: with --accept-loss, {would}"), true));
    }
    if !lead::wait(session, shard).await? {
        return Ok((format!("{found}, but a persister leads the shard: stop it, and run this again"), true));
    }
    // As it is now that nobody else changes it.
    let place = watermark::read(session, shard).await?;
    let need = look(jetstream, shard, &place).await?;
    let (found, would) = describe(&need, &place);
    let done = change(session, jetstream, args, shard, &place, need).await;
    lead::unlock(session, shard).await?;
    done?;
    Ok((format!("{found}: done: {would}"), false))
}

async fn look(jetstream: &Context, shard: Shard, place: &Place) -> anyhow::Result<Need> {
    let Some(judged) = Judged::of(jetstream, shard, place).await? else {
        return Ok(if place.is_fresh() {
            Need::Nothing("no log yet, and nothing in Postgres: the persister makes it".to_owned())
        } else {
            let lost = (place.seen > place.seq).then_some((place.seq + 1, place.seen));
            Need::NewLog { lost }
        });
    };
    Ok(match judged.verdict {
        Verdict::Hole { from, to } => Need::Skip { lost: (from, to), judged: Box::new(judged) },
        Verdict::Continues => Need::Nothing(format!("well: the log goes on after {}", place.seq)),
        Verdict::Shorter | Verdict::Rewritten => Need::Nothing(format!(
            "the log ends at {}, Postgres at {}: the persister repairs that by itself",
            judged.state.last, place.seq
        )),
    })
}

impl Need {
    const fn lost(&self) -> Option<(u64, u64)> {
        match self {
            Self::Nothing(_) => None,
            Self::NewLog { lost } => *lost,
            Self::Skip { lost, .. } => Some(*lost),
        }
    }

    const fn is_loss(&self) -> bool {
        self.lost().is_some()
    }
}

/// What was found, and what is done about it.
fn describe(need: &Need, place: &Place) -> (String, String) {
    let next = need.lost().map_or(place.seq, |(_, to)| to) + 1;
    match need {
        Need::Nothing(text) => (text.clone(), "nothing".to_owned()),
        Need::NewLog { lost: None } => (
            format!("the log is gone, Postgres has its events up to {}", place.seq),
            format!("a new log, from {next} on, in a new epoch"),
        ),
        Need::NewLog { lost: Some((from, to)) } => (
            format!("the log is gone, and with it {from} to {to}, which Postgres has not got"),
            format!("a new log, from {next} on, in a new epoch, and a note of the loss in lost_range"),
        ),
        Need::Skip { lost: (from, to), .. } => (
            format!("the log has lost {from} to {to}, which Postgres has not got"),
            format!("on from {next}, in a new epoch, and a note of the loss in lost_range"),
        ),
    }
}

async fn change(
    session: &mut PgConnection,
    jetstream: &Context,
    args: &LogArgs,
    shard: Shard,
    place: &Place,
    need: Need,
) -> anyhow::Result<()> {
    let lost = need.lost();
    match need {
        Need::Nothing(_) => Ok(()),
        Need::NewLog { .. } => {
            let epoch = place.epoch + 1;
            watermark::skip(session, shard, place, epoch, lost).await?;
            let next = lost.map_or(place.seq, |(_, to)| to) + 1;
            streams::make_anew(jetstream, args, shard, epoch, next).await
        }
        Need::Skip { judged, .. } => {
            let epoch = place.epoch.max(judged.state.epoch) + 1;
            watermark::skip(session, shard, place, epoch, lost).await?;
            streams::begin_epoch(jetstream, &judged.info.config, epoch, None, Appends::Taken).await
        }
    }
}
