//! Asks api what fan-out nodes ask about their sockets' people.

use protocol::{
    caller::Caller,
    error::ErrorCode,
    id::{RoomId, TeamId},
    rpc::{
        AccessGrant, ActionReply, ActionRequest, ChannelCallers, ConfirmChannelsRequest, ConfirmReply,
        ConfirmRequest, ParticipantsReply, ParticipantsRequest, RpcResult, SignalRequest, SocketEffect,
        Surface, expiry,
    },
    subject::rpc,
};
use serde_json::{json, value::RawValue};
use tests::paths;
use tests::{
    cluster::{Cluster, Size},
    eventually,
};

use super::{as_fanout, ask};

fn caller(user: &str) -> Caller {
    Caller { user: user.parse().expect("an id"), is_admin: false, org_id: None }
}

fn confirm(room: u64, users: &[&str]) -> ConfirmRequest {
    let callers = users.iter().map(|user| caller(user)).collect();
    ConfirmRequest { room: RoomId(room), team: None, callers, expires_at: expiry() }
}

#[tokio::test]
async fn confirmation_names_those_who_may_not_stay() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_private_room(&["bob"]).await;
    let client = as_fanout(&cluster).await;
    let out = async |users: &[&str]| {
        let confirmed: ConfirmReply =
            ask(&client, rpc::CONFIRM, &confirm(room, users)).await.expect("the node answers");
        let out: Vec<String> = confirmed.out.iter().map(ToString::to_string).collect();
        (out, confirmed.grant)
    };
    let (left, before) = out(&["ann", "bob", "eve"]).await;
    assert_eq!(left, ["eve"]);
    assert!(!before.public && before.team.is_none() && before.as_of > 0, "{before:?}");
    ann.delete(&paths::member(room, "bob")).await;
    let (left, after) = out(&["ann", "bob"]).await;
    assert_eq!(left, ["bob"]);
    assert!(after.as_of > before.as_of && after.last_event > before.last_event, "{before:?} {after:?}");
    ann.patch(&paths::room(room), json!({ "private": false })).await;
    assert!(out(&["bob", "eve"]).await.0.is_empty());
    ann.delete(&paths::room(room)).await;
    assert_eq!(out(&["ann", "bob"]).await.0, ["ann", "bob"], "nobody may follow a closed room");
    let nowhere: RpcResult<ConfirmReply> = ask(&client, rpc::CONFIRM, &confirm(999_999, &["ann"])).await;
    assert_eq!(nowhere.expect_err("no such room").code.as_str(), "not_found");
}

#[tokio::test]
async fn channels_of_one_question_are_answered_each_by_itself_in_their_order() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let (with_bob, without) = (ann.create_private_room(&["bob"]).await, ann.create_private_room(&[]).await);
    let team = ann.create_team("crew", &["bob"]).await;
    let client = as_fanout(&cluster).await;
    let channel = |room: u64, team: Option<u64>| ChannelCallers {
        room: RoomId(room),
        team: team.map(TeamId),
        callers: vec![caller("ann"), caller("bob")],
    };
    let confirm = async |channels: Vec<ChannelCallers>| -> RpcResult<Vec<RpcResult<ConfirmReply>>> {
        let request = ConfirmChannelsRequest { channels, expires_at: expiry() };
        ask(&client, rpc::CONFIRM_CHANNELS, &request).await
    };
    let channels =
        vec![channel(with_bob, None), channel(999_999, None), channel(without, None), channel(0, Some(team))];
    let answers = confirm(channels).await.expect("the node answers");
    let revoked: Vec<_> = answers
        .into_iter()
        .map(|answer| {
            answer
                .map(|reply| reply.callers_out.expect("a reply with callers_out"))
                .map_err(|error| error.code)
        })
        .collect();
    assert_eq!(revoked, [Ok(vec![]), Err(ErrorCode::NotFound), Ok(vec![caller("bob")]), Ok(vec![])]);
    let too_many = confirm((0..101).map(|_| channel(with_bob, None)).collect()).await;
    assert_eq!(too_many.expect_err("more than 100 channels are refused").code, ErrorCode::BadRequest);
}

#[tokio::test]
async fn confirmation_of_a_team_names_callers_who_may_not_follow() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let team = ann.create_team("crew", &["bob"]).await;
    let team = TeamId(team);
    let client = as_fanout(&cluster).await;
    let admin = Caller { is_admin: true, ..caller("eve") };
    let out = async || {
        let callers = vec![caller("ann"), caller("bob"), caller("eve"), admin.clone()];
        let request = ConfirmRequest { room: RoomId(0), team: Some(team), callers, expires_at: expiry() };
        let confirmed: ConfirmReply = ask(&client, rpc::CONFIRM, &request).await.expect("the node answers");
        (confirmed.callers_out.expect("a reply with callers_out"), confirmed.grant)
    };
    let (left, before) = out().await;
    assert_eq!(left, [caller("eve")], "only the socket without the admin claim is refused");
    assert!(!before.public && !before.pair && before.team.is_none() && before.as_of > 0, "{before:?}");
    ann.delete(&paths::team_member(team.0, "bob")).await;
    let (left, after) = out().await;
    assert_eq!(left, [caller("bob"), caller("eve")]);
    assert!(after.as_of > before.as_of, "{before:?} {after:?}");
}

async fn granted(client: &async_nats::Client, user: &str, room: u64) -> AccessGrant {
    let frame = json!({ "action": "subscribe", "channel": format!("room-{room}") });
    let request = ActionRequest {
        caller: caller(user),
        surface: Surface::Native,
        action: "subscribe".to_owned(),
        frame: RawValue::from_string(frame.to_string()).expect("JSON"),
        rooms: vec![],
        pairs: vec![],
        key: "k".to_owned(),
        request: "r".to_owned(),
        expires_at: expiry(),
    };
    let reply: ActionReply = ask(client, rpc::ACTION, &request).await.expect("the node answers");
    match reply.effect {
        Some(SocketEffect::Subscribe { grant: Some(grant), .. }) => grant,
        other => panic!("no grant: {other:?} {:?}", reply.errors),
    }
}

#[tokio::test]
async fn grant_says_as_of_which_event_it_counts() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let client = as_fanout(&cluster).await;
    let room = ann.create_room("general").await;
    let grant = granted(&client, "bob", room).await;
    assert_eq!((grant.public, grant.team, grant.last_event), (true, None, 0));
    let id = ann.send_message(room, "hello").await;
    // A cached grant may be older than the message; its `as_of` tells.
    eventually("the grant counts the message", || async {
        let grant = granted(&client, "bob", room).await;
        (grant.last_event == id && grant.as_of >= id).then_some(())
    })
    .await;
    let team = ann.create_team("crew", &["bob"]).await;
    let room = ann.create_team_room("deck", team).await;
    let grant = granted(&client, "bob", room).await;
    let by = grant.team.expect("a grant by the team");
    assert_eq!((grant.public, by.team, by.as_of > 0), (false, TeamId(team), true));
}

#[tokio::test]
async fn participants_are_listed_with_incarnation_and_counter() {
    let cluster = Cluster::shared().await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let client = as_fanout(&cluster).await;
    let present = async || {
        let request =
            ParticipantsRequest { room: RoomId(room), is_paged: false, after: None, expires_at: expiry() };
        ask::<ParticipantsReply>(&client, rpc::PARTICIPANTS, &request).await.expect("the node answers")
    };
    assert!(present().await.present.is_empty());
    let mut socket = cluster.socket(0, "bob").await;
    socket.join_room(room).await;
    let join = socket.event("participant-join").await.id();
    let here = eventually("bob is in the room", || async {
        let here = present().await;
        (here.as_of >= join).then_some(here)
    })
    .await;
    assert_eq!(here.present.len(), 1);
    assert_eq!(here.present[0].user.as_str(), "bob");
}

#[tokio::test]
async fn people_of_one_room_may_signal_to_each_other() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let private = ann.create_private_room(&["bob"]).await;
    let team = ann.create_team("crew", &["cid", "dan"]).await;
    let deck = ann.create_team_room("deck", team).await;
    let public = ann.create_room("general").await;
    let client = as_fanout(&cluster).await;
    let may = async |from: &str, to: &str| {
        let user = to.parse().expect("an id");
        let request = SignalRequest { caller: caller(from), user, expires_at: expiry() };
        let reply: RpcResult<()> = ask(&client, rpc::SIGNAL, &request).await;
        reply.map_err(|error| error.code.as_str())
    };
    let pairs = [("ann", "bob"), ("bob", "ann"), ("cid", "dan"), ("cid", "ann"), ("ann", "dan")];
    for (from, to) in pairs {
        assert_eq!(may(from, to).await, Err("forbidden"), "{from} {to}: they may enter, and were not there");
    }
    for (user, room) in [("ann", private), ("bob", private), ("ann", deck), ("cid", deck), ("dan", deck)] {
        cluster.rest(0, user).send_message(room, "hi").await;
    }
    for (from, to) in pairs {
        eventually(&format!("{from} may signal to {to}"), || async { may(from, to).await.ok() }).await;
    }
    for (from, to) in [("bob", "cid"), ("ann", "eve"), ("eve", "ann"), ("eve", "bob")] {
        assert_eq!(may(from, to).await, Err("forbidden"), "{from} {to}");
    }
    let mut sockets = Vec::new();
    for user in ["bob", "eve"] {
        let mut socket = cluster.socket(0, user).await;
        socket.join_room(public).await;
        sockets.push(socket);
    }
    eventually("bob and eve are in one room", || async { may("eve", "bob").await.ok() }).await;
    drop::<Vec<_>>(sockets);
}
