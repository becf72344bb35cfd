//! Tests a shard whose stream is missing: a failed subscription leaves nothing behind and takes nothing away.

use protocol::{id::TeamId, subject::Channel};
use reqwest::Method;
use serde_json::{Value, json};
use service::nats::BrokerUser;
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign, token},
    eventually,
};

/// Number of sockets whose subscriptions fail.
const SOCKETS: usize = 40;

async fn make(rest: &Rest, body: &Value) -> u64 {
    let (status, room) = rest.send(Method::POST, paths::ROOMS, body).await.expect("an answer");
    assert!(status.is_success(), "{room}");
    room["id"].as_u64().expect("an id")
}

/// Makes rooms until one is in a shard for which `is_lost` is true; returns its id.
async fn made(
    cluster: &Cluster,
    rest: &Rest,
    body: Value,
    is_lost: impl Fn(protocol::id::Shard) -> bool,
) -> u64 {
    loop {
        let room = make(rest, &body).await;
        if is_lost(cluster.shard_of(room).await) {
            return room;
        }
    }
}

async fn ask(socket: &mut Socket, frame: Value) -> Value {
    socket.send_text(&frame.to_string()).await.expect("open");
    socket.next().await.expect("open")
}

#[tokio::test]
async fn subscription_to_a_missing_shard_leaves_nothing_behind() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let root = Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": 9, "is_admin": true })));
    let (_, team) = ann.post("/api/v1/teams", json!({ "name": "crew", "users": ["bob"] })).await;
    let log = cluster.jetstream(BrokerUser::Persister).await;
    let shards = log::discover(&log).await.expect("a log").shards;
    let kept = Channel::Team(TeamId(team["id"].as_u64().expect("an id"))).shard(shards);
    let mut of_two = Vec::new();
    let lost =
        made(&cluster, &ann, json!({ "name": "deck", "team": team["id"] }), |shard| shard != kept).await;
    let gone = cluster.shard_of(lost).await;
    for is_lost in [false, true] {
        let mut other = 1;
        of_two.push(loop {
            other += 1;
            let room = make(&root, &json!({ "kind": "match", "users": ["1", other.to_string()] })).await;
            if (cluster.shard_of(room).await == gone) == is_lost {
                break room;
            }
        });
    }
    let [stays, fails] = of_two[..] else { unreachable!("two were made") };
    let claims = sign(&json!({ "user_id": 1, "username": "One" }));
    let mut one =
        Socket::open_at(&cluster.fanout[0].address(), "/ws/chat/", &claims).await.expect("it opens");
    let joined = ask(&mut one, json!({ "action": "join_room", "room_pk": stays, "request_id": 1 })).await;
    assert_eq!(joined["response_status"], 200, "{joined}");
    // The watcher of the team stands before its room is tried.
    let mut witness = cluster.socket(0, "ann").await;
    witness.act_ok("subscribe", json!({ "channel": format!("team-{}", team["id"]) })).await;

    // It would make the stream anew.
    cluster.persister[0].kill9();
    log.delete_stream(format!("CHAT_{gone}")).await.expect("the stream is deleted");

    let frame = json!({ "action": "join_room", "room_pk": fails, "request_id": 2 });
    assert_eq!(ask(&mut one, frame).await["response_status"], 503);
    let frame = json!({ "action": "create_message", "msg_text": "still here", "request_id": 3 });
    let said = ask(&mut one, frame).await;
    assert_eq!(
        (&said["response_status"], &said["data"]["room"]["pk"]),
        (&json!(201), &json!(stays)),
        "{said}"
    );

    let before = cluster.fanout[0].open_files();
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let mut bob = Socket::open(&cluster.fanout[0].address(), &token("bob")).await.expect("it opens");
        let answer = bob.act("subscribe", json!({ "channel": format!("room-{lost}") })).await;
        assert_eq!(answer.status, 503, "{answer}");
        sockets.push(bob);
    }
    assert!(cluster.fanout[0].open_files() >= before + SOCKETS);
    drop(sockets);
    eventually("the sockets' descriptors are closed", || async {
        (cluster.fanout[0].open_files() < before + SOCKETS / 2).then_some(())
    })
    .await;
}
