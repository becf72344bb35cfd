//! Who is in a room when its first socket comes: what Postgres has once it has all that came before. The log is not
//! read for it: whoever opens many rooms would have it read as often.
//!
//! The words of processes may be merged in any order, so what is heard meanwhile needs no gate.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use shared::{
    id::{RoomId, UserId},
    rpc::{ParticipantsRequest, expiry},
    subject::Channel,
};

use super::{Feed, Source, work::Work};

/// How long Postgres is waited for.
const APPLIED: Duration = Duration::from_secs(1);

/// A process's word on one person.
pub(super) struct Word {
    user: UserId,
    incarnation: u64,
    counter: u64,
    present: bool,
}

/// Everyone's words up to an event of the room's shard.
pub(super) async fn take(source: &Source, room: RoomId, upto: u64) -> anyhow::Result<Vec<Word>> {
    let shard = Channel::Room(room).shard(source.shards);
    source.applied.wait(shard, upto, APPLIED).await;
    let mut words = Vec::new();
    // Each page is as new as its own snapshot.
    let mut as_of = u64::MAX;
    let mut after = None;
    loop {
        let request = ParticipantsRequest { room, is_paged: true, after, expires_at: expiry() };
        let page = source.ask.participants(&request).await?;
        as_of = as_of.min(page.as_of);
        words.extend(page.present.into_iter().map(|word| Word {
            user: word.user,
            incarnation: word.incarnation,
            counter: word.counter,
            present: true,
        }));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    ensure!(as_of >= upto, "Postgres has the room up to {as_of}, and not yet up to {upto}");
    Ok(words)
}

/// Takes it a moment after it could not be taken.
pub(super) async fn take_again(source: &Source, room: RoomId, upto: u64) -> anyhow::Result<Vec<Word>> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    take(source, room, upto).await.context("who is in the room is not known")
}

impl Feed {
    /// Merges what was taken up to an event. Where the channel was closed meanwhile and opened again later in
    /// the log, it lacks what happened between: the new one takes its own.
    pub(super) fn snapshot_taken(&mut self, channel: &Channel, upto: u64, result: anyhow::Result<Vec<Word>>) {
        let Some(hub) = self.hub(channel).filter(|hub| hub.began() <= upto) else { return };
        let needed = hub.began().max(hub.fold.forgotten());
        match result {
            Ok(words) if upto >= needed => {
                for word in words {
                    hub.fold.hear(&word.user, word.incarnation, word.counter, word.present);
                }
                hub.fold.complete();
            }
            Ok(_) => self.take_snapshot(channel, needed),
            Err(error) => {
                tracing::warn!(%channel, error = format!("{error:#}"), "who is here is asked again");
                self.take_snapshot(channel, needed);
            }
        }
    }

    fn take_snapshot(&mut self, channel: &Channel, upto: u64) {
        if let Channel::Room(room) = *channel {
            self.todo.push(Work::Snapshot { room, upto });
        }
    }
}
