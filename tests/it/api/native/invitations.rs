//! Checks invitations: people who manage a room make them, and the invited person answers them once.

use futures_util::{FutureExt as _, StreamExt as _};
use protocol::{event::EventName, subject};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    TIMEOUT,
    client::Rest,
    cluster::{Cluster, Size, sign},
};

use super::{CLOSED, FORBIDDEN, NOT_FOUND, as_fanout, refusal};

const OVER: (u16, &str, &str) =
    (409, "conflict", "This invitation was answered the other way, or has ended by a removal.");

#[tokio::test]
async fn accepted_invitation_lets_in_and_repeats_its_answer() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob, eve) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"), cluster.rest(0, "eve"));
    let room = ann.create_private_room(&[]).await;
    let (path, invite) = (paths::room(room), paths::invitations(room));
    let (status, made) = ann.post(&invite, json!({ "user": "bob" })).await;
    assert_eq!(status, StatusCode::CREATED);
    let expected = json!({
        "id": made["id"], "room": room, "room_name": "board", "user": "bob", "by": "ann",
        "created_at": made["created_at"], "accepted": null,
    });
    assert_eq!(made, expected);
    assert!(made["id"].is_u64() && made["created_at"].is_string());
    assert_eq!(bob.get(paths::INVITATIONS).await.1, json!({ "results": [made], "next": null }));
    assert_eq!(
        eve.get(paths::INVITATIONS).await.1["results"],
        json!([]),
        "invitations of others are not listed"
    );
    assert_eq!(refusal(&bob.get(&path).await), NOT_FOUND, "an invited person has no access yet");

    let accept = paths::accept(&made["id"]);
    let decline = paths::decline(&made["id"]);
    for stranger in [&ann, &eve] {
        assert_eq!(refusal(&stranger.post(&accept, Value::Null).await), NOT_FOUND);
        assert_eq!(refusal(&stranger.post(&decline, Value::Null).await), NOT_FOUND);
    }
    let first = bob.post(&accept, Value::Null).await;
    assert_eq!((first.0, &first.1["accepted"]), (StatusCode::OK, &json!(true)));
    assert_eq!(bob.post(&accept, Value::Null).await, first);
    assert_eq!(refusal(&bob.post(&decline, Value::Null).await), OVER);
    assert_eq!(bob.get(paths::INVITATIONS).await.1["results"], json!([]));
    assert_eq!(bob.get(&path).await.1["users"], json!(["bob"]));
    // A repeated acceptance does not add a removed person again.
    assert_eq!(ann.delete(&format!("{path}/members/bob")).await.0, StatusCode::NO_CONTENT);
    assert_eq!(bob.post(&accept, Value::Null).await, first);
    assert_eq!(refusal(&bob.get(&path).await), NOT_FOUND);
}

#[tokio::test]
async fn person_has_one_open_invitation_a_room() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"));
    let root = Rest::new(&cluster.api[1].address(), &sign(&json!({ "user_id": "root", "is_admin": true })));
    let room = ann.create_private_room(&[]).await;
    let invite = paths::invitations(room);
    let (_, first) = ann.post(&invite, json!({ "user": "bob" })).await;
    let stored = cluster.event_count().await;
    for inviter in [&ann, &root, &ann] {
        let (status, again) = inviter.post(&invite, json!({ "user": "bob" })).await;
        assert_eq!((status, again), (StatusCode::CREATED, first.clone()), "the open invitation is returned");
    }
    assert_eq!(cluster.event_count().await, stored);
    let (_, other) = ann.post(&invite, json!({ "user": "cid" })).await;
    assert_eq!(other["user"], "cid", "another person gets another invitation");
    let decline = paths::decline(&first["id"]);
    assert_eq!(bob.post(&decline, Value::Null).await.0, StatusCode::OK);
    let (_, next) = ann.post(&invite, json!({ "user": "bob" })).await;
    assert_ne!(next["id"], first["id"], "an answered invitation is not reused");
}

#[tokio::test]
async fn declined_invitation_lets_nobody_in() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let room = ann.create_private_room(&[]).await;
    let made = ann.invite(room, "bob").await;
    let decline = paths::decline(made);
    let first = bob.post(&decline, Value::Null).await;
    assert_eq!((first.0, &first.1["accepted"]), (StatusCode::OK, &json!(false)));
    assert_eq!(bob.post(&decline, Value::Null).await, first);
    let accepted = bob.post(&paths::accept(made), Value::Null).await;
    assert_eq!(refusal(&accepted), OVER);
    assert_eq!(refusal(&bob.get(&paths::room(room)).await), NOT_FOUND);
}

#[tokio::test]
async fn invitation_to_a_team_room_lets_into_the_team() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let team = ann.create_team("crew", &[]).await;
    let room = ann.create_team_room("deck", team).await;
    let made = ann.invite(room, "bob").await;
    let (status, _) = bob.post(&paths::accept(made), Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(bob.get(&paths::team(team)).await.1["users"], json!(["bob"]));
    assert_eq!(bob.get(&paths::room(room)).await.0, StatusCode::OK);
}

/// Invites Bob into a room. He accepts, is invited again and removed; the invitation must not admit him.
async fn invitation_ends_by_removal(ann: &Rest, bob: &Rest, room: u64, removal: &str) {
    let invite = paths::invitations(room);
    let accept = async || {
        let (_, made) = ann.post(&invite, json!({ "user": "bob" })).await;
        paths::accept(&made["id"])
    };
    let first = accept().await;
    assert_eq!(bob.post(&first, Value::Null).await.0, StatusCode::OK);
    let second = accept().await;
    assert_ne!(first, second);
    assert_eq!(ann.delete(removal).await.0, StatusCode::NO_CONTENT);
    let open = bob.page(paths::INVITATIONS).await.results;
    assert!(
        open.iter().all(|invitation| invitation["room"] != room),
        "no invitation into the room is open: {open:?}"
    );
    assert_eq!(refusal(&bob.post(&second, Value::Null).await), OVER);
    let path = paths::room(room);
    assert_eq!(refusal(&bob.get(&path).await), NOT_FOUND);
    // An invitation made after the removal is valid.
    assert_eq!(bob.post(&accept().await, Value::Null).await.0, StatusCode::OK);
    assert_eq!(bob.get(&path).await.0, StatusCode::OK);
}

#[tokio::test]
async fn removal_ends_earlier_invitations() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"));
    let elsewhere = ann.create_private_room(&[]).await;
    let (_, other) = ann.post(&paths::invitations(elsewhere), json!({ "user": "bob" })).await;
    let room = ann.create_private_room(&[]).await;
    invitation_ends_by_removal(&ann, &bob, room, &paths::member(room, "bob")).await;
    let team = ann.create_team("crew", &[]).await;
    let deck = ann.create_team_room("deck", team).await;
    let removal = paths::team_member(team, "bob");
    invitation_ends_by_removal(&ann, &bob, deck, &removal).await;
    let (_, open) = bob.get(paths::INVITATIONS).await;
    assert_eq!(open["results"], json!([other]), "an invitation into another room stays open");
}

#[tokio::test]
async fn acceptance_stored_in_part_is_completed_by_a_repeat() {
    let mut cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob) = (cluster.rest(1, "ann"), cluster.rest(1, "bob"));
    let broker = as_fanout(&cluster).await;
    let adds = subject::live_filter_of_all_shards("room", EventName::MemberAdd);
    let mut adds = broker.subscribe(adds).await.expect("a subscription");
    broker.flush().await.expect("the subscription is registered");
    for _ in 0..5 {
        let room = ann.create_private_room(&[]).await;
        let made = ann.invite(room, "bob").await;
        let accept = paths::accept(made);
        let (dying, path) = (cluster.rest(0, "bob"), accept.clone());
        let acceptance = tokio::spawn(async move { dying.send(Method::POST, &path, &Value::Null).await });
        // Bob is added; the acceptance may or may not be stored yet.
        tokio::time::timeout(TIMEOUT, adds.next())
            .await
            .expect("a member-add event before the timeout")
            .expect("a member-add event");
        cluster.api[0].kill9();
        let _answered_or_not = acceptance.await.expect("the task does not panic");
        let (status, answered) = bob.post(&accept, Value::Null).await;
        assert_eq!((status, &answered["accepted"]), (StatusCode::OK, &json!(true)), "{answered}");
        assert_eq!(bob.get(paths::INVITATIONS).await.1["results"], json!([]));
        assert_eq!(bob.get(&paths::room(room)).await.1["users"], json!(["bob"]));
        cluster.api[0].restart();
        cluster.api[0].wait_until_ready().await;
    }
    // A second `member-add` event would have arrived before the flush returns.
    broker.flush().await.expect("the broker answers");
    assert!(adds.next().now_or_never().is_none(), "bob is added once only");
}

#[tokio::test]
async fn invitation_refusals_have_their_exact_answers() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob, eve) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"), cluster.rest(0, "eve"));
    let room = ann.create_private_room(&["bob"]).await;
    let invite = paths::invitations(room);
    let whom = json!({ "user": "eve" });
    assert_eq!(refusal(&bob.post(&invite, whom.clone()).await), FORBIDDEN);
    assert_eq!(refusal(&eve.post(&invite, whom.clone()).await), NOT_FOUND);
    assert_eq!(refusal(&ann.post(&paths::invitations(999_999), whom.clone()).await), NOT_FOUND);
    for (body, detail) in [
        (json!({}), "missing field `user`."),
        (
            json!({ "user": null }),
            "user: invalid type: null, expected a user id: 1 to 64 of letters, digits and _.@:|+!#$%&'*/=?^`{}~-.",
        ),
        (
            json!({ "user": "x y" }),
            "user: invalid value: string \"x y\", expected a user id: 1 to 64 of letters, digits and _.@:|+!#$%&'*/=?^`{}~-.",
        ),
    ] {
        assert_eq!(refusal(&ann.post(&invite, body).await), (400, "bad_request", detail));
    }
    for id in ["x", "0", "999999"] {
        for answer in ["accept", "decline"] {
            let answered = bob.post(&format!("{}/{id}/{answer}", paths::INVITATIONS), Value::Null).await;
            assert_eq!(refusal(&answered), NOT_FOUND, "{id}");
        }
    }
    let cursor = bob.get(&format!("{}?cursor=x", paths::INVITATIONS)).await;
    assert_eq!(refusal(&cursor), (400, "bad_request", "cursor: must be one that was given as `next`."));
    let limit = bob.get(&format!("{}?limit=x", paths::INVITATIONS)).await;
    assert_eq!(refusal(&limit), (400, "bad_request", "limit: must be 1 to 200."));

    let (_, made) = ann.post(&invite, whom.clone()).await;
    ann.delete(&paths::room(room)).await;
    assert_eq!(refusal(&ann.post(&invite, whom).await), CLOSED);
    let accepted = eve.post(&paths::accept(&made["id"]), Value::Null).await;
    assert_eq!(refusal(&accepted), CLOSED);
    let declined = eve.post(&paths::decline(&made["id"]), Value::Null).await;
    assert_eq!(declined.0, StatusCode::OK, "an invitation to a closed room can be declined");
}

#[tokio::test]
async fn invitation_pages_meet_and_a_repeated_key_invites_once() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let mut made = Vec::new();
    for _ in 0..3 {
        let room = ann.create_private_room(&[]).await;
        let path = paths::invitations(room);
        for _ in 0..2 {
            let request = ann.request(Method::POST, &path).header("idempotency-key", format!("k-{room}"));
            let answer = request.json(&json!({ "user": "bob" })).send().await.expect("the node answers");
            made.push(answer.json::<Value>().await.expect("JSON"));
        }
    }
    assert_eq!(made[0], made[1], "the repeated request is answered as the first one");
    let pages = bob.pages(&format!("{}?limit=2", paths::INVITATIONS), "cursor").await;
    let [first, second] = &pages[..] else { panic!("3 invitations are 2 pages: {pages:?}") };
    assert_eq!(first.results, [made[4].clone(), made[2].clone()], "newest first");
    assert_eq!(second.results, [made[0].clone()]);
}

#[tokio::test]
async fn socket_invites_a_person() {
    let cluster = Cluster::start(Size::default()).await;
    let room = cluster.rest(0, "ann").create_private_room(&["bob"]).await;
    let (mut ann, mut bob) = (cluster.socket(0, "ann").await, cluster.socket(0, "bob").await);
    let mut eve = cluster.socket(0, "eve").await;
    let body = json!({ "room_pk": room, "user": "eve" });
    let answer = ann.act("invite", body.clone()).await;
    assert_eq!((answer.status, &answer.data["user"]), (201, &json!("eve")));
    let push = eve.event("invitation").await;
    assert_eq!(push.data_u64("id"), answer.id());
    for (who, body, status, error) in [
        (1, body.clone(), 403, FORBIDDEN.2),
        (2, body, 404, NOT_FOUND.2),
        (0, json!({ "room_pk": room }), 400, "missing field `user`."),
        (0, json!({ "user": "eve" }), 400, "room_pk: this socket is in no room."),
    ] {
        let answer = [&mut ann, &mut bob, &mut eve][who].act("invite", body).await;
        assert_eq!(answer.refusal(), (status, error));
    }
}
