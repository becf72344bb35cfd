//! Tests that a title exists once in a category: of many requests that make it at once, one succeeds.

use reqwest::Method;
use serde_json::json;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    folder::Folder,
    postgres::Database,
};
use tokio::task::JoinSet;

use super::{CHAT, PICTURE, TAKEN, answer, chat, close, multipart};

async fn make(rest: &Rest, room: &str, title: &str) -> (u16, String) {
    answer(rest.request(Method::POST, CHAT).json(&json!({ "title": title, "room": room }))).await
}

#[tokio::test]
async fn topic_creation_is_unique_under_concurrent_requests() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    for generation in 0..2 {
        let mut making = JoinSet::new();
        for n in 0..40 {
            let rest = cluster.rest(n % 2, &format!("user-{n}"));
            making.spawn(async move { make(&rest, "films", "Dune").await });
        }
        let answers = making.join_all().await;
        let refused = answers.iter().filter(|answer| **answer == (400, TAKEN.to_owned())).count();
        let made: Vec<_> = answers.iter().filter(|(status, _)| *status == 200).collect();
        assert_eq!((made.len(), refused), (1, 39), "{answers:?}");
        let (_, page) = cluster.rest(1, "ann").get("/api/chat/films/").await;
        assert_eq!((&page["count"], &page["results"][0]["title"]), (&json!(1), &json!("Dune")));
        // A closed chat's title is free again.
        close(&super::admin(&cluster), &page["results"][0]["id"]).await;
        assert_eq!(cluster.rest(1, "ann").get("/api/chat/films/").await.1["count"], 0, "{generation}");
    }
}

#[tokio::test]
async fn topic_titles_are_compared_like_the_original() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    chat(&ann, "films", "Dune").await;
    for (room, title, status) in
        [("films", " Dune\n", 400), ("films", "dune", 200), ("books", "Dune", 200), ("films", "Dune 2", 200)]
    {
        assert_eq!(make(&bob, room, title).await.0, status, "{room} {title:?}");
    }
    let (status, text) = answer(bob.request(Method::POST, CHAT).json(&json!({ "title": "Dune" }))).await;
    let required = r#"{"room":["This field is required."]}"#;
    assert_eq!((status, text.as_str()), (400, required), "fields are checked before rights");
}

#[tokio::test]
async fn topic_creation_with_a_repeated_key_leaves_no_picture_over() {
    let folder = Folder::new();
    let path = format!("file://{}", folder.path().display());
    let more = [("ROOMCAST_MEDIA", path.as_str())];
    let size = Size { api: 2, ..Size::default() };
    let cluster = Cluster::start_with(size, Database::shared(), &more).await;
    let make = async |n: usize, user: &str, key: Option<&str>, title: &str| {
        let mut request = cluster.rest(n, user).request(Method::POST, CHAT);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        // Picture URLs contain the node's own address.
        let request = request.header("host", "chat.example");
        let parts =
            [("title", None, title.as_bytes()), ("room", None, b"films"), ("img", Some("p"), PICTURE)];
        answer(multipart(request, &parts)).await
    };
    let file_count = || std::fs::read_dir(folder.path()).expect("the folder").count();
    let first = make(0, "ann", Some("k-1"), "Dune").await;
    assert_eq!((first.0, file_count()), (200, 1), "{first:?}");
    assert_eq!(make(1, "ann", Some("k-1"), "Dune").await, first);
    assert_eq!(
        make(1, "bob", Some("k-1"), "Dune").await,
        (400, TAKEN.to_owned()),
        "another person's key is refused"
    );
    assert_eq!(make(0, "ann", None, "Dune").await, (400, TAKEN.to_owned()));
    assert_eq!(file_count(), 1);
    let reused = r#"{"detail":"This Idempotency-Key was used before, for something else."}"#;
    assert_eq!(make(0, "ann", Some("k-1"), "Arrakis").await, (422, reused.to_owned()));
}
