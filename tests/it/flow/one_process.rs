//! Tests that `roomcast up` answers its sockets without asking over the broker.

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::json;
use service::nats::{BrokerUser, connect_once};
use tests::{
    client::{Rest, Socket},
    cluster::token,
    machine::Machine,
};

#[tokio::test]
async fn sockets_of_one_process_are_answered_without_the_broker() {
    let machine = Machine::start().await;
    let user = BrokerUser::Api;
    let broker = connect_once(&machine.nats.args(user), user).await.expect("the broker answers").client;
    let mut requests = broker.subscribe("rpc.>").await.expect("a subscription");
    broker.flush().await.expect("the subscription is registered");

    let ann = Rest::new(&machine.address(), &token("ann"));
    let room = ann.create_room("general").await;
    let mut socket = Socket::open(&machine.address(), &token("ann")).await.expect("a socket");
    socket.subscribe_room(room).await;
    socket.send_message_to(room, "hi").await;
    let answer = socket.act("history", json!({ "room_pk": room })).await;
    assert_eq!(answer.status, 200, "{answer}");
    let refused =
        socket.act("edit_message", json!({ "room_pk": room, "message_id": 1, "message": "" })).await;
    assert_eq!(refused.status, 400, "{refused}");

    // Everything that was published before has arrived once the broker answers.
    broker.flush().await.expect("the broker answers");
    let request = requests.next().now_or_never().flatten();
    assert!(request.is_none(), "{request:?} went over the broker");
}
