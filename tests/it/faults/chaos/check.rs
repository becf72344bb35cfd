//! Compares the log, the answers, Postgres and what readers saw. Each disagreement is a line.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sqlx::PgPool;
use tests::client::Rest;
use tests::paths;

use super::{
    reader::{Expected, Seen},
    truth::Room,
    writer::{Asked, Outcome, What},
};

/// Checks that acknowledged requests are in the log once, refused ones are not, and nothing else is.
pub(super) fn asked(rooms: &BTreeMap<u64, Room>, asked: &[Asked]) -> Vec<String> {
    let mut faults = Vec::new();
    for request in asked {
        let room = &rooms[&request.room];
        let times = match &request.what {
            What::Message { text } => room.texts.get(&(None, text.clone())),
            What::Edit { id, text } => room.texts.get(&(Some(*id), text.clone())),
            What::Delete { id } => room.deletions.get(id),
            What::Mark { id } => room.marked.get(&(request.user.clone(), *id)),
        };
        let times = times.copied().unwrap_or(0);
        let is_right = match request.outcome {
            Outcome::Done(_) => times == 1,
            Outcome::Refused => times == 0,
            Outcome::Unknown => times <= 1,
        };
        if !is_right {
            faults.push(format!("stored {times} times: {request:?}"));
        }
        if let (What::Message { text }, Outcome::Done(id)) = (&request.what, request.outcome) {
            let message = id.and_then(|id| room.messages.get(&id));
            if message.is_none_or(|message| message.first != *text) {
                faults.push(format!("it has another id: {request:?}"));
            }
        }
    }
    let known: BTreeSet<&str> = asked
        .iter()
        .filter_map(|request| match &request.what {
            What::Message { text } | What::Edit { text, .. } => Some(text.as_str()),
            What::Delete { .. } | What::Mark { .. } => None,
        })
        .collect();
    let texts = rooms.values().flat_map(|room| room.texts.keys());
    faults.extend(
        texts
            .filter(|(_, text)| !known.contains(text.as_str()))
            .map(|(_, text)| format!("nobody asked for {text}")),
    );
    faults
}

/// Checks that a reader got every message, edit and deletion once, in order, and knows who is present.
pub(super) fn seen(expected: &BTreeMap<u64, Expected>, user: &str, seen: &Seen) -> Vec<String> {
    let mut faults = Vec::new();
    for (room, expected) in expected {
        let got = seen.events.get(room).map_or(&[][..], Vec::as_slice);
        let ids: BTreeSet<u64> = got.iter().copied().collect();
        if !got.is_sorted_by(|one, next| one < next) {
            faults.push(format!("{user}, room {room}: twice, or out of order"));
        }
        let (lost, astray): (Vec<_>, Vec<_>) =
            (expected.events.difference(&ids).collect(), ids.difference(&expected.events).collect());
        if !lost.is_empty() || !astray.is_empty() {
            let place = lost.first().map(|id| seen.around(*room, **id)).unwrap_or_default();
            faults.push(format!("{user}, room {room}: lost {lost:?} ({place}), not in the log {astray:?}"));
        }
        let people = seen.people.get(room).and_then(Option::as_ref);
        if people != Some(&expected.people) {
            faults.push(format!("{user}, room {room}: sees {people:?}, there are {:?}", expected.people));
        }
    }
    if seen.unrecovered + seen.contradictions + seen.astray > 0 {
        faults.push(format!(
            "{user}: {} not recovered, {} joins and leaves that contradict, {} marks of others",
            seen.unrecovered, seen.contradictions, seen.astray
        ));
    }
    faults
}

/// Reads all pages of a list.
async fn list(rest: &Rest, path: &str, cursor: &str) -> Vec<Value> {
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
        let shown = message["message"].as_str().filter(|_| message["deleted_at"].is_null());
        (message["id"].as_u64().expect("an id"), shown)
    });
    rows.collect()
}

/// Checks that history, `changed_after` and participants agree with the log.
pub(super) async fn answers(rest: &Rest, rooms: &BTreeMap<u64, Room>) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, room) in rooms {
        let path = paths::messages(id);
        let all: BTreeMap<u64, Option<&str>> =
            room.messages.iter().map(|(id, m)| (*id, (!m.is_deleted).then_some(&*m.text))).collect();
        let shown: BTreeMap<u64, Option<&str>> =
            all.iter().filter(|(_, text)| text.is_some()).map(|(id, text)| (*id, *text)).collect();
        for (cursor, expected) in [("after", shown), ("changed_after", all)] {
            let answered = list(rest, &path, cursor).await;
            if answered.len() != expected.len() || texts(&answered) != expected {
                faults
                    .push(format!("room {id}: {cursor}=0 answers {:?}, not {expected:?}", texts(&answered)));
            }
        }
        let (_, shown) = rest.get(&paths::room(id)).await;
        let names = shown["participants"].as_array().into_iter().flatten();
        let people: BTreeSet<String> = names.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
        if people != room.people() {
            faults.push(format!("room {id}: {} are in, not {:?}", shown["participants"], room.people()));
        }
    }
    faults
}

/// A row in Postgres: room, user or message, and value.
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
        rows.extend(room.people().into_iter().map(|user| (id, user, "present".to_owned())));
    }
    rows
}

/// Checks that Postgres has exactly the rows that the log implies.
pub(super) async fn postgres(pool: &PgPool, rooms: &BTreeMap<u64, Room>) -> Vec<String> {
    let sql = "SELECT room, id::text, CASE WHEN deleted_at IS NULL THEN 'text ' || body ELSE 'deleted' END \
               FROM message \
               UNION ALL SELECT room, user_id, 'has read ' || message_id FROM read_mark \
               UNION SELECT room, user_id, 'present' FROM participant WHERE present";
    let found: Vec<Row> = sqlx::query_as(sql).fetch_all(pool).await.expect("rows");
    let (found, expected) = (BTreeSet::from_iter(found), rows(rooms));
    let lost = expected.difference(&found).map(|row| format!("Postgres lacks {row:?}"));
    lost.chain(found.difference(&expected).map(|row| format!("Postgres has {row:?}"))).collect()
}
