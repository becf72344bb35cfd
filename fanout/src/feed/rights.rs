//! Asking api, once a minute and after each change, whether those who are in rooms may still be.

use shared::{
    id::UserId,
    metric_names as names,
    rpc::{CONFIRM_MAX, ConfirmRequest, expiry},
    subject::Channel,
};

use super::{Done, Entry, Feed};

/// What api has confirmed.
pub(super) struct Confirmed {
    out: Vec<UserId>,
    public: bool,
    as_of: u64,
}

impl Feed {
    /// Asks for each room that is due.
    pub(super) fn confirm_rights(&mut self, applied: u64) {
        for (channel, entry) in &mut self.entries {
            let (Channel::Room(room), Entry::Heard(hub)) = (channel, entry) else { continue };
            if !hub.rights.ask(applied) {
                continue;
            }
            let (callers, room) = (hub.callers(), *room);
            let (ask, done, channel) = (self.source.ask.clone(), self.done.clone(), channel.clone());
            tokio::spawn(async move {
                let mut all: Option<Confirmed> = None;
                // An empty room is asked about too: the answer says whether it is public.
                for chunk in callers.chunks(CONFIRM_MAX) {
                    let request = ConfirmRequest { room, callers: chunk.to_vec(), expires_at: expiry() };
                    let Ok(confirmed) = ask.confirm(&request).await else {
                        all = None;
                        break;
                    };
                    let (public, as_of) = (confirmed.grant.public, confirmed.grant.as_of);
                    let all = all.get_or_insert(Confirmed { out: vec![], public, as_of });
                    all.out.extend(confirmed.out);
                    all.public &= public;
                    all.as_of = all.as_of.min(as_of);
                }
                // The task may have stopped meanwhile.
                let _ = done.send(Done::Confirmed { channel, result: all }).await;
            });
        }
    }

    pub(super) fn confirmed(&mut self, channel: &Channel, result: Option<Confirmed>) {
        let Some(hub) = self.hub(channel) else { return };
        hub.rights.asked(result.as_ref().map(|confirmed| (confirmed.public, confirmed.as_of)));
        let Some(Confirmed { out, as_of, .. }) = result else { return };
        if !out.is_empty() {
            metrics::counter!(names::EVICTIONS_TOTAL, "cause" => "confirmation").increment(out.len() as u64);
            hub.evict(as_of + 1, |caller| out.contains(&caller.user));
        }
    }
}
