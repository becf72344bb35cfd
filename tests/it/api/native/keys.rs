//! Checks keys of requests: a repeated request is answered as the first time, a different one under the same key is
//! refused, and a partly stored request is completed by a repeat.

use async_nats::jetstream::stream::Config;
use protocol::{
    caller::Caller,
    id::{RoomId, Shard},
    rpc::{ActionReply, ActionRequest, RpcResult, Surface, expiry},
    subject::{self, rpc},
};
use reqwest::Method;
use serde_json::{Value, json, value::RawValue};
use service::nats::BrokerUser;
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
};

use super::{admin, as_fanout, ask, refusal};

const REUSED: &str = "This Idempotency-Key was used before, for something else.";

async fn keyed(rest: &Rest, method: Method, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let mut request = rest.request(method, path).header("idempotency-key", key);
    if !body.is_null() {
        request = request.json(body);
    }
    let answer = request.send().await.expect("the node answers");
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn another_request_under_the_key_of_a_write_is_refused() {
    let cluster = Cluster::shared().await;
    let nodes = [cluster.rest(0, "ann"), cluster.rest(1, "ann")];
    let [ann, _] = &nodes;
    let room = ann.create_private_room(&["bob"]).await;
    let path = paths::room(room);
    let mut messages = Vec::new();
    for text in ["one", "two", "three"] {
        messages.push(ann.send_message(room, text).await);
    }
    let elsewhere = paths::invitations(ann.create_private_room(&[]).await);
    let (_, team) = ann.post(paths::TEAMS, json!({ "name": "crew" })).await;
    let team = paths::team(&team["id"]);
    let message = |n: usize| format!("{path}/messages/{}", messages[n]);
    // Method, path and body of a request, and path and body of another request of its kind.
    let text = |text: &str| json!({ "message": text });
    let name = |name: &str| json!({ "name": name });
    let user = |user: &str| json!({ "user": user });
    let read = |n: usize| json!({ "message_id": messages[n] });
    let (rooms, invite, mark) =
        (paths::ROOMS.to_owned(), format!("{path}/invitations"), format!("{path}/read"));
    let none = Value::Null;
    let writes = [
        (Method::PATCH, message(0), text("new"), message(1), text("new")),
        (Method::PATCH, message(0), text("newer"), message(0), text("newest")),
        (Method::PUT, mark.clone(), read(0), mark, read(2)),
        (Method::POST, invite, user("cid"), elsewhere, user("cid")),
        (
            Method::PUT,
            format!("{path}/members/eve"),
            none.clone(),
            format!("{path}/members/fay"),
            none.clone(),
        ),
        (
            Method::PUT,
            format!("{team}/members/eve"),
            none.clone(),
            format!("{team}/members/fay"),
            none.clone(),
        ),
        (Method::PATCH, path.clone(), name("board 2"), path.clone(), name("board 3")),
        (Method::POST, rooms.clone(), name("made"), rooms, name("made otherwise")),
        (Method::POST, paths::TEAMS.into(), name("a"), paths::TEAMS.into(), name("b")),
        (Method::DELETE, message(2), none.clone(), message(1), none),
    ];
    for (n, (method, address, body, other, other_body)) in writes.into_iter().enumerate() {
        let key = format!("k-{n}");
        let first = keyed(&nodes[n % 2], method.clone(), &address, &key, &body).await;
        assert!((200..300).contains(&first.0), "{method} {address}: {first:?}");
        for node in &nodes {
            let again = keyed(node, method.clone(), &address, &key, &body).await;
            assert_eq!(again, first, "{method} {address}: as the first time");
            let (status, problem) = keyed(node, method.clone(), &other, &key, &other_body).await;
            assert_eq!(
                (status, problem["code"].as_str(), problem["detail"].as_str()),
                (422, Some("key_reused"), Some(REUSED)),
                "{method} {other}"
            );
        }
    }
    let texts: Vec<_> = ann.messages(room).await.into_iter().map(|message| message.message).collect();
    assert_eq!(texts, ["newer", "two"], "refused requests changed nothing");
    let root = admin(&cluster, 0);
    let describe = |name: &str| json!({ "username": name });
    let first = keyed(&root, Method::PUT, &paths::user("bob"), "p", &describe("Bob")).await;
    assert_eq!(first.0, 200, "{first:?}");
    assert_eq!(keyed(&root, Method::PUT, &paths::user("bob"), "p", &describe("Bob")).await, first);
    assert_eq!(keyed(&root, Method::PUT, &paths::user("bob"), "p", &describe("Rob")).await.0, 422);
}

#[tokio::test]
async fn another_frame_under_the_key_of_a_frame_is_refused() {
    let cluster = Cluster::shared().await;
    let body = json!({ "kind": "match", "users": ["ann", "bob"] });
    let (status, room) = admin(&cluster, 0).post(paths::ROOMS, body).await;
    assert_eq!(status, 201, "{room}");
    let room = tests::native::id(&room);
    let ann = cluster.rest(0, "ann");
    let messages = [ann.send_message(room, "one").await, ann.send_message(room, "two").await];
    let client = as_fanout(&cluster).await;
    // Requests of a fan-out node that repeats a frame, or sends another frame under the same key.
    let act = async |surface, action: &str, key: &str, frame: Value| {
        let request = ActionRequest {
            caller: Caller { user: "ann".parse().expect("an id"), is_admin: false, org_id: None },
            surface,
            action: action.to_owned(),
            frame: RawValue::from_string(frame.to_string()).expect("JSON"),
            rooms: vec![RoomId(room)],
            pairs: vec![RoomId(room)],
            key: key.to_owned(),
            request: "r".to_owned(),
            expires_at: expiry(),
        };
        let reply: RpcResult<ActionReply> = ask(&client, rpc::ACTION, &request).await;
        let reply = reply.expect("the node answers");
        (reply.status, reply.data.map(|data| data.get().to_owned()))
    };
    for (n, surface) in [Surface::Native, Surface::Match].into_iter().enumerate() {
        let edit = |message: usize, text: &str| json!({ "msg_id": messages[message], "edited_msg_text": text, "room_pk": room });
        let create = |text: &str| json!({ "msg_text": text, "room_pk": room });
        let delete = |message: usize| json!({ "msg_id_list": [messages[message]], "room_pk": room });
        let mut kinds = vec![
            ("edit_message", edit(0, "new"), edit(1, "new")),
            ("create_message", create("hi"), create("ho")),
        ];
        if n == 1 {
            kinds.push(("delete_messages", delete(0), delete(1)));
        }
        for (action, frame, other) in kinds {
            let key = format!("{n}-{action}");
            let first = act(surface, action, &key, frame.clone()).await;
            assert!(first.0 < 300, "{surface:?} {action}: {first:?}");
            assert_eq!(act(surface, action, &key, frame).await, first, "{surface:?} {action}");
            assert_eq!(act(surface, action, &key, other).await.0, 422, "{surface:?} {action}");
        }
    }
}

#[tokio::test]
async fn room_of_which_only_the_creation_is_stored_is_completed_by_the_same_request() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"));
    // The shards of rooms and teams refuse appends; the system shard, for their creations, takes them.
    let broker = cluster.jetstream(BrokerUser::Persister).await;
    let shards = log::discover(&broker).await.expect("a log").shards;
    let mut before: Vec<Config> = Vec::new();
    for shard in shards.all().filter(|shard| *shard != Shard::SYSTEM) {
        let stream = broker.get_stream(subject::stream(shard)).await.expect("a stream");
        let config = stream.cached_info().config.clone();
        broker
            .update_stream(Config { max_bytes: 1, ..config.clone() })
            .await
            .expect("the stream's limit is set");
        before.push(config);
    }
    let room = json!({ "name": "board", "private": true, "users": ["bob"] });
    let team = json!({ "name": "crew", "users": ["bob"] });
    for (path, body) in [(paths::ROOMS, &room), (paths::TEAMS, &team)] {
        for key in ["k", "k"] {
            let (status, problem) = keyed(&ann, Method::POST, path, key, body).await;
            assert_eq!((status, &problem["code"]), (503, &json!("outcome_unknown")), "{path}: {problem}");
        }
    }
    for config in before {
        broker.update_stream(config).await.expect("the stream's limit is restored");
    }
    for (path, body) in [(paths::ROOMS, &room), (paths::TEAMS, &team)] {
        let (status, made) = keyed(&ann, Method::POST, path, "k", body).await;
        assert_eq!((status, &made["users"]), (201, &json!(["bob"])), "{made}");
        let found = bob.get(&format!("{path}/{}", made["id"])).await;
        assert_eq!(found.0, 200, "{:?}", refusal(&found));
        assert_eq!(ann.page(path).await.results.len(), 1, "{path} lists exactly one");
    }
}
