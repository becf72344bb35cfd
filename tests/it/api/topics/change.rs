//! Tests changes of a chat's description, the only field that can be changed.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
};

use super::{FORBIDDEN, NOT_FOUND, admin, answer, chat, close, form, id_and_time, named};

async fn patch(rest: &Rest, path: &str, body: &Value) -> (u16, String) {
    answer(rest.request(Method::PATCH, path).json(body)).await
}

#[tokio::test]
async fn change_of_a_topic_is_answered_as_in_the_document() {
    let cluster = Cluster::start(Size::default()).await;
    let leslie = named(&cluster, 0, "7", "Leslie");
    let made = chat(&leslie, "music", "Imagine Dragons").await;
    let (id, time) = id_and_time(&made);
    let mut socket = cluster.socket(0, "bob").await;
    socket.subscribe_room(id).await;
    let path = format!("/api/chat/music/{id}/");
    let changed = form(leslie.request(Method::PATCH, &path), &[("description", "Chat description")]);
    let expected = format!(
        "{{\"id\":{id},\"title\":\"Imagine Dragons\",\"room\":\"music\",\
         \"img\":\"http://{}/media/chat_img/default.png\",\"creator\":\"Leslie\",\
         \"description\":\"Chat description\",\"url\":\"/chat/music/{id}/\",\"timestamp\":\"{time}\"}}",
        cluster.api[0].address()
    );
    assert_eq!(answer(changed).await, (200, expected.clone()));
    let push = socket.event("room-update").await;
    assert_eq!(push.data["description"], "Chat description");
    let (_, page) = leslie.get("/api/chat/music/").await;
    assert_eq!(page["results"][0], serde_json::from_str::<Value>(&expected).expect("JSON"));
    let nothing = json!({ "title": "Queen", "room": "films", "img": "x" });
    assert_eq!(patch(&leslie, &path, &nothing).await, (200, expected), "other fields keep their values");
    for none in [json!(null), json!(" ")] {
        let slashless = path.trim_end_matches('/');
        let (status, text) = patch(&leslie, slashless, &json!({ "description": none })).await;
        let changed: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((status, &changed["description"]), (200, &Value::Null));
    }
}

#[tokio::test]
async fn topic_change_is_refused_for_others_and_for_other_fields() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let made = chat(&ann, "music", "Imagine Dragons").await;
    let id = &made["id"];
    let path = format!("/api/chat/music/{id}/");
    let body = json!({ "description": "mine" });
    assert_eq!(patch(&bob, &path, &body).await, (400, FORBIDDEN.to_owned()));
    let long = json!({ "description": "x".repeat(401) });
    assert_eq!(
        patch(&bob, &path, &long).await,
        (400, FORBIDDEN.to_owned()),
        "rights are checked before fields"
    );
    let too_long = r#"{"description":["Ensure this field has no more than 400 characters."]}"#;
    assert_eq!(patch(&ann, &path, &long).await, (400, too_long.to_owned()));
    let nul = r#"{"description":["Null characters are not allowed."]}"#;
    assert_eq!(patch(&ann, &path, &json!({ "description": "a\0" })).await, (400, nul.to_owned()));
    assert_eq!(patch(&admin(&cluster), &path, &body).await.0, 200);
    let room = ann.create_room("no chat").await;
    for nowhere in [
        format!("/api/chat/films/{id}/"),
        format!("/api/chat/movie/{id}/"),
        format!("/api/chat/music/{room}/"),
        "/api/chat/music/99999/".to_owned(),
        "/api/chat/music/x/".to_owned(),
    ] {
        assert_eq!(patch(&ann, &nowhere, &body).await, (404, NOT_FOUND.to_owned()), "{nowhere}");
    }
    close(&ann, id).await;
    assert_eq!(patch(&ann, &path, &body).await, (404, NOT_FOUND.to_owned()), "the room is closed");
}

#[tokio::test]
async fn topic_keeps_its_fields_under_native_changes() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let made = chat(&ann, "music", "Imagine Dragons").await;
    let path = paths::room(&made["id"]);
    for (body, status, detail) in [
        (json!({ "name": "Queen" }), 409, "A topic keeps its name."),
        (json!({ "private": true }), 409, "Only public and private rooms can become one another."),
        (json!({ "description": "x".repeat(401) }), 400, "description: must have at most 400 characters."),
    ] {
        let (refused, problem) = ann.patch(&path, body).await;
        assert_eq!((refused.as_u16(), &problem["detail"]), (status, &json!(detail)));
    }
    let (status, room) = ann.patch(&path, json!({ "description": "natively" })).await;
    assert_eq!((status, &room["description"]), (StatusCode::OK, &json!("natively")));
    let (_, page) = ann.get("/api/chat/music/").await;
    assert_eq!(page["results"][0]["description"], "natively");
}
