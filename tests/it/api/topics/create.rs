//! Tests how a chat is made, in every form of its fields; it is a room like any other.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};
use tests::paths;

use super::{CHAT, PICTURE, answer, chat, form, id_and_time, multipart, named};

#[tokio::test]
async fn creation_of_a_topic_is_answered_as_in_the_document() {
    let cluster = Cluster::start(Size::default()).await;
    let (user, host) = (named(&cluster, 0, "7", "userName"), cluster.api[0].address());
    let fields = [("title", "Harry Potter"), ("room", "films"), ("description", "Discussion of characters")];
    let (status, text) = answer(form(user.request(Method::POST, CHAT), &fields)).await;
    assert_eq!(status, 200, "{text}");
    let made: Value = serde_json::from_str(&text).expect("JSON");
    let (id, time) = id_and_time(&made["chat"]);
    assert_eq!(
        text,
        format!(
            "{{\"chat\":{{\"id\":{id},\"title\":\"Harry Potter\",\"room\":\"films\",\
             \"img\":\"http://{host}/media/chat_img/default.png\",\"creator\":\"userName\",\
             \"description\":\"Discussion of characters\",\"url\":\"/chat/films/{id}/\",\
             \"timestamp\":\"{time}\"}}}}"
        )
    );
    assert_eq!((time.len(), time.ends_with('Z')), ("2023-08-03T08:51:26.593514Z".len(), true));
}

#[tokio::test]
async fn topic_creation_is_the_same_by_json_form_and_multipart() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let post = |path: &str| ann.request(Method::POST, path);
    let parts = |title| [("title", None, title), ("room", None, &b"music"[..]), ("more", None, b"x")];
    let requests = [
        post(CHAT).json(&json!({ "title": "one", "room": "music", "more": [1] })),
        form(post(CHAT), &[("title", " two "), ("room", "music"), ("img", ""), ("description", "")]),
        multipart(post(CHAT), &parts(b"three")),
        // Clients lose a body on a redirect.
        post("/api/chat").json(&json!({ "title": "four", "room": "music", "description": "\n" })),
        multipart(post("/api/chat"), &[&parts(b"five")[..], &[("img", Some("p.png"), PICTURE)]].concat()),
        // An empty file field, as of a form without a chosen file.
        multipart(post(CHAT), &[&parts(b"six")[..], &[("img", Some(""), b"")]].concat()),
        post(CHAT).json(&json!({ "title": 7, "room": "music" })),
    ];
    for (request, title) in requests.into_iter().zip(["one", "two", "three", "four", "five", "six", "7"]) {
        let (status, text) = answer(request).await;
        assert_eq!(status, 200, "{title}: {text}");
        let made: Value = serde_json::from_str(&text).expect("JSON");
        let chat = &made["chat"];
        assert_eq!((&chat["title"], &chat["room"]), (&json!(title), &json!("music")), "{chat}");
        assert_eq!((&chat["creator"], &chat["description"]), (&json!("ann"), &Value::Null), "{chat}");
        let is_default = chat["img"].as_str().is_some_and(|img| img.ends_with("/default.png"));
        assert_eq!(is_default, title != "five", "{chat}");
    }
}

#[tokio::test]
async fn topic_is_a_room_for_other_dialects() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let mut system = cluster.socket(0, "bob").await;
    system.subscribe("system").await;
    let made = chat(&ann, "books", "Dune").await;
    let id = tests::native::id(&made);
    let push = system.event("chatroom").await;
    assert_eq!((&*push.channel, &json!(push.id())), ("system", &made["id"]));
    let data = &push.data;
    assert_eq!((&data["request_type"], &data["kind"]), (&json!("chatroom"), &json!("topic")));
    assert_eq!((&data["name"], &data["created_at"]), (&json!("Dune"), &made["timestamp"]));
    assert_eq!(data["detail"], json!({ "topic": { "category": "books" } }));

    let (status, room) = bob.get(&paths::room(id)).await;
    assert_eq!((status, &room["name"]), (StatusCode::OK, &json!("Dune")));
    assert_eq!((&room["private"], &room["user"]), (&json!(false), &json!("ann")));
    assert_eq!(bob.rooms().await[0].id, id);
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(id).await;
    let sent = bob.send_message(id, "The spice must flow.").await;
    let push = socket.event("chat-message").await;
    assert_eq!((push.id(), push.user()), (sent, "bob"));
    let answer = socket.send_message_to(id, "It does.").await;
    assert_eq!(bob.messages(id).await[1].id, answer);
}

#[tokio::test]
async fn topic_categories_are_configured() {
    let more = [("ROOMCAST_TOPICS", "sport,art-house")];
    let database = tests::postgres::Database::shared();
    let cluster = Cluster::start_with(Size::default(), database, &more).await;
    let ann = cluster.rest(0, "ann");
    let made = chat(&ann, "art-house", "Stalker").await;
    assert_eq!(made["url"], format!("/chat/art-house/{}/", made["id"]));
    let (status, refused) = ann.post(CHAT, json!({ "title": "Dune", "room": "films" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(refused, json!({ "room": ["\"films\" is not a valid choice."] }));
    assert_eq!(ann.get("/api/chat/films/").await.1, json!({ "Error": "wrong room" }));
}
