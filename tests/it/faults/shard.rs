//! Tests a shard whose stream is missing: a failed subscription leaves no descriptor open, and ends no other one.

use protocol::{id::TeamId, subject::Channel};
use reqwest::Method;
use serde_json::{Value, json};
use service::nats::BrokerUser;
use tests::native::{self, SocketAnswer};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign, token},
    eventually,
};

/// Number of sockets whose subscriptions fail.
const SOCKETS: usize = 40;

async fn create_room(rest: &Rest, body: &Value) -> u64 {
    let (status, room) = rest.send(Method::POST, paths::ROOMS, body).await.expect("the node answers");
    assert!(status.is_success(), "{room}");
    native::id(&room)
}

/// Creates rooms until one is in a shard for which `is_wanted` is true; returns its id.
async fn create_room_where(
    cluster: &Cluster,
    rest: &Rest,
    body: Value,
    is_wanted: impl Fn(protocol::id::Shard) -> bool,
) -> u64 {
    loop {
        let room = create_room(rest, &body).await;
        if is_wanted(cluster.shard_of(room).await) {
            return room;
        }
    }
}

async fn request(socket: &mut Socket, frame: Value) -> SocketAnswer {
    socket.send_text(&frame.to_string()).await.expect("the socket is open");
    socket.answer().await
}

#[tokio::test]
async fn subscription_to_a_missing_shard_leaves_nothing_behind() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let root = Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": 9, "is_admin": true })));
    let team = ann.create_team("crew", &["bob"]).await;
    let log = cluster.jetstream(BrokerUser::Persister).await;
    let shards = log::discover(&log).await.expect("the log exists").shards;
    let team_shard = Channel::Team(TeamId(team)).shard(shards);
    let mut match_rooms = Vec::new();
    let lost_room = create_room_where(&cluster, &ann, json!({ "name": "deck", "team": team }), |shard| {
        shard != team_shard
    })
    .await;
    let lost_shard = cluster.shard_of(lost_room).await;
    for is_lost in [false, true] {
        let mut other = 1;
        match_rooms.push(loop {
            other += 1;
            let room =
                create_room(&root, &json!({ "kind": "match", "users": ["1", other.to_string()] })).await;
            if (cluster.shard_of(room).await == lost_shard) == is_lost {
                break room;
            }
        });
    }
    let [match_room, lost_match_room] = match_rooms[..] else { unreachable!("two rooms were created") };
    let claims = sign(&json!({ "user_id": 1, "username": "One" }));
    let mut socket =
        Socket::open_at(&cluster.fanout[0].address(), "/ws/chat/", &claims).await.expect("the socket opens");
    let joined =
        request(&mut socket, json!({ "action": "join_room", "room_pk": match_room, "request_id": 1 })).await;
    assert_eq!(joined.status, 200, "{joined}");
    // The node watches the access to the team before a socket tries to subscribe to its room.
    let mut witness = cluster.socket(0, "ann").await;
    witness.subscribe(&format!("team-{team}")).await;

    // The persister would create the stream again.
    cluster.persister[0].kill9();
    log.delete_stream(format!("CHAT_{lost_shard}")).await.expect("the stream is deleted");

    let frame = json!({ "action": "join_room", "room_pk": lost_match_room, "request_id": 2 });
    assert_eq!(request(&mut socket, frame).await.status, 503);
    let frame = json!({ "action": "create_message", "msg_text": "still here", "request_id": 3 });
    let answer = request(&mut socket, frame).await;
    assert_eq!((answer.status, &answer.data["room"]["pk"]), (201, &json!(match_room)), "{answer}");

    let before = cluster.fanout[0].open_files();
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let mut bob =
            Socket::open(&cluster.fanout[0].address(), &token("bob")).await.expect("the socket opens");
        let answer = bob.act("subscribe", json!({ "channel": format!("room-{lost_room}") })).await;
        assert_eq!(answer.status, 503, "{answer}");
        sockets.push(bob);
    }
    assert!(cluster.fanout[0].open_files() >= before + SOCKETS);
    drop(sockets);
    eventually("the descriptors of the sockets are closed", || async {
        (cluster.fanout[0].open_files() < before + SOCKETS / 2).then_some(())
    })
    .await;
}
