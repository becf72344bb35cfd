//! Tests the members of private rooms: added, removed, listed.

use protocol::{
    id::RoomId,
    rpc::{ParticipantKey, ParticipantsReply, ParticipantsRequest, expiry},
    subject::rpc,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    cluster::{Cluster, Size},
    eventually,
    postgres::Database,
};

use super::{FORBIDDEN, NOT_FOUND, admin, as_fanout, ask, refusal};

const NONE_OF_ITS_OWN: (u16, &str, &str) = (409, "conflict", "Only a private room has members of its own.");

#[tokio::test]
async fn creator_of_a_private_room_adds_and_removes_members() {
    let cluster = Cluster::shared().await;
    let (ann, bob, eve) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"), cluster.rest(0, "eve"));
    let room = ann.create_private_room(&["bob"]).await;
    let path = paths::room(room);
    let members = format!("{path}/members");
    let of = |user: &str| format!("{members}/{user}");

    assert_eq!(refusal(&bob.put(&of("eve"), Value::Null).await), FORBIDDEN);
    assert_eq!(refusal(&eve.put(&of("eve"), Value::Null).await), NOT_FOUND);
    assert_eq!(refusal(&eve.get(&members).await), NOT_FOUND);
    assert_eq!(refusal(&ann.put(&of("not%20an%20id"), Value::Null).await), NOT_FOUND);
    assert_eq!(ann.put(&of("eve"), Value::Null).await, (StatusCode::NO_CONTENT, Value::Null));
    assert_eq!(eve.get(&path).await.0, StatusCode::OK);
    let (_, listed) = eve.get(&members).await;
    assert_eq!(listed, json!({ "results": ["bob", "eve"], "next": null }));
    let (_, first) = eve.get(&format!("{members}?limit=1")).await;
    assert_eq!(first["results"], json!(["bob"]));
    let next = first["next"].as_str().expect("a next page");
    let (_, second) = eve.get(&format!("{members}?limit=1&cursor={next}")).await;
    assert_eq!(second, json!({ "results": ["eve"], "next": null }));

    assert_eq!(refusal(&bob.delete(&of("eve")).await), FORBIDDEN);
    assert_eq!(ann.delete(&of("eve")).await.0, StatusCode::NO_CONTENT);
    assert_eq!(refusal(&eve.get(&path).await), NOT_FOUND);
    assert_eq!(bob.delete(&of("bob")).await.0, StatusCode::NO_CONTENT, "a member may remove himself");
    assert_eq!(refusal(&bob.get(&path).await), NOT_FOUND);
    assert_eq!(admin(&cluster, 0).put(&of("bob"), Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(bob.get(&path).await.0, StatusCode::OK);
}

#[tokio::test]
async fn public_room_has_no_members() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let members = paths::members(room);
    assert_eq!(refusal(&ann.put(&format!("{members}/bob"), Value::Null).await), NONE_OF_ITS_OWN);
    assert_eq!(refusal(&ann.delete(&format!("{members}/bob")).await), NONE_OF_ITS_OWN);
    let (_, listed) = ann.get(&members).await;
    assert_eq!(listed, json!({ "results": [], "next": null }));
}

#[tokio::test]
async fn members_are_paged_in_one_order_in_any_collation() {
    let database = Database::with_english_order();
    let cluster = Cluster::start_with(Size::default(), database, &[]).await;
    let ann = cluster.rest(0, "ann");
    let people = ["1", "B", "Z", "_x", "a", "b", "zoe"];
    let room = ann.create_private_room(&people).await;
    let mut sockets = Vec::new();
    for user in people {
        let mut socket = cluster.socket(0, user).await;
        socket.join_room(room).await;
        sockets.push(socket);
    }
    let path = paths::room(room);
    eventually("all are in the room", || async {
        let (_, shown) = ann.get(&path).await;
        (shown["participants"].as_array().is_some_and(|present| present.len() == people.len())).then_some(())
    })
    .await;
    for list in ["members", "participants"] {
        let pages = ann.pages(&format!("{path}/{list}?limit=1"), "cursor").await;
        let found: Vec<_> = pages.into_iter().flat_map(|page| page.results).collect();
        assert_eq!(json!(found), json!(people), "{list}");
    }
    let (_, shown) = ann.get(&path).await;
    assert_eq!((&shown["users"], &shown["participants"]), (&json!(people), &json!(people)));
    let room = RoomId(room);
    let client = as_fanout(&cluster).await;
    for (n, user) in people.iter().enumerate() {
        let last =
            ParticipantKey { user: user.parse().expect("an id"), incarnation: i64::MAX.unsigned_abs() };
        let request = ParticipantsRequest { room, is_paged: true, after: Some(last), expires_at: expiry() };
        let page: ParticipantsReply =
            ask(&client, rpc::PARTICIPANTS, &request).await.expect("the node answers");
        let found: Vec<&str> = page.present.iter().map(|word| word.user.as_str()).collect();
        assert_eq!((found.as_slice(), page.next), (&people[n + 1..], None));
    }
}
