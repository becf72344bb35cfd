//! Checks the contacts of a person: online state, camera, profiles, and the pushes about them.

use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign},
    eventually,
};

use super::{add, claims, get, person, send};

#[tokio::test]
async fn person_with_an_open_socket_is_online() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = person(&cluster, 0, 7);
    for other in [8, 9] {
        add(&ann, 7, other).await;
    }
    let is = async |expected: Value| {
        eventually(&format!("{expected}"), || async {
            let list = get(&ann, "/room/list").await;
            let person = &list["contact_users"]["8"]["is_online"];
            (list["online_ids"] == expected).then(|| assert_eq!(*person, expected == json!([8])))
        })
        .await;
    };
    is(json!([])).await;
    let bob = cluster.socket(0, "8").await;
    let _own = cluster.socket(0, "7").await;
    let _strangers = cluster.socket(0, "10").await;
    is(json!([8])).await;
    drop(bob);
    is(json!([])).await;
}

/// Channel and data of the next `event` on a socket that follows no channel.
async fn unstored_push(socket: &mut Socket, event: &str) -> (String, Value) {
    let push = socket.event(event).await;
    assert!(!push.has_id(), "the push is not stored: {push}");
    (push.channel, push.data)
}

#[tokio::test]
async fn camera_state_is_pushed_to_contacts_only_and_shown_in_lists() {
    let cluster = Cluster::start(Size { api: 2, fanout: 2, ..Size::default() }).await;
    let (ann, bob) = (person(&cluster, 0, 7), person(&cluster, 1, 8));
    add(&ann, 7, 8).await;
    let mut own = cluster.socket(0, "7").await;
    own.subscribe("user-7").await;
    let mut contact = [cluster.socket(0, "8").await, cluster.socket(1, "8").await];
    // A socket that follows its own channel gets the push once too.
    contact[1].subscribe("user-8").await;
    let mut stranger = cluster.socket(1, "9").await;
    for (path, is_on) in [("/webrtc/cameraOn", true), ("/webrtc/cameraOff", false)] {
        get(&ann, path).await;
        let data = json!({ "user": "7", "is_camera": is_on });
        for socket in &mut contact {
            assert_eq!(unstored_push(socket, "camera").await, ("user-8".to_owned(), data.clone()));
            let rest = socket.pushes_until_pong().await;
            assert!(rest.iter().all(|push| push.event != "camera"), "{rest:?}");
        }
        let stored = own.event("camera").await;
        assert!(stored.has_id(), "{stored}");
        assert_eq!((&*stored.channel, &stored.data), ("user-7", &data));
        assert_eq!(get(&bob, "/room/list").await["contact_users"]["7"]["is_camera"], is_on);
        assert_eq!(get(&bob, &paths::user(7)).await["is_camera"], is_on, "the native dialect shows it too");
    }
    assert!(stranger.pushes_until_pong().await.iter().all(|push| push.event != "camera"));
}

#[tokio::test]
async fn profile_change_is_pushed_to_contacts_without_email_and_account() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = person(&cluster, 0, 7);
    add(&ann, 7, 8).await;
    let mut contact = cluster.socket(0, "8").await;
    let mut newer = claims(7);
    (newer["iat"], newer["username"]) = (json!(1_700_000_001), json!("Ann"));
    get(&Rest::new(&cluster.api[0].address(), &sign(&newer)), "/room/list").await;
    let expected = json!({
        "user": "7", "issued_at": 1_700_000_001, "username": "Ann", "gender": "male", "language": "en",
        "main_photo": "7.jpg",
    });
    assert_eq!(unstored_push(&mut contact, "profile").await, ("user-8".to_owned(), expected));
    let described = &get(&person(&cluster, 0, 8), "/room/list").await["contact_users"]["7"];
    assert_eq!((&described["username"], &described["email"]), (&json!("Ann"), &Value::Null));
}

#[tokio::test]
async fn email_and_account_of_a_contact_are_shown_once_both_have_written() {
    let cluster = Cluster::start(Size::default()).await;
    let [eve, victim] = [7, 8].map(|user| person(&cluster, 0, user));
    // Both tokens contain a profile.
    get(&victim, "/room/list").await;
    let room = add(&eve, 7, 8).await;
    let of = async |reader: &Rest, other: &str| {
        let list = get(reader, "/room/list").await;
        let selected = get(reader, &format!("/room/select/{room}")).await;
        let shown = |rooms: &Value| {
            let other = &rooms["contact_users"][other];
            assert!(other["username"].is_string(), "{other}");
            (other["email"].clone(), other["account"].clone())
        };
        assert_eq!(shown(&list), shown(&selected));
        shown(&list)
    };
    let hidden = (Value::Null, Value::Null);
    let open = |user: u64| (json!(format!("man{user}@gmail.com")), json!("0"));
    assert_eq!(of(&eve, "8").await, hidden, "a room that one person added reveals nothing");
    send(&eve, room, "hello?").await;
    send(&eve, room, "hello?").await;
    assert_eq!((of(&eve, "8").await, of(&victim, "7").await), (hidden.clone(), hidden.clone()));
    send(&victim, room, "hello").await;
    assert_eq!((of(&eve, "8").await, of(&victim, "7").await), (open(8), open(7)));
    get(&victim, &format!("/room/stop/{room}")).await;
    send(&eve, room, "hello?").await;
    assert_eq!((of(&eve, "8").await, of(&victim, "7").await), (hidden.clone(), hidden));
}

#[tokio::test]
async fn call_is_set_up_between_two_people() {
    let cluster = Cluster::start(Size::default()).await;
    let room = add(&person(&cluster, 0, 7), 7, 8).await;
    let (mut ann, mut bob) = (cluster.socket(0, "7").await, cluster.socket(0, "8").await);
    let offer = json!({ "user": "8", "data": { "sdp": "offer" } });
    let refused = ann.act("signal", offer).await;
    assert_eq!(refused.status, 403, "people who never shared a room may not signal: {refused}");
    for user in [7, 8] {
        get(&person(&cluster, 0, user), &format!("/room/select/{room}")).await;
    }
    ann.act_ok("signal", json!({ "user": "8", "data": { "sdp": "offer" } })).await;
    let push = bob.event("signal").await;
    assert_eq!(push.data, json!({ "user": "7", "data": { "sdp": "offer" } }));
}
