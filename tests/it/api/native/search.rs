//! Tests full-text search: messages are found by those who may read them, and none is missing.

use reqwest::StatusCode;
use serde_json::json;
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    eventually,
    native::{Page, SearchPage},
};

use super::{NOT_FOUND, admin, refusal};

const NOTHING: [u64; 0] = [];

/// Ids of the messages found, newest first.
async fn found(rest: &Rest, query: &str) -> Vec<u64> {
    rest.page(&paths::search(query)).await.ids()
}

/// Waits until exactly these messages are found.
async fn wait_until_found(rest: &Rest, query: &str, expected: &[u64]) {
    eventually(&format!("{query} finds {expected:?}"), || async {
        (found(rest, query).await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn search_finds_messages_as_they_are_now() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let (tea, cake) = (ann.create_room("tea").await, ann.create_room("cake").await);
    let first = ann.send_message(tea, "Green TEA, please").await;
    let second = bob.send_message(cake, "no cake without green tea").await;
    wait_until_found(&bob, "q=green%20tea", &[second, first]).await;
    wait_until_found(&bob, "q=tea%20-cake", &[first]).await;
    wait_until_found(&bob, "q=%22tea%20please%22%20or%20nonsense", &[first]).await;
    wait_until_found(&bob, &format!("q=tea&room={cake}"), &[second]).await;
    let (_, page) = ann.get(&paths::search("q=please")).await;
    let message = &page["results"][0];
    assert_eq!(
        message,
        &json!({
            "id": first, "room": tea, "user": "ann", "message": "Green TEA, please",
            "created_at": message["created_at"],
        })
    );
    let through = page["indexed_through"].as_array().expect("a list");
    assert_eq!(through.len(), 9, "indexed_through has one pair for each shard");
    let shard = usize::try_from(tea % 8).expect("a small number") + 1;
    assert!(through[shard][0] == 1 && through[shard][1].as_u64() >= Some(first), "{page}");

    let path = paths::message(tea, first);
    ann.patch(&path, json!({ "message": "black coffee" })).await;
    wait_until_found(&bob, "q=coffee", &[first]).await;
    assert_eq!(found(&bob, "q=green").await, [second], "the old text is not found");
    assert_eq!(ann.delete(&path).await.0, StatusCode::NO_CONTENT);
    assert_eq!(found(&bob, "q=coffee").await, NOTHING, "a deleted message is not found");
    let pool = cluster.database.pool().await;
    eventually("the deleted message's words are removed", || async {
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM message_search").fetch_one(&pool).await.ok()?;
        (rows == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn search_finds_a_link_as_pasted() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("tea").await;
    let link = "https://example.com/Tea/green?x=1&y=2";
    let first = ann.send_message(room, &format!("Look: {link}, it is new.")).await;
    let second = ann.send_message(room, &format!("({link}#more)")).await;
    let third = ann.send_message(room, "https://example.com/coffee and http://example.org").await;
    let q = |text: &str| text.bytes().fold("q=".to_owned(), |q, byte| format!("{q}%{byte:02X}"));
    wait_until_found(&ann, &q(link), &[second, first]).await;
    wait_until_found(&ann, &q(&format!("new {link}.")), &[first]).await;
    wait_until_found(&ann, &q(&format!("example.com -{link}#more")), &[third, first]).await;
    assert_eq!(found(&ann, &q("https://example.net/Tea")).await, NOTHING);
}

#[tokio::test]
async fn search_by_a_stranger_finds_nothing_of_a_private_room() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob, eve) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"), cluster.rest(1, "eve"));
    let room = ann.create_private_room(&["bob"]).await;
    let team = ann.create_team("crew", &["bob"]).await;
    let deck = ann.create_team_room("deck", team).await;
    let secret = ann.send_message(room, "the secret plan").await;
    let order = ann.send_message(deck, "the secret order").await;
    for rest in [&ann, &bob, &admin(&cluster, 1)] {
        wait_until_found(rest, "q=secret", &[order, secret]).await;
    }
    assert_eq!(found(&eve, "q=secret").await, NOTHING);
    let nothing = eve.get(&paths::search("q=secret&room=999999")).await;
    assert_eq!(refusal(&nothing), NOT_FOUND);
    let hidden = eve.get(&paths::search(format!("q=secret&room={room}"))).await;
    assert_eq!(hidden, nothing, "a hidden room is answered as a missing one");
    // A closed room is still read by its members.
    ann.delete(&paths::room(room)).await;
    assert_eq!(found(&bob, "q=secret%20plan").await, [secret]);
    assert_eq!(found(&eve, "q=secret%20plan").await, NOTHING);
    ann.delete(&paths::team_member(team, "bob")).await;
    wait_until_found(&bob, "q=secret%20order", &[]).await;
}

#[tokio::test]
async fn search_ignores_rows_that_lack_a_removal() {
    let mut cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let room = ann.create_private_room(&["bob"]).await;
    let secret = ann.send_message(room, "the secret plan").await;
    wait_until_found(&bob, "q=secret", &[secret]).await;
    cluster.persister[0].kill9();
    let removed = ann.delete(&paths::member(room, "bob")).await;
    assert_eq!(removed, (StatusCode::ACCEPTED, json!({ "applied": false })));
    let (status, answer) = bob.get(&paths::search("q=secret")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    cluster.persister[0].restart();
    cluster.wait_until_ready().await;
    wait_until_found(&bob, "q=secret", &[]).await;
}

#[tokio::test]
async fn search_pages_meet_without_gap_or_repeat() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let rooms = [ann.create_room("one").await, ann.create_room("two").await];
    let mut all = Vec::new();
    for n in 0..11_usize {
        all.insert(0, ann.send_message(rooms[n % 2], &format!("word {n}")).await);
    }
    wait_until_found(&ann, "q=word", &all).await;
    let pages = ann.pages(&paths::search("q=word&limit=3"), "cursor").await;
    assert_eq!(pages.iter().flat_map(Page::ids).collect::<Vec<_>>(), all);
}

#[tokio::test]
async fn search_index_is_complete_after_the_persister_dies() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let rooms = [ann.create_room("one").await, ann.create_room("two").await];
    let path = |room: u64, id: u64| paths::message(room, id);
    let (mut remaining, mut deleted) = (Vec::new(), Vec::new());
    for round in 0..4 {
        for n in 0..40_usize {
            let (room, text) = (rooms[n % 2], format!("word {round} {n}"));
            let id = ann.send_message(room, &text).await;
            match n % 10 {
                3 => {
                    ann.patch(&path(room, id), json!({ "message": format!("{text} again") })).await;
                    remaining.push(id);
                }
                7 => {
                    ann.delete(&path(room, id)).await;
                    deleted.push(id);
                }
                _ => remaining.push(id),
            }
            if n == 10 * round + 5 {
                cluster.persister[0].kill9();
                cluster.persister[0].restart();
            }
        }
    }
    cluster.wait_until_ready().await;
    remaining.reverse();
    wait_until_found(&ann, "q=word&limit=200", &remaining).await;
    let edited: Vec<u64> = found(&ann, "q=again&limit=200").await;
    assert_eq!(edited.len(), 16);
    let pool = cluster.database.pool().await;
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM message_search").fetch_one(&pool).await.expect("a count");
    assert_eq!(
        usize::try_from(rows).ok(),
        Some(remaining.len()),
        "no deleted message is indexed, of {}",
        deleted.len()
    );
    let due: i64 =
        sqlx::query_scalar("SELECT count(*) FROM search_due").fetch_one(&pool).await.expect("a count");
    assert_eq!(due, 0, "search_due is empty");
}

#[tokio::test]
async fn older_messages_are_indexed_in_slices() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let pool = cluster.database.pool().await;
    // Far more messages than one slice, as after an upgrade, and one text that is too long for a tsvector.
    let shard = i16::try_from(room % 8).expect("a small number");
    sqlx::query(
        "WITH new AS (
             INSERT INTO message (shard, room, id, author, body, created_at)
             SELECT $1, $2, 1000000 + n, 'ann', CASE n WHEN 7 THEN (SELECT string_agg('w' || i, ' ')
                        FROM generate_series(1, 300000) i) ELSE 'needle ' || n END, now()
             FROM generate_series(1, 1700) n RETURNING room, id)
         INSERT INTO search_due (shard, after_seq, rooms, ids)
         SELECT $1, 0, array_agg(room ORDER BY id), array_agg(id ORDER BY id) FROM new",
    )
    .bind(shard)
    .bind(i64::try_from(room).expect("a small number"))
    .execute(&pool)
    .await
    .expect("rows");
    let page: SearchPage = ann.read(&paths::search("q=needle")).await;
    let place = usize::try_from(shard).expect("a small number") + 1;
    let (_, indexed_through) = page.indexed_through[place];
    eventually("all messages are indexed", || async {
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM message_search").fetch_one(&pool).await.ok()?;
        (rows == 1700).then_some(())
    })
    .await;
    wait_until_found(&ann, "q=needle%201700", &[1_001_700]).await;
    wait_until_found(&ann, "q=w1", &[1_000_007]).await;
    let page: SearchPage = ann.read(&paths::search("q=needle")).await;
    assert!(page.indexed_through[place].1 >= indexed_through, "the position does not go back: {page:?}");
}

#[tokio::test]
async fn slow_or_failing_texts_do_not_delay_the_index_of_others() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let pool = cluster.database.pool().await;
    // Postgres refuses to index this message.
    sqlx::raw_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             RAISE EXCEPTION 'refused' USING ERRCODE = '22000'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON message_search
         FOR EACH ROW WHEN (NEW.words @@ 'unparseable') EXECUTE FUNCTION refuse();",
    )
    .execute(&pool)
    .await
    .expect("a trigger");
    let mut slow = Vec::new();
    for _ in 0..12 {
        slow.insert(0, ann.send_message(room, &"a_".repeat(8_192)).await);
    }
    let left_out = ann.send_message(room, "unparseable").await;
    let last = ann.send_message(room, "needle").await;
    wait_until_found(&ann, "q=needle", &[last]).await;
    wait_until_found(&ann, "q=a", &slow).await;
    assert_eq!(found(&ann, "q=unparseable").await, NOTHING);
    let due: i64 =
        sqlx::query_scalar("SELECT count(*) FROM search_due").fetch_one(&pool).await.expect("a count");
    assert_eq!(due, 0, "a skipped message is not tried again");
    let metrics = cluster.persister[0].metrics().await;
    assert!(metrics.contains("\nroomcast_search_skipped_total 1\n"), "{metrics}");
    // After an edit the message is indexed.
    let path = paths::message(room, left_out);
    ann.patch(&path, json!({ "message": "parseable" })).await;
    wait_until_found(&ann, "q=parseable", &[left_out]).await;
}

#[tokio::test]
async fn messages_are_indexed_in_the_end_however_often_the_database_was_too_slow() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let pool = cluster.database.pool().await;
    // Postgres cancels each statement that writes to the index as if it had timed out. A
    // sequence counts them, since it is not rolled back.
    sqlx::raw_sql(
        "CREATE SEQUENCE attempts;
         CREATE FUNCTION time_out() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             PERFORM nextval('public.attempts');
             RAISE EXCEPTION 'out of time' USING ERRCODE = '57014'; END $$;
         CREATE TRIGGER time_out BEFORE INSERT ON message_search FOR EACH STATEMENT
         EXECUTE FUNCTION time_out();",
    )
    .execute(&pool)
    .await
    .expect("a trigger");
    let ids = [ann.send_message(room, "first needle").await, ann.send_message(room, "second needle").await];
    // The first attempt is in a slice, later ones alone.
    eventually("the first is tried several times", || async {
        let sql = "SELECT last_value FROM attempts";
        let attempts: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.ok()?;
        (attempts >= 4).then_some(())
    })
    .await;
    sqlx::raw_sql("DROP TRIGGER time_out ON message_search")
        .execute(&pool)
        .await
        .expect("the trigger is dropped");
    wait_until_found(&ann, "q=needle", &[ids[1], ids[0]]).await;
    let metrics = cluster.persister[0].metrics().await;
    assert!(!metrics.contains("\nroomcast_search_skipped_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn search_refusals_have_their_exact_answers() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let long = format!("q={}", "%C3%BC".repeat(201));
    for (query, detail) in [
        ("", "q: must not be blank."),
        ("q=%20", "q: must not be blank."),
        ("q=a%00", "q: must not contain U+0000."),
        (long.as_str(), "q: must have at most 200 characters."),
        ("q=a&room=x", "room: must be a room's id."),
        ("q=a&room=0", "room: must be a room's id."),
        ("q=a&limit=0", "limit: must be 1 to 200."),
        ("q=a&cursor=x", "cursor: must be one that was given as `next`."),
    ] {
        let refused = ann.get(&paths::search(query)).await;
        assert_eq!(refusal(&refused), (400, "bad_request", detail), "{query}");
    }
    // Every text is a valid query.
    for query in ["q=%22", "q=!%26%7C%3A*()", "q=-", "q=the%20or%20and%20%3C-%3E"] {
        assert_eq!(found(&ann, query).await, NOTHING, "{query}");
    }
    let pool = cluster.database.pool().await;
    let mut held = pool.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE message_search IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await
        .expect("a lock");
    let slow = ann.get(&paths::search("q=a")).await;
    let detail = "The search took too long. Look for rarer words, or in one room.";
    assert_eq!(refusal(&slow), (503, "unavailable", detail));
    held.rollback().await.expect("the lock is released");
    assert_eq!(found(&ann, "q=a").await, NOTHING);
}
