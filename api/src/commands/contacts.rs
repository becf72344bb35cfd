//! Notifies a person's contacts that their camera or their description has changed.
//!
//! The event is stored once, in the person's own channel; contacts get copies that are published but never stored. A
//! contact that misses a copy reads the change with its list of rooms. A failed copy never fails the request that
//! changed the person.

use std::time::Duration;

use protocol::{
    error::Error,
    event::{Event, PersonChange, Profile},
    id::UserId,
    subject::Channel,
};
use service::metric_names as names;
use tokio::time::timeout;

use crate::{commands::state::CommandState, queries::direct};

/// Maximum contacts who are sent a copy: those with the newest direct rooms.
const CONTACTS_MAX: i64 = 10_000;
/// Maximum time to publish all copies.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Publishes a stored event of a person to their contacts.
pub(super) async fn publish_to_contacts(api: &CommandState, user: &UserId, event: Event) {
    let published = timeout(PUBLISH_TIMEOUT, publish_copies(api, user, event)).await;
    if !matches!(published, Ok(Ok(()))) {
        metrics::counter!(names::CONTACTS_UNTOLD_TOTAL).increment(1);
        tracing::warn!(%user, "could not send every contact a copy of a change");
    }
}

async fn publish_copies(api: &CommandState, user: &UserId, event: Event) -> Result<(), Error> {
    let event = without_private_fields(event);
    let (name, payload) = (event.name(), event.encode());
    for contact in direct::list_contacts(&api.pool, api.shards, user, CONTACTS_MAX).await? {
        let subject = Channel::User(contact).unstored_subject(api.shards, name.as_str());
        let sent = api.log.nats_client.publish(subject, payload.clone()).await;
        sent.map_err(|error| Error::unavailable("The broker", &error))?;
        metrics::counter!(names::CONTACTS_TOLD_TOTAL).increment(1);
    }
    Ok(())
}

/// Removes the person's mail address and balance, which other people never get.
fn without_private_fields(event: Event) -> Event {
    match event {
        Event::Profile(Profile { user, issued_at, change }) => {
            let change = PersonChange { email: None, account: None, ..change };
            Event::Profile(Profile { user, issued_at, change })
        }
        other => other,
    }
}
