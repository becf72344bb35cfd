//! Fits pages into the maximum size of an answer.

use protocol::{
    error::Error,
    id::{RoomId, UserId},
};

use super::{decode, encode, wire};
use crate::{
    commands::rooms::RoomPage,
    page::{self, Page, PageEntry},
    queries::messages::{ChangedMessage, HistoryPage, Message},
};

impl PageEntry for wire::Message {}
impl PageEntry for wire::Changed {}
impl PageEntry for wire::Invitation {}

impl PageEntry for wire::Room {
    fn shorten(&mut self) {
        self.users = None;
    }
}

impl PageEntry for wire::Team {
    fn shorten(&mut self) {
        self.users = None;
    }
}

/// A page of the entries that fit into `max_bytes`. It has a cursor where entries were left out, or where there are
/// `limit` of them, so that there may be more.
///
/// # Errors
/// When the first entry does not fit even alone.
pub(super) fn fit_page<T: PageEntry>(
    page: Page<T>,
    max_bytes: usize,
    cursor: impl Fn(&T) -> String,
) -> Result<wire::Page<T>, Error> {
    let page = page.fit(max_bytes)?;
    Ok(wire::Page { next: page.last_if_more().map(cursor), results: page.entries })
}

/// A page of a room's history, in ascending order. Where not all messages fit, it keeps those nearest to the
/// position that was asked for.
///
/// # Errors
/// When a message does not fit even alone.
pub(super) fn history_page(
    room: RoomId,
    range: HistoryPage,
    found: Page<Message>,
    max_bytes: usize,
) -> Result<wire::Page<wire::Message>, Error> {
    let messages = found.map(|message| encode::message(room, message));
    let mut page = fit_page(messages, max_bytes, |message| message.id.to_string())?;
    // The messages nearest to where the page begins come first.
    if matches!(range, HistoryPage::Newest | HistoryPage::Before(_)) {
        page.results.reverse();
    }
    Ok(page)
}

/// A page of the messages that are new in a room or were changed there.
///
/// # Errors
/// When a message does not fit even alone.
pub(super) fn changes_page(
    room: RoomId,
    found: Page<ChangedMessage>,
    max_bytes: usize,
) -> Result<wire::Page<wire::Changed>, Error> {
    let changes = found.map(|changed| encode::changed(room, changed));
    fit_page(changes, max_bytes, |last: &wire::Changed| {
        decode::encode_change_position(last.changed, last.message.id)
    })
}

/// A page of the room list.
///
/// # Errors
/// When a room does not fit even alone.
pub(super) fn rooms_page(found: RoomPage, max_bytes: usize) -> Result<wire::Page<wire::Room>, Error> {
    let RoomPage { rooms, next } = found;
    let fitted = page::fit_page(rooms.into_iter().map(|room| encode::room(room, true)), max_bytes)?;
    let last = fitted.entries.last().map(|room| room.id);
    let next = if fitted.has_more { last } else { next };
    Ok(wire::Page { results: fitted.entries, next: next.as_ref().map(decode::encode_cursor) })
}

/// A page of people, in the order of their ids.
pub(super) fn people_page(page: Page<UserId>) -> wire::Page<UserId> {
    wire::Page { next: page.last_if_more().map(decode::encode_cursor), results: page.entries }
}

#[cfg(test)]
mod tests {
    use protocol::{clock::Timestamp, id::MessageId};

    use super::*;

    fn message(id: u64, text: &str) -> Message {
        Message {
            id: MessageId(id),
            author: "ann".parse().expect("an id"),
            body: text.to_owned(),
            client_id: None,
            created_at: Timestamp::now(),
            edited_at: None,
            detail: None,
        }
    }

    #[test]
    fn history_of_longest_texts_goes_on_where_its_page_ended_in_both_directions() {
        let max_bytes = page::socket_max_bytes(1 << 20);
        for text in ["ж".repeat(16_384), "\u{1}".repeat(16_384)] {
            let all: Vec<Message> = (1..=50).map(|id| message(id, &text)).collect();
            let ids = |page: &wire::Page<wire::Message>| -> Vec<u64> {
                page.results.iter().map(|message| message.id.0).collect()
            };
            let (mut back, mut before) = (Vec::new(), Some(u64::MAX));
            while let Some(edge) = before {
                let found = all.iter().rev().filter(|message| message.id.0 < edge).cloned().collect();
                let found = Page::of(found, 50);
                let page =
                    history_page(RoomId(1), HistoryPage::Before(edge), found, max_bytes).expect("it fits");
                assert!(page::json_bytes(&page) <= max_bytes);
                back.splice(0..0, ids(&page));
                before = page.next.map(|next| next.parse().expect("an id"));
            }
            let (mut on, mut after) = (Vec::new(), Some(0));
            while let Some(edge) = after {
                let found = all.iter().filter(|message| message.id.0 > edge).cloned().collect();
                let found = Page::of(found, 50);
                let page =
                    history_page(RoomId(1), HistoryPage::After(edge), found, max_bytes).expect("it fits");
                on.extend(ids(&page));
                after = page.next.map(|next| next.parse().expect("an id"));
            }
            let every: Vec<u64> = (1..=50).collect();
            assert_eq!((back, on), (every.clone(), every));
        }
    }
}
