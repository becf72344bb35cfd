//! Searches the text of all messages that a person may read.
//!
//! What must hold: a person who was removed from a room finds none of its messages once this node has received the
//! removal. Searches, however slow, leave connections to Postgres for other work, and no caller takes all permits.

use std::{collections::BTreeSet, time::Duration};

use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    text,
};
use tokio::time::timeout;

use super::require_read;
use crate::{
    commands::state::CommandState,
    queries::search::{self, SearchCursor, SearchQuery, SearchResults},
};

/// Maximum searches that run on a node at a time.
pub(crate) const CONCURRENT_SEARCHES_MAX: usize = 3;
/// Maximum time that a search waits for its permit.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// Finds messages, newest first, and returns the cursor of the next page.
pub(crate) async fn search(
    api: &CommandState,
    caller: &Caller,
    query: SearchQuery<'_>,
) -> Result<(SearchResults, Option<SearchCursor>), Error> {
    text::required_text("q", query.words, text::QUERY_MAX)?;
    if let Some(room) = query.room {
        require_read(api, room, caller).await?;
    }
    let mut found = {
        let _under_way = api.limits.start_search(caller)?;
        let turn = timeout(QUEUE_TIMEOUT, api.search_permits.acquire()).await;
        let _turn = turn
            .map_err(|_| Error::new(ErrorCode::Unavailable, "Too many searches are running. Try again."))?;
        search::search(&api.pool, api.shards, caller, &query).await?
    };
    // The cursor counts messages that are left out below.
    let next = found.messages.last_if_more().map(|(room, message)| (message.created_at, *room, message.id));
    // Postgres may lack a removal that this node has received.
    let rooms: BTreeSet<_> = found.messages.entries.iter().map(|(room, _)| *room).collect();
    for room in rooms {
        match require_read(api, room, caller).await {
            Ok(_) => {}
            Err(error) if error.code == ErrorCode::NotFound => {
                found.messages.entries.retain(|(of, _)| *of != room);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((found, next))
}
