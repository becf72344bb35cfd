//! Tests requests for what is so already: they succeed, and nothing is stored for them.

use futures_util::{FutureExt as _, StreamExt as _};
use protocol::{event::EventName, subject};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};
use tests::paths;

use super::{admin, as_fanout};

#[tokio::test]
async fn repeated_change_stores_no_event() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, other) = (cluster.rest(0, "ann"), cluster.rest(1, "ann"));
    let room = paths::room(ann.create_private_room(&[]).await);
    let closed = paths::room(ann.create_private_room(&[]).await);
    let topic = paths::room(ann.create_room("open").await);
    let (_, team) = ann.post(paths::TEAMS, json!({ "name": "crew" })).await;
    let team = paths::team(&team["id"]);
    let (_, message) = ann.post(&format!("{room}/messages"), json!({ "message": "hi" })).await;
    let (_, pair) = ann.post("/room/add", json!({ "owner": "ann", "abonent": "bob" })).await;
    let pair = tests::native::id(&pair);
    let writes = [
        (Method::PUT, format!("{room}/members/bob"), Value::Null),
        (Method::DELETE, format!("{room}/members/bob"), Value::Null),
        (Method::PUT, format!("{team}/members/bob"), Value::Null),
        (Method::DELETE, format!("{team}/members/bob"), Value::Null),
        (Method::PATCH, room.clone(), json!({ "name": "new", "description": "more", "private": true })),
        (Method::PATCH, topic, json!({ "private": true })),
        (Method::PUT, format!("{room}/read"), json!({ "message_id": message["id"] })),
        (Method::DELETE, closed, Value::Null),
        (Method::GET, "/webrtc/cameraOn".to_owned(), Value::Null),
        (Method::GET, "/webrtc/cameraOff".to_owned(), Value::Null),
        (Method::GET, format!("/room/stop/{pair}"), Value::Null),
    ];
    for (method, path, body) in writes {
        let (status, answer) = ann.send(method.clone(), &path, &body).await.expect("the node answers");
        assert!(status.is_success(), "{method} {path}: {answer}");
        let before = cluster.event_count().await;
        for node in [&ann, &other] {
            let again = node.send(method.clone(), &path, &body).await.expect("the node answers");
            assert_eq!(again, (status, answer.clone()), "{method} {path}");
        }
        assert_eq!(cluster.event_count().await, before, "{method} {path}");
    }
}

#[tokio::test]
async fn of_two_invitations_that_are_accepted_one_lets_in() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, root, bob) = (cluster.rest(0, "ann"), admin(&cluster, 1), cluster.rest(1, "bob"));
    let broker = as_fanout(&cluster).await;
    let adds = |kind, event| broker.subscribe(subject::live_filter_of_all_shards(kind, event));
    let mut room_adds = adds("room", EventName::MemberAdd).await.expect("a subscription");
    let mut team_adds = adds("team", EventName::TeamMemberAdd).await.expect("a subscription");
    broker.flush().await.expect("the subscription is registered");
    let team = ann.create_team("crew", &[]).await;
    let deck = ann.create_team_room("deck", team).await;
    let rooms = [ann.create_private_room(&[]).await, deck];
    for room in rooms {
        let mut accepts = Vec::new();
        for host in [&ann, &root] {
            let path = paths::invitations(room);
            let (status, made) = host.post(&path, json!({ "user": "bob" })).await;
            assert_eq!(status, StatusCode::CREATED, "{made}");
            accepts.push(paths::accept(&made["id"]));
        }
        for accept in accepts {
            let (status, answer) = bob.post(&accept, Value::Null).await;
            assert_eq!((status, &answer["accepted"]), (StatusCode::OK, &json!(true)), "{answer}");
        }
        assert_eq!(bob.get(&paths::room(room)).await.0, StatusCode::OK);
    }
    broker.flush().await.expect("the broker answers");
    for adds in [&mut room_adds, &mut team_adds] {
        assert!(adds.next().now_or_never().flatten().is_some(), "bob is added");
        assert!(adds.next().now_or_never().is_none(), "bob is added once only");
    }
}
