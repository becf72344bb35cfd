//! Tests rights in support rooms: a key opens its room alone, and nothing tells of rooms without it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign},
};

use super::{
    CONTROL, LIST, SERVICE, agent, close, forbidden, get, key, message, not_found, refusal, visit, visit_of,
    visitor,
};

fn list_of(org_id: &str) -> String {
    format!("{LIST}?org_id={org_id}&product_name=WIFIQRCODE")
}

#[tokio::test]
async fn support_room_does_not_exist_without_its_key() {
    let cluster = Cluster::start(Size::default()).await;
    let rest = visitor(&cluster, 0);
    let room = visit(&rest, visit_of("ABCD12345")).await;
    let flipped: String = key(&room).chars().rev().collect();
    let upper = key(&room).to_uppercase();
    let unknown = "64e96a73f59c079a226e1ae9";
    // Keys are case-sensitive.
    for wrong in [unknown, "", "1", "x", "%00", &flipped, &format!("{}0", key(&room))]
        .into_iter()
        .chain(upper.chars().any(|c| c.is_ascii_alphabetic()).then_some(upper.as_str()))
    {
        for kind in ["get_messages", "get_room_by_id"] {
            assert_eq!(get(&rest, kind, wrong).await, not_found(), "{kind} {wrong}");
        }
        let wrong = wrong.replace("%00", "\0");
        assert_eq!(rest.post(SERVICE, message(&wrong, "hi")).await, not_found(), "{wrong}");
        assert_eq!(close(&rest, &wrong).await, not_found(), "{wrong}");
    }
    assert_eq!(get(&agent(&cluster, "DOWELL12345"), "get_room_by_id", unknown).await, not_found());
}

#[tokio::test]
async fn token_sent_to_support_counts() {
    let cluster = Cluster::start(Size::default()).await;
    let address = cluster.api[0].address();
    let rest = visitor(&cluster, 0);
    let room = visit(&rest, visit_of("ann")).await;
    let expired = Rest::new(&address, &sign(&json!({ "user_id": "ann", "exp": 1 })));
    let wrong = |message| refusal(401, message);
    assert_eq!(expired.post(CONTROL, visit_of("ann")).await, wrong("Token is expired"));
    assert_eq!(get(&expired, "get_messages", key(&room)).await, wrong("Token is expired"));
    assert_eq!(expired.get(&list_of("DOWELL12345")).await, wrong("Token is expired"));
    let request = rest.request(Method::GET, SERVICE).header("authorization", "Basic YTpi");
    let answer = request.send().await.expect("the node answers");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    assert_eq!(answer.json::<Value>().await.expect("JSON"), wrong("This is not a token.").1);

    // room-control finds a room made with a token only for that person, and a room made without one only without.
    let ann = cluster.rest(0, "ann");
    let own = visit(&ann, visit_of("ann")).await;
    assert_ne!(key(&own), key(&room));
    assert_eq!(visit(&ann, visit_of("ann")).await, own);
    assert_eq!(key(&visit(&rest, visit_of("ann")).await), key(&room));
    assert_eq!((&own["user_id"], &own["room_room_id"]), (&json!("ann"), &json!("2-ann")));
    assert_eq!(cluster.rest(0, "bob").post(CONTROL, visit_of("ann")).await, forbidden());
    // Everyone who has the key may read the room.
    assert_eq!(get(&rest, "get_room_by_id", key(&own)).await.1["response"], json!([own]));
}

#[tokio::test]
async fn agents_list_rooms_of_their_organisation_only() {
    let cluster = Cluster::start(Size::default()).await;
    let room = visit(&visitor(&cluster, 0), visit_of("ABCD12345")).await;
    let path = list_of("DOWELL12345");
    let rooms = (StatusCode::OK, json!({ "rooms": [room] }));
    assert_eq!(visitor(&cluster, 0).get(&path).await, refusal(401, "A token is needed."));
    assert_eq!(cluster.rest(0, "ann").get(&path).await, forbidden());
    assert_eq!(agent(&cluster, "OTHER").get(&path).await, forbidden());
    assert_eq!(agent(&cluster, "DOWELL12345").get(&path).await, rooms);
    let root = sign(&json!({ "user_id": "root", "is_admin": true }));
    assert_eq!(Rest::new(&cluster.api[0].address(), &root).get(&path).await, rooms);
}

#[tokio::test]
async fn open_desk_lists_rooms_to_everyone() {
    let cluster = super::start(&[("ROOMCAST_SUPPORT_OPEN", "true")]).await;
    let room = visit(&visitor(&cluster, 0), visit_of("ABCD12345")).await;
    for rest in [visitor(&cluster, 0), agent(&cluster, "OTHER")] {
        assert_eq!(rest.get(&list_of("DOWELL12345")).await, (StatusCode::OK, json!({ "rooms": [room] })));
    }
}

#[tokio::test]
async fn desk_can_require_tokens() {
    let cluster =
        super::start(&[("ROOMCAST_SUPPORT_TOKENS", "required"), ("ROOMCAST_SUPPORT_OPEN", "true")]).await;
    let (rest, ann) = (visitor(&cluster, 0), cluster.rest(0, "ann"));
    let room = visit(&ann, visit_of("ann")).await;
    let needed = refusal(401, "A token is needed.");
    assert_eq!(rest.post(CONTROL, visit_of("ann")).await, needed);
    assert_eq!(rest.post(SERVICE, message(key(&room), "hi")).await, needed);
    assert_eq!(get(&rest, "get_messages", key(&room)).await, needed);
    assert_eq!(close(&rest, key(&room)).await, needed);
    assert_eq!(rest.get(&list_of("DOWELL12345")).await, needed);
    assert_eq!(get(&ann, "get_room_by_id", key(&room)).await.0, StatusCode::OK);
    assert_eq!(cluster.rest(0, "bob").get(&list_of("DOWELL12345")).await.1, json!({ "rooms": [room] }));
}
