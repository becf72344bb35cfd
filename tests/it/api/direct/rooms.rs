//! Checks how direct rooms are added, listed, selected and stopped.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign, token},
    postgres::Database,
};

use super::{MESSAGE, ROOM, ROOMS, add, admin, claims, get, keys, person, post, send};

/// Whether the value is a number with a fraction.
fn is_seconds(value: &Value) -> bool {
    let now = protocol::clock::Timestamp::now().unix_ms() / 1_000;
    value.as_f64().is_some_and(|seconds| (seconds - now as f64).abs() < 60.0)
}

/// Whether the value has the form `2019-12-02 14:08:13.574211+00:00`.
fn is_created(value: &Value) -> bool {
    let shape: String =
        value.as_str().unwrap_or("").chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00 00:00:00.000000+00:00"
}

#[tokio::test]
async fn examples_of_the_direct_document_are_answered_in_their_shape() {
    let cluster = Cluster::start(Size::default()).await;
    let (seven, other) = (person(&cluster, 0, 7), person(&cluster, 0, 26));
    let room = post(&seven, "/room/add", json!({ "owner": 7, "abonent": 26 })).await;
    let id = tests::native::id(&room);
    assert_eq!(keys(&room), ROOM);
    assert!(is_seconds(&room["activity"]), "{room}");
    let expected = json!({
        "abonent_id": 26, "id": id, "is_current": true, "is_active": false, "is_low_account": false,
        "activity": room["activity"], "messages": {},
    });
    assert_eq!(room, expected);

    let send = json!({
        "author": {
            "account": "0", "email": "man6@gmail.com", "gender": "male", "groups": [], "id": 7,
            "is_camera": false, "is_online": true, "is_superuser": false, "language": "en",
            "last_feed": {
                "id": 35, "title": "Test feed of man6 5",
                "main_media": { "id": 173, "type_media": "photo", "orient": "port" },
            },
            "main_photo": "...jpg", "middle_photo": "....jpg",
            "token": "28e3ba29c14d059c625492747cad7a27d6a3b9d4", "username": "man6",
        },
        "created": "2019-12-02T14:19:34.569Z", "message": "vdsvdsvsd", "room_id": id,
    });
    let sent = post(&seven, "/room/list", send).await;
    assert_eq!(keys(&sent), ROOM);
    let messages = sent["messages"].as_object().expect("an object");
    let (message_id, message) = messages.iter().next().expect("the new message");
    assert_eq!(keys(message), MESSAGE);
    assert_eq!(*message_id, message["id"].to_string());
    assert!(message["id"].is_u64() && is_created(&message["created"]), "{message}");
    assert!(
        !message["created"].as_str().expect("text").starts_with("2019"),
        "the client's clock counts for nothing"
    );
    let fields = (&message["message"], &message["author_id"], &message["is_readed"]);
    assert_eq!(fields, (&json!("vdsvdsvsd"), &json!(7), &json!(false)));

    let rooms = get(&other, "/room/list").await;
    assert_eq!(keys(&rooms), ROOMS);
    let mut shown = sent.clone();
    (shown["abonent_id"], shown["is_current"]) = (json!(7), json!(false));
    let contact = json!({
        "id": 7, "account": null, "language": "en", "gender": "male", "username": "man7", "email": null,
        "main_photo": "7.jpg", "business": null, "is_online": false, "is_camera": false,
    });
    let mut expected = json!({
        "contact_users": { "7": contact }, "contacts_ids": [7], "current_room": null, "online_ids": [],
        "room_ids": [id], "rooms": {},
    });
    expected["rooms"][id.to_string()] = shown;
    assert_eq!(rooms, expected);

    let selected = get(&other, &format!("/room/select/{id}")).await;
    assert_eq!(keys(&selected), ROOMS);
    assert_eq!(selected["current_room"], id);
    let key = id.to_string();
    let room = &selected["rooms"][&key];
    assert_eq!(
        (&room["is_current"], &room["messages"][message_id]["is_readed"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(get(&other, "/room/list").await, selected, "the list has the same answer");
    let shown = get(&seven, "/room/list").await;
    assert_eq!(
        shown["rooms"][&key]["messages"][message_id]["is_readed"], true,
        "the message is read by the other person"
    );

    assert_eq!(get(&seven, &format!("/room/stop/{id}")).await, json!({ "status": 0, "message": "Ok" }));
    assert_eq!(get(&seven, "/webrtc/cameraOn").await, json!({ "camera_on": "ok" }));
    assert_eq!(get(&seven, "/webrtc/cameraOff").await, json!({ "camera_off": "ok" }));
}

#[tokio::test]
async fn addresses_may_end_in_a_slash_and_every_token_scheme_is_accepted() {
    let cluster = Cluster::start(Size::default()).await;
    let seven = person(&cluster, 0, 7);
    let body = json!({ "owner": "7", "abonent": "26" });
    let room = post(&seven, "/room/add/", body.clone()).await["id"].clone();
    assert_eq!(post(&seven, "/room/add", body).await["id"], room, "ids may be strings");
    post(&seven, "/room/list/", json!({ "room_id": room, "message": "hi", "author": null })).await;
    for path in [
        "/room/list/".to_owned(),
        format!("/room/select/{room}/"),
        format!("/room/stop/{room}/"),
        "/webrtc/cameraOn/".to_owned(),
        "/webrtc/cameraOff/".to_owned(),
    ] {
        get(&seven, &path).await;
    }
    let address = format!("http://{}/room/list", cluster.api[0].address());
    for scheme in ["Bearer", "Token", "JWT"] {
        let request =
            reqwest::Client::new().get(&address).header("authorization", format!("{scheme} {}", token("7")));
        assert_eq!(request.send().await.expect("the node answers").status(), StatusCode::OK, "{scheme}");
    }
    // A JSON body is read as JSON under any content type.
    let request = seven.request(Method::POST, "/room/list").header("content-type", "text/plain");
    let answer = request.body(json!({ "room_id": room, "message": "plain" }).to_string()).send().await;
    assert_eq!(answer.expect("the node answers").status(), StatusCode::OK);
}

#[tokio::test]
async fn room_is_active_once_both_have_written_until_it_is_stopped() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob) = (person(&cluster, 0, 7), person(&cluster, 1, 8));
    let room = add(&ann, 7, 8).await;
    let is_active =
        async |rest: &Rest| get(rest, "/room/list").await["rooms"][room.to_string()]["is_active"] == true;
    for _ in 0..2 {
        for (writer, active) in [(&ann, false), (&ann, false), (&bob, true)] {
            assert_eq!(send(writer, room, "hi").await.1["is_active"], active);
        }
        assert!(is_active(&ann).await && is_active(&bob).await);
        get(&bob, &format!("/room/stop/{room}")).await;
        assert!(!is_active(&ann).await && !is_active(&bob).await, "both people may stop the room");
    }
    assert_eq!(add(&bob, 8, 7).await, room, "the pair keeps its room");
}

#[tokio::test]
async fn selected_room_is_current_and_rooms_with_unread_messages_come_first() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, again) = (person(&cluster, 0, 7), person(&cluster, 1, 7));
    let mut rooms = Vec::new();
    for other in [8, 9, 10] {
        rooms.push(add(&ann, 7, other).await);
        assert_eq!(get(&again, "/room/list").await["current_room"], *rooms.last().expect("one"));
    }
    send(&person(&cluster, 1, 9), rooms[1], "news").await;
    let list = get(&ann, "/room/list").await;
    assert_eq!(
        list["room_ids"],
        json!([rooms[2], rooms[1], rooms[0]]),
        "the current room is first, the others are ordered by activity"
    );
    assert_eq!(list["contacts_ids"], json!([10, 9, 8]));
    assert_eq!(keys(&list["contact_users"]), ["10", "8", "9"]);
    let selected = get(&ann, &format!("/room/select/{}", rooms[0])).await;
    assert_eq!(selected["room_ids"], json!([rooms[0], rooms[1], rooms[2]]));
    let current: Vec<bool> =
        rooms.iter().map(|room| selected["rooms"][room.to_string()]["is_current"] == true).collect();
    assert_eq!(current, [true, false, false]);
    assert_eq!(get(&again, "/room/list").await, selected);
    let other = get(&person(&cluster, 0, 8), "/room/list").await;
    assert_eq!(other["current_room"], Value::Null, "a selection counts only for the person who made it");
}

#[tokio::test]
async fn low_account_is_shown_to_its_owner() {
    let more = [("ROOMCAST_LOW_ACCOUNT", "10")];
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &more).await;
    let rich = |user: u64, account: Value| {
        let mut claims = claims(user);
        claims["account"] = account;
        Rest::new(&cluster.api[0].address(), &sign(&claims))
    };
    let (poor, rich) = (rich(7, json!("9.99")), rich(8, json!(10)));
    let added = post(&poor, "/room/add", json!({ "owner": 7, "abonent": 8 })).await;
    assert_eq!(added["is_low_account"], true);
    let key = added["id"].to_string();
    assert_eq!(get(&poor, "/room/list").await["rooms"][&key]["is_low_account"], true);
    assert_eq!(get(&rich, "/room/list").await["rooms"][&key]["is_low_account"], false);
}

#[tokio::test]
async fn admin_adds_and_reads_rooms_like_the_owner() {
    let cluster = Cluster::start(Size::default()).await;
    let admin = admin(&cluster);
    let room = post(&admin, "/room/add", json!({ "owner": 7, "abonent": 26 })).await;
    assert_eq!((&room["abonent_id"], &room["is_current"]), (&json!(26), &json!(true)));
    let (_, answer) = send(&admin, tests::native::id(&room), "welcome").await;
    assert_eq!(answer["abonent_id"], 26);
    let rooms = get(&admin, "/room/list").await;
    assert_eq!(
        (&rooms["room_ids"], &rooms["current_room"]),
        (&json!([]), &Value::Null),
        "an admin lists only rooms of their own"
    );
    let theirs = get(&person(&cluster, 0, 26), "/room/list").await;
    assert_eq!((&theirs["contacts_ids"], &theirs["current_room"]), (&json!([7]), &Value::Null));
}

#[tokio::test]
async fn room_list_has_a_hundred_rooms_and_always_the_current_one() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = person(&cluster, 0, 7);
    let mut rooms = Vec::new();
    for other in 100..202 {
        rooms.push(add(&ann, 7, other).await);
    }
    let list = get(&ann, &format!("/room/select/{}", rooms[0])).await;
    let listed: Vec<u64> =
        list["room_ids"].as_array().expect("ids").iter().filter_map(Value::as_u64).collect();
    let mut expected: Vec<u64> = rooms[3..].iter().rev().copied().collect();
    expected.insert(0, rooms[0]);
    assert_eq!(listed, expected);
    let rest = get(&ann, &format!("/room/list?cursor={}", list["next"].as_str().expect("a next page"))).await;
    assert_eq!((&rest["room_ids"], rest.get("next")), (&json!([rooms[2], rooms[1]]), None));
    let wrong = ann.get("/room/list?cursor=nonsense").await;
    assert_eq!((wrong.0.as_u16(), wrong.1["detail"].is_string()), (400, true));
    assert_eq!(list["rooms"].as_object().map(|rooms| rooms.len()), Some(100));
}
