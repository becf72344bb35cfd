//! Checks that answers stay below their bound in bytes, and that pages of the longest legal texts miss no entry.

use reqwest::Method;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign},
    eventually,
    native::{Page, decode},
};

/// Longest JSON answer over HTTP.
const HTTP_MAX_BYTES: usize = 4 << 20;
/// Longest answer on a socket: the broker takes messages of 1 MiB.
const SOCKET_MAX_BYTES: usize = 1 << 20;

/// Number of longest answers that fill a socket's outbox and the buffers of both kernels.
const PIPELINED: usize = 24;

fn ids(results: &Value, name: &str) -> Vec<u64> {
    results.as_array().expect("a list").iter().map(|entry| entry[name].as_u64().expect("an id")).collect()
}

/// Reads all pages of a path; returns their ids and the number of pages.
async fn pages(rest: &Rest, path: &str, cursor: &str) -> (Vec<u64>, usize) {
    let (mut all, mut count) = (Vec::new(), 0);
    let mut next = if cursor == "changed_after" { "&changed_after=0".to_owned() } else { String::new() };
    loop {
        let answer =
            rest.request(Method::GET, &format!("{path}{next}")).send().await.expect("the node answers");
        let body = answer.bytes().await.expect("a body");
        assert!(body.len() <= HTTP_MAX_BYTES, "{path}: {} bytes", body.len());
        let page: Page = serde_json::from_slice(&body).expect("a page");
        all.push(page.ids());
        count += 1;
        match page.next {
            Some(more) => next = format!("&{cursor}={more}"),
            None => break,
        }
    }
    if cursor == "before" {
        all.reverse();
    }
    (all.concat(), count)
}

/// Reads all pages of a room's history by socket, newest first; returns the ids in order and the number of pages.
async fn history(socket: &mut Socket, room: u64) -> (Vec<u64>, usize) {
    let (mut all, mut count, mut before) = (Vec::new(), 0, None::<u64>);
    loop {
        let page = socket.act_ok("history", json!({ "room_pk": room, "limit": 200, "before": before })).await;
        assert!(page.to_string().len() <= SOCKET_MAX_BYTES);
        let page: Page = decode(&page);
        all.splice(0..0, page.ids());
        count += 1;
        match page.next {
            Some(more) => before = Some(more.parse().expect("an id")),
            None => return (all, count),
        }
    }
}

#[tokio::test]
async fn pages_of_longest_texts_miss_nothing_in_history_changes_and_search() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let mut socket = cluster.socket(0, "ann").await;
    for (character, messages) in [("ж", 30), ("\u{1}", 50)] {
        let room = ann.create_room("long").await;
        let text = format!("word {}", character.repeat(16_379));
        let mut sent = Vec::new();
        for _ in 0..messages {
            sent.push(ann.send_message(room, &text).await);
        }
        let is_escaped = character == "\u{1}";
        let (found, count) = history(&mut socket, room).await;
        assert!(count > 1 && found == sent, "{count} pages of a socket's history");
        let path = format!("{}?limit=200", paths::messages(room));
        let (found, count) = pages(&ann, &path, "before").await;
        assert!((count > 1) == is_escaped && found == sent, "{count} pages of history");
        let (found, count) = pages(&ann, &path, "changed_after").await;
        assert!((count > 1) == is_escaped && found == sent, "{count} pages of changes");
        let path = paths::search(format!("q=word&room={room}&limit=200"));
        let (mut found, count) = eventually("all messages are indexed", || async {
            let found = pages(&ann, &path, "cursor").await;
            (found.0.len() == sent.len()).then_some(found)
        })
        .await;
        found.reverse();
        assert!((count > 1) == is_escaped && found == sent, "{count} pages of a search");
        if is_escaped {
            read_pipelined_answers_late(&cluster, &mut socket, room).await;
        }
    }
}

/// Pipelines more requests than node and kernels can buffer answers for, and reads nothing until another client
/// got as many answers. Every request must be answered, and the socket must not be closed as a slow consumer.
async fn read_pipelined_answers_late(cluster: &Cluster, other: &mut Socket, room: u64) {
    let mut slow = cluster.socket(0, "ann").await;
    let frame = json!({ "action": "history", "room_pk": room, "limit": 200, "request_id": 1 }).to_string();
    for _ in 0..PIPELINED {
        slow.send_text(&frame).await.expect("the socket is open");
    }
    for _ in 0..PIPELINED {
        other.act_ok("history", json!({ "room_pk": room, "limit": 200 })).await;
    }
    for n in 0..PIPELINED {
        let answer = slow.next().await.unwrap_or_else(|error| panic!("after {n} answers: {error}"));
        assert_eq!(answer["response_status"], 200, "{n}: {}", answer["errors"]);
    }
}

#[tokio::test]
async fn lists_beyond_one_answer_say_so_and_come_in_pages() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, address) = (cluster.rest(0, "ann"), cluster.fanout[0].address());
    let mut made = Vec::new();
    for n in 0..70 {
        let body = json!({ "name": format!("{n}"), "description": "\u{1}".repeat(2_000) });
        made.insert(0, ann.create(paths::ROOMS, body).await);
    }
    let mut socket = cluster.socket(0, "ann").await;
    let refused = socket.act("list", json!({})).await;
    let detail = "The rooms do not fit into one answer: send limit, and then next of each answer as cursor.";
    assert_eq!(refused.refusal(), (413, detail));
    let (mut listed, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page: Page = decode(&socket.act_ok("list", json!({ "limit": 200, "cursor": cursor })).await);
        listed.extend(page.ids());
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, made);

    let root = sign(&json!({ "user_id": 9, "is_admin": true }));
    let rest = Rest::new(&cluster.api[0].address(), &root);
    let long = "\u{1}".repeat(2_000);
    let person = json!({
        "username": long, "email": long, "gender": long, "language": long, "account": long, "main_photo": long,
    });
    let (status, answer) = rest.put(&paths::user(1), person).await;
    assert!(status.is_success(), "{answer}");
    let mut matches = Vec::new();
    for other in 10..22 {
        let body = json!({ "kind": "match", "users": ["1", other.to_string()] });
        matches.insert(0, rest.create(paths::ROOMS, body).await);
    }
    let mut admin = Socket::open_at(&address, "/ws/admin-chat/", &root).await.expect("an admin's socket");
    let refused = admin.act("list", json!({})).await;
    let detail = "The rooms do not fit into one answer: give limit, and the last pk as before.";
    assert_eq!(refused.refusal(), (413, detail));
    let mut listed: Vec<u64> = Vec::new();
    loop {
        let before = listed.last().copied();
        let part = ids(&admin.act_ok("list", json!({ "limit": 100, "before": before })).await, "pk");
        if part.is_empty() {
            break;
        }
        listed.extend(part);
    }
    assert_eq!(listed, matches);
}

#[tokio::test]
async fn first_join_counts_all_participants_beyond_one_reply() {
    let cluster = Cluster::start(Size::default()).await;
    let room = cluster.rest(0, "ann").create_room("stadium").await;
    let count = 14_000;
    let pool = cluster.database.pool().await;
    sqlx::query(
        "INSERT INTO participant (shard, room, user_id, incarnation, counter, present)
         SELECT $1, $2, lpad(n::text, 64, 'x'), 1 + n % 2, 1, true FROM generate_series(1, $3) n",
    )
    .bind(cluster.shard_of(room).await.number())
    .bind(i64::try_from(room).expect("a small number"))
    .bind(count)
    .execute(&pool)
    .await
    .expect("the people of another node");
    let mut socket = cluster.socket(0, "bob").await;
    let joined = socket.join_room(room).await;
    assert_eq!((joined.participants, joined.count), (None, Some(14_000)));
}
