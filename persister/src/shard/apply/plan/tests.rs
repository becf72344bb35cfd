//! Tests what a plan merges, leaves out, records and rejects.

use bytes::Bytes;
use protocol::id::Shard;

use super::*;

fn stored(seq: u64, subject: &str, payload: &str, headers: &[(&'static str, &str)]) -> StoredEvent {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    StoredEvent {
        shard: Shard::from_number(2).expect("a shard"),
        seq,
        subject: subject.to_owned(),
        headers: map,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        time: time::OffsetDateTime::UNIX_EPOCH,
    }
}

fn presence(seq: u64, event: &str, counter: &str) -> StoredEvent {
    let headers = [(header::INCARNATION, "18446744073709551615"), (header::COUNTER, counter)];
    stored(seq, &format!("chat.2.room.42.{event}"), r#"{"user":"7","room":42}"#, &headers)
}

fn plan(events: &[StoredEvent]) -> WritePlan {
    WritePlan::build(events, &mut RecentlyClosedRooms::default())
}

#[test]
fn events_after_a_rooms_closing_are_left_out() {
    let message = r#"{"message":"m","room":42,"user":"7","created_at":"2026-11-21T08:51:26Z"}"#;
    let edit = r#"{"message_id":1,"message":"n","room":42,"user":"7","edited_at":"2026-11-21T08:51:26Z"}"#;
    let delete = r#"{"messages_ids":[1],"room":42,"user":"7","deleted_at":"2026-11-21T08:51:26Z"}"#;
    let update =
        |field: &str| format!(r#"{{"room":42,"by":"7","updated_at":"2026-11-21T08:51:26Z","{field}":true}}"#);
    let event = |seq, name: &str, payload: &str| stored(seq, &format!("chat.2.room.42.{name}"), payload, &[]);
    let mut closed_rooms = RecentlyClosedRooms::default();
    let first_batch = [
        event(1, "chat-message", message),
        event(2, "room-update", &update("private")),
        event(3, "chat-message", message),
        event(4, "room-update", &update("closed")),
        event(5, "chat-message", message),
        event(6, "message-edit", edit),
        event(7, "message-delete", delete),
    ];
    for _ in 0..2 {
        let plan = WritePlan::build(&first_batch, &mut closed_rooms);
        assert_eq!(
            plan.messages.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
            [1, 3],
            "also when the batch is planned a second time"
        );
        assert_eq!(plan.ordered_events.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [2, 4]);
        assert_eq!((plan.dropped_after_closing, plan.rejected.len()), (2, 0));
    }
    let later_batch = WritePlan::build(&[event(8, "chat-message", message)], &mut closed_rooms);
    assert_eq!(
        (later_batch.messages.len(), later_batch.dropped_after_closing),
        (0, 1),
        "a message of a later batch is left out too"
    );
}

#[test]
fn highest_counter_of_a_participant_wins_in_any_order() {
    let plan = plan(&[
        presence(1, "participant-join", "1"),
        presence(2, "participant-leave", "4"),
        presence(3, "participant-join", "3"),
    ]);
    assert_eq!(plan.rejected, []);
    let states: Vec<_> = plan.participants.into_iter().collect();
    let key = ParticipantRowKey { room: 42, user: "7".to_owned(), incarnation: -1 };
    assert_eq!(states, [(key, LatestPresence { counter: 4, is_present: false, seq: 2 })]);
}

#[test]
fn undecodable_event_is_rejected_with_its_reason() {
    let message = r#"{"message":"m","room":42,"user":"7","created_at":"2026-11-21T08:51:26.593514Z"}"#;
    let plan = plan(&[
        stored(1, "chat.2.room.42.chat-message", message, &[]),
        stored(2, "chat.2.room.42.chat-message", "{", &[]),
        stored(3, "chat.2.room.42.from-the-future", "{}", &[]),
        stored(4, "chat.2.room.50.chat-message", message, &[]),
        stored(5, "chat.2.room.42.participant-join", r#"{"user":"7","room":42}"#, &[]),
        stored(
            6,
            "chat.2.room.42.message-delete",
            r#"{"messages_ids":[18446744073709551615],"room":42,"user":"7","deleted_at":"2026-11-21T08:51:26Z"}"#,
            &[],
        ),
    ]);
    assert_eq!(plan.messages.len(), 1);
    let rejected: Vec<i64> = plan.rejected.iter().map(|event| event.seq).collect();
    assert_eq!(rejected, [2, 3, 4, 5, 6]);
    assert!(plan.rejected[1].reason.contains("from-the-future"), "{:?}", plan.rejected[1]);
}

#[test]
fn unknown_fields_are_recorded_and_dependent_events_name_their_targets() {
    let message =
        r#"{"message":"m","room":42,"user":"7","created_at":"2026-11-21T08:51:26.593514Z","thread":7}"#;
    let edit = r#"{"message_id":1,"message":"n","room":42,"user":"7","edited_at":"2026-11-21T08:51:26Z"}"#;
    let plan = plan(&[
        stored(1, "chat.2.room.42.chat-message", message, &[]),
        stored(2, "chat.2.room.42.message-edit", edit, &[]),
    ]);
    assert_eq!((plan.messages.len(), plan.rejected.len()), (1, 0));
    let partly_applied: Vec<_> = plan.partly_applied.iter().map(|event| (event.seq, event.cause)).collect();
    assert_eq!(partly_applied, [(1, RejectionCause::UnknownFields)]);
    assert_eq!(plan.partly_applied[0].payload, message.as_bytes());
    let dependents: Vec<_> = plan
        .dependents
        .iter()
        .map(|dependent| (dependent.event.seq, dependent.target_seqs.clone()))
        .collect();
    assert_eq!(dependents, [(2, vec![1])]);
}

#[test]
fn room_with_a_key_has_a_generation() {
    let room = r#"{"name":"r","description":null,"private":true,"users":["7","8"],"team":null,"user":"1",
        "kind":"match","active":true,"created_at":"2026-11-21T08:51:26Z","activity":"2026-11-21T08:51:26Z","unread":0}"#;
    let subject_with_key = "chat.system.system.-.room-made.k=2E";
    let plan = plan(&[
        stored(1, "chat.system.system.-.room-made", room, &[]),
        stored(2, subject_with_key, room, &[(header::GENERATION, "3")]),
        stored(3, subject_with_key, room, &[]),
        stored(4, subject_with_key, room, &[(header::GENERATION, "2147483648")]),
    ]);
    let keys: Vec<_> = plan.rooms.into_iter().map(|room| (room.id, room.key_and_generation)).collect();
    assert_eq!(keys, [(1, None), (2, Some(("k.".to_owned(), 3)))]);
    assert_eq!(plan.rejected.iter().map(|event| event.seq).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn read_marks_of_a_batch_are_reduced_to_the_highest_of_each_person_and_room() {
    let mark = |seq: u64, room: u64, user: &str, id: u64| {
        let subject = format!("chat.2.room.{room}.message-read");
        let payload = format!(r#"{{"message_id":{id},"room":{room},"user":"{user}"}}"#);
        stored(seq, &subject, &payload, &[])
    };
    let plan = plan(&[
        mark(1, 42, "7", 5),
        mark(2, 42, "7", 9),
        mark(3, 42, "7", 8),
        mark(4, 42, "8", 3),
        mark(5, 50, "7", 1),
    ]);
    let mut marks: Vec<_> = plan.read_marks.into_iter().collect();
    marks.sort_unstable();
    let expected = [(42, "7", 9), (42, "8", 3), (50, "7", 1)];
    assert_eq!(marks, expected.map(|(room, user, id)| ((room, user.to_owned()), id)));
    assert!(plan.ordered_events.is_empty(), "no read mark is written by a statement of its own");
}

#[test]
fn batch_is_cut_by_rows_and_by_bytes() {
    assert!(!is_batch_full(BATCH_EVENTS_MAX - 1, BATCH_BYTES_MAX - 1));
    assert!(is_batch_full(BATCH_EVENTS_MAX, 0));
    assert!(is_batch_full(1, BATCH_BYTES_MAX));
}
