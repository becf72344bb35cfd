//! Checks that messages of the desk are stored once and can be read at once.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, Size},
    eventually,
};

use super::{SERVICE, get, key, message, messages, refusal, send, shown, visit, visit_of, visitor};

#[tokio::test]
async fn support_message_is_read_at_once_on_another_node() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (rest, other) = (visitor(&cluster, 0), visitor(&cluster, 1));
    let mut room = visit(&rest, visit_of("ABCD12345")).await;
    let id = key(&room).to_owned();
    let shape = |response: &Value| json!({ "success": true, "message": "Room deatils based on workspace id", "response": response });
    assert_eq!(get(&other, "get_messages", &id).await, (StatusCode::OK, shape(&json!([]))));
    for (n, text) in ["first", "second", "third"].into_iter().enumerate() {
        let mut body = message(&id, text);
        body["side"] = (n != 1).into();
        body["auther"] = if n == 1 { "agent" } else { "client" }.into();
        body["message_type"] = if n == 2 { "image" } else { "text" }.into();
        let answer = rest.post(SERVICE, body).await;
        let done = json!({
            "success": true,
            "message": "Message updated successfully",
            "response": { "isSuccess": true },
        });
        assert_eq!(answer, (StatusCode::OK, done));
        room["message_data"] = text.into();
        assert_eq!(get(&other, "get_room_by_id", &id).await, (StatusCode::OK, shape(&json!([room]))));
    }
    let found = messages(&other, &id).await;
    let of = |n: usize, text: &str, side: bool, auther: &str, message_type: &str| {
        let mut expected = room.clone();
        expected["_id"] = found[n]["_id"].clone();
        expected["message_data"] = text.into();
        expected["room_id"] = id.as_str().into();
        expected["side"] = side.into();
        expected["auther"] = auther.into();
        expected["message_type"] = message_type.into();
        expected["created_at"] = found[n]["created_at"].clone();
        expected
    };
    let expected = [
        of(0, "first", true, "client", "text"),
        of(1, "second", false, "agent", "text"),
        of(2, "third", true, "client", "image"),
    ];
    assert_eq!(found, expected);
    let ids: Vec<&str> = found.iter().map(|message| message["_id"].as_str().expect("text")).collect();
    assert!(ids.iter().all(|id| id.len() == 24) && ids.is_sorted() && ids[0] != ids[1], "{ids:?}");
    assert!(found[0]["created_at"].as_str().is_some_and(|moment| moment.ends_with('Z')));
}

#[tokio::test]
async fn support_message_with_a_repeated_key_is_stored_once() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let room = visit(&visitor(&cluster, 0), visit_of("ABCD12345")).await;
    let room = key(&room);
    let send = async |n: usize, text: &str| {
        let request = visitor(&cluster, n).request(Method::POST, SERVICE).header("idempotency-key", "k-1");
        let answer = request.json(&message(room, text)).send().await.expect("the node answers");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    for n in 0..4 {
        assert_eq!(send(n % 2, "hello").await.0, StatusCode::OK);
    }
    let reused = refusal(422, "This client_id was used before, with another text.");
    assert_eq!(send(0, "something else").await, reused);
    assert_eq!(messages(&visitor(&cluster, 0), room).await.len(), 1);
}

#[tokio::test]
async fn support_history_has_the_newest_five_hundred_messages() {
    let cluster = Cluster::start(Size::default()).await;
    let rest = visitor(&cluster, 0);
    let room = visit(&rest, visit_of("ABCD12345")).await;
    let room = key(&room).to_owned();
    let mut requests = tokio::task::JoinSet::new();
    for n in 0..505 {
        let (rest, room) = (rest.clone(), room.clone());
        requests.spawn(async move { send(&rest, &room, &n.to_string()).await });
    }
    requests.join_all().await;
    send(&rest, &room, "last").await;
    let read = async |before: &str| {
        let (status, answer) = rest.get(&format!("{SERVICE}?type=get_messages&room_id={room}{before}")).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    };
    let newest = read("").await;
    let found = newest["response"].as_array().expect("a list");
    assert_eq!((found.len(), &found[499]["message_data"]), (500, &json!("last")));
    assert_eq!(newest["next"], found[0]["_id"], "the cursor is the oldest message");
    let oldest =
        read(&format!("&before={}", newest["next"].as_str().expect("a cursor for older messages"))).await;
    let older = oldest["response"].as_array().expect("a list");
    assert_eq!((older.len(), oldest.get("next")), (6, None));
    let mut texts: Vec<&Value> = older.iter().chain(found).map(|message| &message["message_data"]).collect();
    let ids = older.iter().chain(found).map(|message| message["_id"].as_str().expect("text"));
    assert!(ids.is_sorted());
    texts.sort_by_key(|text| text.as_str());
    texts.dedup();
    assert_eq!(texts.len(), 506, "each message is listed once");
}

#[tokio::test]
async fn support_history_before_a_foreign_message_is_refused() {
    let cluster = Cluster::start(Size::default()).await;
    let rest = visitor(&cluster, 0);
    let [room, other] = [visit(&rest, visit_of("a")).await, visit(&rest, visit_of("b")).await];
    let (room, other) = (key(&room), key(&other));
    for room in [room, other] {
        send(&rest, room, "first").await;
        send(&rest, room, "second").await;
    }
    let read = async |before: &str| {
        rest.get(&format!("{SERVICE}?type=get_messages&room_id={room}&before={before}")).await
    };
    let id = |messages: &[Value]| messages[1]["_id"].as_str().expect("text").to_owned();
    let own = id(&messages(&rest, room).await);
    let (status, answer) = read(&own).await;
    assert_eq!((status, &answer["response"][0]["message_data"]), (StatusCode::OK, &json!("first")));
    let refused = refusal(400, "before: must be the _id of a message of the room.");
    assert_eq!(
        read(&id(&messages(&rest, other).await)).await,
        refused,
        "a message of another room is refused"
    );
    for bad in [&own[1..], "x", "", room] {
        assert_eq!(read(bad).await, refused, "{bad}");
    }
}

#[tokio::test]
async fn support_messages_are_kept_and_unknown_keys_get_503_while_the_persister_is_down() {
    let mut cluster = Cluster::start(Size::default()).await;
    let rest = visitor(&cluster, 0);
    let room = visit(&rest, visit_of("ABCD12345")).await;
    let room = key(&room);
    cluster.persister[0].pause();
    // The creation is in the log only: reads by its key are answered 503, not 404.
    let new = visit(&rest, visit_of("EFGH")).await;
    assert_eq!((&new["user_id"], &new["is_active"]), (&json!("EFGH"), &json!(true)));
    send(&rest, room, "hello").await;
    assert_eq!(messages(&rest, room).await, [] as [Value; 0]);
    let unknown = refusal(503, "The room is not available now. Try again.");
    assert_eq!(get(&rest, "get_room_by_id", key(&new)).await, unknown);
    cluster.persister[0].resume();
    eventually("Postgres has all events", || async {
        (get(&rest, "get_room_by_id", key(&new)).await.0 == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(shown(&rest, key(&new)).await, new);
    eventually("the message can be read", || async {
        (messages(&rest, room).await.len() == 1).then_some(())
    })
    .await;
}
