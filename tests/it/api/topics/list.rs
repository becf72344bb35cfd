//! Tests the list of a category's chats, a hundred a page.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};
use tokio::task::JoinSet;

use super::{answer, chat, close, id_and_time, named};

#[tokio::test]
async fn topic_list_is_answered_as_in_the_document() {
    let cluster = Cluster::start(Size::default()).await;
    let (one, two) = (named(&cluster, 0, "1", "user1"), named(&cluster, 0, "2", "user2"));
    let host = cluster.api[0].address();
    let open = |path: &str| reqwest::Client::new().get(format!("http://{host}{path}"));
    let nothing = r#"{"count":0,"next":null,"previous":null,"results":[]}"#;
    assert_eq!(answer(open("/api/chat/films/")).await, (200, nothing.to_owned()));
    let mut expected = Vec::new();
    for (user, name, title) in [
        (&one, "user1", "Harry Potter characters"),
        (&two, "user2", "The Lord of the Rings films"),
        (&one, "user1", "Friends"),
    ] {
        let made = chat(user, "films", title).await;
        let (id, time) = id_and_time(&made);
        expected.push(format!(
            "{{\"id\":{id},\"title\":\"{title}\",\"room\":\"films\",\
             \"img\":\"http://{host}/media/chat_img/default.png\",\"creator\":\"{name}\",\
             \"description\":null,\"url\":\"/chat/films/{id}/\",\"timestamp\":\"{time}\"}}"
        ));
    }
    chat(&one, "music", "Friends").await;
    let page = format!(r#"{{"count":3,"next":null,"previous":null,"results":[{}]}}"#, expected.join(","));
    assert_eq!(answer(open("/api/chat/films/")).await, (200, page.clone()));
    assert_eq!(
        answer(open("/api/chat/films?x=1")).await,
        (200, page),
        "the path without a slash is redirected"
    );
    let (_, page) = one.get("/api/chat/films/").await;
    let first = page["results"][0]["id"].clone();
    close(&one, &first).await;
    let (_, page) = two.get("/api/chat/films/").await;
    assert_eq!(
        (&page["count"], &page["results"][0]["title"]),
        (&json!(2), &json!("The Lord of the Rings films"))
    );
}

#[tokio::test]
async fn topic_pages_link_to_each_other() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let mut making = JoinSet::new();
    for n in 0..201 {
        let ann = ann.clone();
        making.spawn(async move { chat(&ann, "games", &format!("game {n}")).await["id"].as_u64() });
    }
    let mut ids: Vec<u64> = making.join_all().await.into_iter().flatten().collect();
    ids.sort_unstable();
    let host = cluster.api[0].address();
    let (mut listed, mut previous) = (Vec::new(), Value::Null);
    let mut next = json!(format!("http://{host}/api/chat/games/"));
    while let Some(address) = next.as_str() {
        let page: Value = reqwest::get(address).await.expect("the node answers").json().await.expect("JSON");
        assert_eq!((&page["count"], &page["previous"]), (&json!(201), &previous));
        let results = page["results"].as_array().expect("chats");
        assert!(results.len() <= 100);
        listed.extend(results.iter().filter_map(|chat| chat["id"].as_u64()));
        previous = next.clone();
        next = page["next"].clone();
    }
    assert_eq!(listed, ids, "each topic is listed once, ordered by id");
    assert_eq!(previous, format!("http://{host}/api/chat/games/?page=3"));
    let (_, last) = ann.get("/api/chat/games/?page=last").await;
    assert_eq!(last["results"].as_array().map(Vec::len), Some(1));
    // Closed topics are neither listed nor counted.
    for id in &ids[50..53] {
        close(&ann, &json!(id)).await;
    }
    let (_, second) = ann.get("/api/chat/games/?page=2").await;
    let shown: Vec<u64> =
        second["results"].as_array().expect("chats").iter().filter_map(|chat| chat["id"].as_u64()).collect();
    assert_eq!(
        (&second["count"], &second["next"], shown.as_slice()),
        (&json!(198), &Value::Null, &ids[103..])
    );
    let (status, _) = ann.get("/api/chat/games/?page=3").await;
    assert_eq!(status, 404);
    for n in 0..3 {
        chat(&ann, "games", &format!("another {n}")).await;
    }
    let request = ann
        .request(Method::GET, "/api/chat/games/?page=2&z=1&a=b")
        .header("x-forwarded-proto", "https, http");
    let page: Value = request.send().await.expect("the node answers").json().await.expect("JSON");
    assert_eq!(page["next"], format!("https://{host}/api/chat/games/?a=b&page=3&z=1"));
    assert_eq!(page["previous"], format!("https://{host}/api/chat/games/?a=b&z=1"));
    for bad in ["0", "4", "x", "-1"] {
        let (status, refused) = ann.get(&format!("/api/chat/games/?page={bad}")).await;
        assert_eq!((status, refused), (StatusCode::NOT_FOUND, json!({ "detail": "Invalid page." })), "{bad}");
    }
}
