//! Compares the log with the answers to writers, with Postgres and with the pushes to readers. Differences are texts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sqlx::PgPool;
use tests::client::Rest;
use tests::native;
use tests::paths;

use super::{
    reader::{Expected, ReaderState},
    truth::Room,
    writer::{Outcome, Request, RequestKind},
};

/// Checks that the log has each acknowledged request once, no refused one, and no other events.
pub(super) fn requests(rooms: &BTreeMap<u64, Room>, requests: &[Request]) -> Vec<String> {
    let mut faults = Vec::new();
    for request in requests {
        let room = &rooms[&request.room];
        let times = match &request.kind {
            RequestKind::Message { text } => room.text_counts.get(&(None, text.clone())),
            RequestKind::Edit { id, text } => room.text_counts.get(&(Some(*id), text.clone())),
            RequestKind::Delete { id } => room.deletion_counts.get(id),
            RequestKind::Mark { id } => room.mark_counts.get(&(request.user.clone(), *id)),
        };
        let times = times.copied().unwrap_or(0);
        let is_expected = match request.outcome {
            Outcome::Done(_) => times == 1,
            Outcome::Refused => times == 0,
            Outcome::Unknown => times <= 1,
        };
        if !is_expected {
            faults.push(format!("stored {times} times: {request:?}"));
        }
        if let (RequestKind::Message { text }, Outcome::Done(id)) = (&request.kind, request.outcome) {
            let message = id.and_then(|id| room.messages.get(&id));
            if message.is_none_or(|message| message.original_text != *text) {
                faults.push(format!("the log has another id: {request:?}"));
            }
        }
    }
    let known: BTreeSet<&str> = requests
        .iter()
        .filter_map(|request| match &request.kind {
            RequestKind::Message { text } | RequestKind::Edit { text, .. } => Some(text.as_str()),
            RequestKind::Delete { .. } | RequestKind::Mark { .. } => None,
        })
        .collect();
    let texts = rooms.values().flat_map(|room| room.text_counts.keys());
    faults.extend(
        texts
            .filter(|(_, text)| !known.contains(text.as_str()))
            .map(|(_, text)| format!("no writer sent {text}")),
    );
    faults
}

/// Checks that a reader got every message, edit and deletion once and in order, and knows the participants.
pub(super) fn reader(expected: &BTreeMap<u64, Expected>, user: &str, reader: &ReaderState) -> Vec<String> {
    let mut faults = Vec::new();
    for (room, expected) in expected {
        let received = reader.events.get(room).map_or(&[][..], Vec::as_slice);
        let ids: BTreeSet<u64> = received.iter().copied().collect();
        if !received.is_sorted_by(|one, next| one < next) {
            faults.push(format!("{user}, room {room}: twice, or out of order"));
        }
        let (missing, unexpected): (Vec<_>, Vec<_>) =
            (expected.events.difference(&ids).collect(), ids.difference(&expected.events).collect());
        if !missing.is_empty() || !unexpected.is_empty() {
            let place = missing.first().map(|id| reader.connections_around(*room, **id)).unwrap_or_default();
            faults.push(format!(
                "{user}, room {room}: lost {missing:?} ({place}), not in the log {unexpected:?}"
            ));
        }
        let participants = reader.participants.get(room).and_then(Option::as_ref);
        if participants != Some(&expected.participants) {
            faults.push(format!(
                "{user}, room {room}: has participants {participants:?}, not {:?}",
                expected.participants
            ));
        }
    }
    if reader.unrecovered + reader.contradictions + reader.foreign_marks > 0 {
        faults.push(format!(
            "{user}: {} resumes not recovered, {} wrong joins and leaves, {} read marks of others",
            reader.unrecovered, reader.contradictions, reader.foreign_marks
        ));
    }
    faults
}

/// Reads all pages of a list.
async fn read_all_pages(rest: &Rest, path: &str, cursor: &str) -> Vec<Value> {
    let (mut all, mut next) = (Vec::new(), "0".to_owned());
    loop {
        let (status, mut page) = rest.get(&format!("{path}?limit=200&{cursor}={next}")).await;
        assert!(status.is_success(), "{path}: {page}");
        all.extend(page["results"].as_array_mut().map(std::mem::take).unwrap_or_default());
        match page["next"].as_str() {
            Some(cursor) => cursor.clone_into(&mut next),
            None => return all,
        }
    }
}

/// Texts of messages by id; `None` for deleted ones.
fn texts(messages: &[Value]) -> BTreeMap<u64, Option<&str>> {
    let rows = messages.iter().map(|message| {
        let visible = message["message"].as_str().filter(|_| message["deleted_at"].is_null());
        (native::id(message), visible)
    });
    rows.collect()
}

/// Checks that history, `changed_after` and participants agree with the log.
pub(super) async fn api(rest: &Rest, rooms: &BTreeMap<u64, Room>) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, room) in rooms {
        let path = paths::messages(id);
        let all: BTreeMap<u64, Option<&str>> =
            room.messages.iter().map(|(id, m)| (*id, (!m.is_deleted).then_some(&*m.text))).collect();
        let visible: BTreeMap<u64, Option<&str>> =
            all.iter().filter(|(_, text)| text.is_some()).map(|(id, text)| (*id, *text)).collect();
        for (cursor, expected) in [("after", visible), ("changed_after", all)] {
            let answered = read_all_pages(rest, &path, cursor).await;
            if answered.len() != expected.len() || texts(&answered) != expected {
                faults
                    .push(format!("room {id}: {cursor}=0 answers {:?}, not {expected:?}", texts(&answered)));
            }
        }
        let (_, answer) = rest.get(&paths::room(id)).await;
        let names = answer["participants"].as_array().into_iter().flatten();
        let participants: BTreeSet<String> =
            names.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
        if participants != room.participants() {
            faults.push(format!(
                "room {id}: api answers participants {}, not {:?}",
                answer["participants"],
                room.participants()
            ));
        }
    }
    faults
}

/// A row in Postgres: the room, the user or message, and a text for the value.
type Row = (i64, String, String);

/// The rows that Postgres must have.
fn rows(rooms: &BTreeMap<u64, Room>) -> BTreeSet<Row> {
    let mut rows = BTreeSet::new();
    for (id, room) in rooms {
        let id = id.cast_signed();
        let text = |(place, m): (&u64, &super::truth::Message)| {
            (
                id,
                place.to_string(),
                if m.is_deleted { "deleted".to_owned() } else { format!("text {}", m.text) },
            )
        };
        rows.extend(room.messages.iter().map(text));
        rows.extend(room.marks.iter().map(|(user, mark)| (id, user.clone(), format!("has read {mark}"))));
        rows.extend(room.participants().into_iter().map(|user| (id, user, "present".to_owned())));
    }
    rows
}

/// Checks that Postgres has exactly the rows that the log implies.
pub(super) async fn postgres(pool: &PgPool, rooms: &BTreeMap<u64, Room>) -> Vec<String> {
    let sql = "SELECT room, id::text, CASE WHEN deleted_at IS NULL THEN 'text ' || body ELSE 'deleted' END \
               FROM message \
               UNION ALL SELECT room, user_id, 'has read ' || message_id FROM read_mark \
               UNION SELECT room, user_id, 'present' FROM participant WHERE present";
    let actual: Vec<Row> = sqlx::query_as(sql).fetch_all(pool).await.expect("the query succeeds");
    let (actual, expected) = (BTreeSet::from_iter(actual), rows(rooms));
    let missing = expected.difference(&actual).map(|row| format!("Postgres lacks {row:?}"));
    missing.chain(actual.difference(&expected).map(|row| format!("Postgres has {row:?}"))).collect()
}
