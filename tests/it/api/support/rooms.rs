//! Tests the room of a visit: found or made, listed, closed.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};
use tokio::task::JoinSet;

use super::{
    CONTROL, LIST, SERVICE, agent, close, forbidden, key, message, refusal, send, shown, visit, visit_of,
    visitor,
};

const AT_ONCE: usize = 50;

#[tokio::test]
async fn each_visit_has_its_own_room() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (one, other) = (visitor(&cluster, 0), visitor(&cluster, 1));
    let (status, answer) = one.post(CONTROL, visit_of("ABCD12345")).await;
    assert_eq!(status, StatusCode::OK);
    let room = answer["response"].clone();
    let (id, event) = (key(&room), room["eventId"].as_str().expect("text"));
    assert!(id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert!(
        event.starts_with("FB1010000000") && event.len() == 30 && event.as_bytes()[22] == b'#',
        "{event}"
    );
    let expected = json!({
        "success": true,
        "message": "Room filter successfully",
        "inserted_id": id,
        "response": {
            "_id": id,
            "eventId": event,
            "user_id": "ABCD12345",
            "org_id": "DOWELL12345",
            "portfolio_name": "umair",
            "room_room_id": "1-ABCD12345",
            "product_name": "WIFIQRCODE",
            "message_data": "",
            "is_active": true,
        },
    });
    assert_eq!(answer, expected);
    assert_eq!(other.post("/api/v2/room-control", visit_of("ABCD12345")).await, (status, answer));
    for (field, value, ordinal) in [
        ("user_id", "EFGH", "1-EFGH"),
        ("org_id", "OTHER", "1-ABCD12345"),
        ("portfolio_name", "other", "2-ABCD12345"),
        ("product_name", "LOGOSCAN", "3-ABCD12345"),
    ] {
        let mut body = visit_of("ABCD12345");
        body[field] = value.into();
        let found = visit(&other, body).await;
        assert_ne!(key(&found), id, "{field}");
        assert_eq!((&found[field], &found["room_room_id"]), (&json!(value), &json!(ordinal)));
    }
    assert_eq!(
        visit(&one, json!({ "user_id": 7, "org_id": "a", "portfolio_name": "b", "product_name": "c" })).await
            ["user_id"],
        "7"
    );
}

#[tokio::test]
async fn concurrent_requests_of_a_visit_get_one_room() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let mut keys = BTreeSet::new();
    for generation in 1..=2 {
        let mut requests = JoinSet::new();
        for n in 0..AT_ONCE {
            let rest = visitor(&cluster, n % 2);
            requests.spawn(async move { visit(&rest, visit_of("ABCD12345")).await });
        }
        let rooms: Vec<Value> = requests.join_all().await;
        assert!(rooms.iter().all(|room| *room == rooms[0]), "{rooms:?}");
        assert_eq!(rooms[0]["room_room_id"], format!("{generation}-ABCD12345"));
        assert!(keys.insert(key(&rooms[0]).to_owned()), "a closed room's key is not reused");
        assert_eq!(close(&visitor(&cluster, 0), key(&rooms[0])).await.0, StatusCode::OK);
    }
    let sql = "SELECT generation FROM room WHERE kind = 'support' ORDER BY id";
    let pool = cluster.database.pool().await;
    let rows: Vec<i32> = sqlx::query_scalar(sql).fetch_all(&pool).await.expect("rows");
    assert_eq!(rows, [0, 1]);
}

#[tokio::test]
async fn support_room_can_be_closed_in_three_ways() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (rest, other) = (visitor(&cluster, 0), visitor(&cluster, 1));
    let body = |room: &str| json!({ "type": "delete_room", "room_id": room, "is_active": false });
    let done = json!({
        "success": true,
        "message": "Room deleted successfully",
        "response": { "isSuccess": true },
    });
    for (method, in_body) in
        [(Method::GET, true), (Method::POST, true), (Method::DELETE, true), (Method::DELETE, false)]
    {
        let room = visit(&rest, visit_of("ABCD12345")).await;
        let room = key(&room);
        send(&rest, room, "goodbye").await;
        let head = other.send(Method::HEAD, SERVICE, &body(room)).await.expect("the node answers");
        assert_eq!(head.0, StatusCode::BAD_REQUEST, "HEAD does not close the room");
        assert_eq!(shown(&rest, room).await["is_active"], true);
        let (path, body) = if in_body {
            (SERVICE.to_owned(), body(room))
        } else {
            (format!("{SERVICE}?room_id={room}"), Value::Null)
        };
        for _ in 0..2 {
            let answer = other.send(method.clone(), &path, &body).await.expect("the node answers");
            assert_eq!(answer, (StatusCode::OK, done.clone()), "{method} {in_body}");
        }
        let closed = shown(&rest, room).await;
        assert_eq!((&closed["is_active"], &closed["message_data"]), (&json!(false), &json!("goodbye")));
        let late = rest.post(SERVICE, message(room, "too late")).await;
        assert_eq!(late, refusal(409, "This room is closed."));
        let messages = super::messages(&rest, room).await;
        assert_eq!((messages.len(), &messages[0]["is_active"]), (1, &json!(false)));
    }
}

#[tokio::test]
async fn open_support_rooms_are_listed_newest_first() {
    let cluster = Cluster::start(Size::default()).await;
    let rest = visitor(&cluster, 0);
    let mut rooms = Vec::new();
    for user in ["a", "b", "c"] {
        rooms.push(visit(&rest, visit_of(user)).await);
    }
    for (field, value) in [("org_id", "OTHER"), ("product_name", "LOGOSCAN")] {
        let mut body = visit_of("a");
        body[field] = value.into();
        visit(&rest, body).await;
    }
    send(&rest, key(&rooms[0]), "hello").await;
    assert_eq!(close(&rest, key(&rooms[1])).await.0, StatusCode::OK);
    rooms[0]["message_data"] = "hello".into();
    let path = format!("{LIST}?org_id=DOWELL12345&product_name=WIFIQRCODE");
    let agent = agent(&cluster, "DOWELL12345");
    let expected = (StatusCode::OK, json!({ "rooms": [rooms[2], rooms[0]] }));
    assert_eq!(agent.get(&path).await, expected);
    assert_eq!(agent.get(&path.replace("/?", "?")).await, expected);
    let nothing = format!("{LIST}?org_id=DOWELL12345&product_name=NOTHING");
    assert_eq!(agent.get(&nothing).await, (StatusCode::OK, json!({ "rooms": [] })));
    assert_eq!(agent.get(&format!("{LIST}?org_id=OTHER&product_name=WIFIQRCODE")).await, forbidden());
}

#[tokio::test]
async fn support_list_has_the_newest_500_open_of_the_newest_5000_rooms() {
    let cluster = Cluster::start(Size::default()).await;
    let pool = cluster.database.pool().await;
    let made = "INSERT INTO room (shard, id, kind, name, private, creator, active, created_at, detail)
        SELECT -1, 10000 + n, 'support', 'a room', true, 'visitor:7', true, now(),
               jsonb_build_object('support', jsonb_build_object(
                   'secret', lpad(n::text, 24, '0'), 'visitor', '7', 'org_id', 'DOWELL12345',
                   'portfolio_name', 'umair', 'product_name', 'WIFIQRCODE', 'event_id', 'FB', 'ordinal', n))
        FROM generate_series(1, 5100) n";
    sqlx::query(made).execute(&pool).await.expect("rooms");
    let agent = agent(&cluster, "DOWELL12345");
    let list = async |cursor: &str| {
        let path = format!("{LIST}?org_id=DOWELL12345&product_name=WIFIQRCODE{cursor}");
        let (status, answer) = agent.get(&path).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let rooms = answer["rooms"].as_array().expect("a list");
        let ordinal = |room: &Value| room["room_room_id"].as_str().expect("text").replace("-7", "");
        let ordinals: Vec<String> = rooms.iter().map(ordinal).collect();
        (ordinals, answer["next"].as_str().map(|next| format!("&cursor={next}")))
    };
    let ordinals = async || {
        let (ordinals, _) = list("").await;
        (ordinals.len(), ordinals.first().cloned(), ordinals.last().cloned())
    };
    assert_eq!(ordinals().await, (500, Some("5100".to_owned()), Some("4601".to_owned())));
    let (mut all, mut next) = (Vec::new(), Some(String::new()));
    while let Some(cursor) = next {
        let page = list(&cursor).await;
        all.extend(page.0);
        next = page.1;
    }
    let every: Vec<String> = (1..=5_100).rev().map(|n| n.to_string()).collect();
    assert_eq!(all, every, "the pages list every room once");
    let closed = "INSERT INTO room_state (shard, room, changed, closed_at)
        SELECT (10000 + n) % 8, 10000 + n, 1, now() FROM generate_series(201, 5100) n";
    sqlx::query(closed).execute(&pool).await.expect("the rooms are closed");
    assert_eq!(ordinals().await, (100, Some("200".to_owned()), Some("101".to_owned())));
}
