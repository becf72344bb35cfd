//! Tests events about a user, which reach all their sockets, and unstored events, which reach only the right sockets.

use reqwest::StatusCode;
use serde_json::json;
use tests::cluster::{Cluster, Size, sign, token};
use tests::paths;

#[tokio::test]
async fn invitation_reaches_every_socket_of_a_person_once() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create(paths::ROOMS, json!({ "name": "board", "private": true })).await;
    let mut sockets = [cluster.socket(0, "bob").await, cluster.socket(1, "bob").await];
    sockets[1].subscribe("user-bob").await;
    // Nobody gets the events of another user: `bob.smith` is one token of a subject, not two.
    let mut stranger = cluster.socket(0, "bob.smith").await;
    let invitation = ann.invite(room, "bob").await;
    for socket in &mut sockets {
        let push = socket.event("invitation").await;
        assert_eq!(push.channel, "user-bob");
        assert_eq!((push.data_u64("id"), push.room()), (invitation, room), "{push}");
        assert_eq!(push.data["by"], "ann");
        let later_pushes = socket.pushes_until_pong().await;
        assert!(later_pushes.iter().all(|push| push.event != "invitation"), "{later_pushes:?}");
    }
    assert!(stranger.pushes_until_pong().await.is_empty());

    let bob = cluster.rest(0, "bob");
    let (status, answer) = bob.post(&paths::accept(invitation), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    sockets[0].join_room(room).await;
}

#[tokio::test]
async fn typing_is_pushed_to_the_room_and_not_stored() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let room = cluster.rest(0, "ann").create_room("tea").await;
    let (mut ann, mut bob) = (cluster.socket(0, "ann").await, cluster.socket(1, "bob").await);
    let refused = ann.act("typing", json!({ "room_pk": room })).await;
    assert_eq!(refused.status, 400, "{refused}");
    for socket in [&mut ann, &mut bob] {
        socket.join_room(room).await;
    }
    ann.act_ok("typing", json!({})).await;
    let push = bob.event("typing").await;
    assert_eq!(push.data, json!({ "user": "ann", "room": room }));
    assert!(!push.has_id(), "{push}");
}

#[tokio::test]
async fn signal_goes_to_people_of_a_common_room_only() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let room = cluster.rest(0, "ann").create_room("tea").await;
    let (mut ann, mut bob) = (cluster.socket(0, "ann").await, cluster.socket(1, "bob").await);
    let offer = json!({ "user": "bob", "data": { "sdp": "offer" } });
    let refused = ann.act("signal", offer.clone()).await;
    assert_eq!(refused.status, 403, "{refused}");
    ann.join_room(room).await;
    bob.join_room(room).await;
    // Api knows the participants of a room once they are in Postgres.
    tests::eventually("both users are participants", || async {
        let (_, room) = cluster.rest(0, "ann").get(&paths::room(room)).await;
        (room["participants"] == json!(["ann", "bob"])).then_some(())
    })
    .await;
    ann.act_ok("signal", offer).await;
    let push = bob.event("signal").await;
    assert_eq!(push.channel, "user-bob");
    assert_eq!(push.data, json!({ "user": "ann", "data": { "sdp": "offer" } }));
}

#[tokio::test]
async fn signal_needs_a_room_that_both_have_joined() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let body = json!({ "name": "trap", "private": true, "users": ["bob"] });
    let room = ann.create(paths::ROOMS, body).await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    ann.send_message(room, "hello").await;
    let mut victim = cluster.socket(0, "bob").await;
    let offer = json!({ "user": "bob", "data": 1 });
    tests::eventually("ann is a participant", || async {
        let (_, room) = ann.get(&paths::room(room)).await;
        (room["participants"] == json!(["ann"])).then_some(())
    })
    .await;
    let refused = socket.act("signal", offer.clone()).await;
    assert_eq!(
        refused.status, 403,
        "bob is a member, but has not joined, so the signal must be refused: {refused}"
    );
    assert!(victim.pushes_until_pong().await.is_empty());
    bob.send_message(room, "what is this?").await;
    // A page of history waits until the message is in Postgres.
    bob.get(&paths::messages(room)).await;
    socket.act_ok("signal", offer).await;
    victim.event("signal").await;
}

#[tokio::test]
async fn flood_of_signals_is_refused_and_causes_no_catch_up() {
    let cluster = Cluster::start_with(
        Size::default(),
        tests::postgres::Database::shared(),
        &[("ROOMCAST_RATE_SIGNALS", "1/h:20")],
    )
    .await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("tea").await;
    let quiet = ann.create_room("quiet").await;
    let (mut reader, mut victim) = (cluster.socket(0, "cid").await, cluster.socket(0, "bob").await);
    reader.join_room(quiet).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(cluster.socket(0, "ann").await);
    }
    for socket in [&mut sockets[0], &mut victim] {
        socket.join_room(room).await;
    }
    tests::eventually("both users are participants", || async {
        let (_, room) = ann.get(&paths::room(room)).await;
        (room["participants"] == json!(["ann", "bob"])).then_some(())
    })
    .await;
    let (large, legal) = ("x".repeat(200 << 10), "x".repeat((16 << 10) - 2));
    let (mut sent, mut refused) = (0, 0);
    for round in 0..5 {
        for socket in &mut sockets {
            let answer = socket.act("signal", json!({ "user": "bob", "data": large })).await;
            assert_eq!(answer.refusal(), (400, "data: must have at most 16384 bytes."));
            let answer = socket.act("signal", json!({ "user": "bob", "data": legal })).await;
            match answer.status {
                200 => sent += 1,
                429 => refused += 1,
                _ => panic!("{answer}"),
            }
        }
        ann.send_message(quiet, &format!("{round}")).await;
        assert_eq!(reader.event("chat-message").await.message(), round.to_string());
    }
    assert_eq!((sent, refused), (20, 80), "all sockets of a user must share the limit of a pair of users");
    for _ in 0..20 {
        victim.event("signal").await;
    }
    let metrics = cluster.fanout[0].metrics().await;
    assert!(!metrics.contains("roomcast_heals_total{cause=\"slow_consumer\"}"), "{metrics}");
}

#[tokio::test]
async fn newer_token_keeps_a_socket_open() {
    let cluster = Cluster::start(Size::default()).await;
    let now = protocol::clock::Timestamp::now().unix_ms() / 1_000;
    let short_lived_token = sign(&json!({ "user_id": "bob", "exp": now + 4 }));
    let address = cluster.fanout[0].address();
    let mut renewed =
        tests::client::Socket::open(&address, &short_lived_token).await.expect("the socket opens");
    let mut expired =
        tests::client::Socket::open(&address, &short_lived_token).await.expect("the socket opens");
    let other = renewed.act("authenticate", json!({ "token": token("ann") })).await;
    assert_eq!(other.status, 403, "{other}");
    let wrong = renewed.act("authenticate", json!({ "token": "x" })).await;
    assert_eq!(wrong.status, 401, "{wrong}");
    renewed.act_ok("authenticate", json!({ "token": token("bob") })).await;
    let closed = loop {
        match expired.next().await {
            Ok(_) => {}
            Err(closed) => break closed.to_string(),
        }
    };
    assert!(closed.contains("closed 4001"), "{closed}");
    renewed.pushes_until_pong().await;
}
