//! Tests successful requests that need preparation: the answers are as the OpenAPI document says.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign},
    folder::Folder,
};
use tokio::process::Command;

use super::{base, file, python, run};

/// A client that records its answers.
struct RecordingClient {
    rest: Rest,
    lines: String,
}

impl RecordingClient {
    /// Sends a request that must succeed. `operation` is a method and path of the document, `of` the path's parameters.
    async fn request_ok(&mut self, operation: &str, of: &[&Value], body: Value) -> Value {
        let (method, template) = operation.split_once(' ').expect("a method and a path");
        let method: Method = method.parse().expect("a method");
        let mut path = template.split('?').next().expect("a path").to_owned();
        for value in of {
            let (before, rest) = path.split_once('{').expect("a parameter in the path");
            let (_, after) = rest.split_once('}').expect("a closing brace");
            path =
                format!("{before}{}{after}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        let query = template.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
        let (status, answer) =
            self.rest.send(method, &(path + &query), &body).await.expect("the node answers");
        assert!(status.is_success(), "{operation}: {answer}");
        let operation = operation.split('?').next().expect("an operation");
        let line = json!({ "operation": operation, "status": status.as_u16(), "body": answer });
        self.lines.push_str(&format!("{line}\n"));
        answer
    }
}

#[tokio::test]
async fn successful_answers_have_the_forms_of_the_openapi_document() {
    let cluster = Cluster::start(Size::default()).await;
    let token = sign(&json!({ "user_id": "7", "username": "ann", "org_id": "org" }));
    let mut client =
        RecordingClient { rest: Rest::new(&cluster.api[0].address(), &token), lines: String::new() };
    let null = || Value::Null;

    let chat = json!({ "title": "Potter", "room": "films" });
    let chat = client.request_ok("POST /api/chat/", &[], chat).await["chat"]["id"].clone();
    client.request_ok("GET /api/chat/{room}/", &[&json!("films")], null()).await;
    let change = json!({ "description": "Wizards" });
    client.request_ok("PATCH /api/chat/{room}/{id}/", &[&json!("films"), &chat], change).await;

    let pair =
        client.request_ok("POST /room/add", &[], json!({ "owner": 7, "abonent": 8 })).await["id"].clone();
    client.request_ok("POST /room/list", &[], json!({ "room_id": pair, "message": "hello" })).await;
    client.request_ok("GET /room/list", &[], null()).await;
    client.request_ok("GET /room/select/{room}", &[&pair], null()).await;
    client.request_ok("GET /room/stop/{room}", &[&pair], null()).await;

    let visit = json!({ "user_id": "7", "org_id": "org", "portfolio_name": "p", "product_name": "w" });
    let key = client.request_ok("POST /api/v2/room-control", &[], visit).await["inserted_id"].clone();
    let message = json!({
        "type": "create_message", "room_id": key, "message_data": "hello", "side": true, "auther": "client",
        "message_type": "text",
    });
    client.request_ok("POST /api/v2/room-service", &[], message).await;
    for kind in ["get_messages", "get_room_by_id"] {
        let read = format!("GET /api/v2/room-service?type={kind}&room_id={}", key.as_str().expect("a key"));
        client.request_ok(&read, &[], null()).await;
    }
    client.request_ok("GET /api/v2/room-list?org_id=org&product_name=w", &[], null()).await;
    client.request_ok("DELETE /api/v2/room-service", &[], json!({ "room_id": key })).await;

    let team = client.request_ok("POST /api/v1/teams", &[], json!({ "name": "crew", "users": ["8"] })).await
        ["id"]
        .clone();
    client.request_ok("GET /api/v1/teams/{team}", &[&team], null()).await;
    let room =
        client.request_ok("POST /api/v1/rooms", &[], json!({ "name": "tea", "team": team })).await["id"]
            .clone();
    let sent = json!({ "message": "hello", "client_id": "a" });
    client.request_ok("POST /api/v1/rooms/{room}/messages", &[&room], sent).await;
    client.request_ok("GET /api/v1/rooms/{room}/messages?limit=1", &[&room], null()).await;
    client.request_ok("GET /api/v1/rooms/{room}/messages?changed_after=0", &[&room], null()).await;
    client.request_ok("GET /api/v1/messages/search?q=hello", &[], null()).await;

    let folder = Folder::new();
    let answers = folder.path().join("answers");
    std::fs::write(&answers, &client.lines).expect("a file");
    run(Command::new(python()).arg(file("answers.py")).arg(base(&cluster)).arg(&answers)).await;
}
