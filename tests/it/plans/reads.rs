//! Asks the generated deployment every question that api answers from PostgreSQL.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, sign},
};

/// Statements of api, by how they begin, each of which must have run.
pub(super) const ASKED: [(&str, &str); 3] = [
    ("roomcast-api", "SELECT way.id, coalesce(r.id IS NOT NULL"),
    ("roomcast-api", "WITH own AS"),
    ("roomcast-api", "SELECT r.id FROM ( (SELECT p.room FROM participant"),
];

async fn read_ok(rest: &Rest, path: &str) -> Value {
    let (status, answer) = rest.get(path).await;
    assert!(status.is_success(), "{path}: {status} {answer}");
    answer
}

/// Reads up to `most` pages of a list, following each page's `next`; returns how many it read.
async fn pages(rest: &Rest, path: &str, parameter: &str, most: usize) -> usize {
    let mut address = path.to_owned();
    for page in 0..most {
        let answer = read_ok(rest, &address).await;
        let next = match &answer["next"] {
            Value::String(next) => next.clone(),
            _ => return page + 1,
        };
        let mark = if path.contains('?') { '&' } else { '?' };
        address = format!("{path}{mark}{parameter}={next}");
    }
    most
}

fn keys(list: &Value, key: &str) -> Vec<Value> {
    list.as_array().expect("a list").iter().map(|entry| entry[key].clone()).collect()
}

/// Reads a whole list and checks that no entry is listed twice. Entries created meanwhile may be among them.
async fn read_whole_list(rest: &Rest, path: &str, entries: impl Fn(&Value) -> Vec<Value>, least: u64) {
    let (mut seen, mut next) = (HashSet::new(), String::new());
    loop {
        let page = read_ok(rest, &format!("{path}{next}")).await;
        for entry in entries(&page) {
            assert!(seen.insert(entry.to_string()), "{path} lists {entry} twice");
        }
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("{}cursor={cursor}", if path.contains('?') { '&' } else { '?' });
    }
    assert!(seen.len() as u64 >= least, "{path}: {} of {least}", seen.len());
}

pub(super) async fn ask_everything(cluster: &Cluster, admin: &str) {
    let ann = cluster.rest(0, "ann");
    let admin = Rest::new(&cluster.api[0].address(), admin);
    let agent = Rest::new(
        &cluster.api[0].address(),
        &sign(&json!({ "user_id": "agent", "org_id": "org", "username": "Agent" })),
    );
    for rest in [&ann, &admin, &agent, &cluster.rest(0, "nobody"), &cluster.rest(0, "maker-1")] {
        assert!(pages(rest, paths::ROOMS, "cursor", 3).await > 1);
        pages(rest, paths::TEAMS, "cursor", 2).await;
        pages(rest, "/room/list", "cursor", 3).await;
    }
    for room in [2, 6, 4, 5, 7] {
        for path in
            ["", "/messages", "/messages?after=10", "/messages?changed_after=10", "/members", "/participants"]
        {
            read_ok(&admin, &format!("{}{path}", paths::room(room))).await;
        }
    }
    read_ok(&ann, &paths::room(6)).await;
    read_ok(&ann, &paths::search("q=word17")).await;
    read_ok(&ann, &paths::search("q=word17&room=2")).await;
    read_ok(&ann, &paths::team(1)).await;
    pages(&ann, &paths::team_members(1), "cursor", 2).await;
    pages(&ann, paths::INVITATIONS, "cursor", 2).await;
    read_ok(&ann, &paths::user("crowd-2")).await;
    read_ok(&ann, &paths::presence("crowd-2")).await;
    read_ok(&ann, &paths::presence("ann")).await;
    for page in ["", "?page=2", "?page=last"] {
        read_ok(&ann, &format!("/api/chat/films/{page}")).await;
    }
    let desk = "/api/v2/room-list/?org_id=org&product_name=product";
    let rooms = read_ok(&agent, desk).await;
    read_whole_list(&agent, desk, |page| keys(&page["rooms"], "_id"), crate::plans::rooms() / 10 * 9 / 10)
        .await;
    read_whole_list(
        &ann,
        "/room/list",
        |page| page["room_ids"].as_array().expect("ids").clone(),
        crate::plans::rooms() / 100,
    )
    .await;
    let key = rooms["rooms"][0]["_id"].as_str().expect("a key");
    for kind in ["get_messages", "get_room_by_id"] {
        read_ok(&agent, &format!("/api/v2/room-service/?type={kind}&room_id={key}")).await;
    }

    let mut socket = cluster.socket(0, "ann").await;
    socket.act_ok("list", json!({ "limit": 50 })).await;
    socket.join_room(2).await;
    socket.subscribe("team-1").await;
    socket.act_ok("history", json!({ "room_pk": 2 })).await;
    socket.join_room(6).await;
    // The query for a shared room runs whatever the answer is.
    socket.act("signal", json!({ "user": "right-6", "data": {} })).await;
    socket.act("signal", json!({ "user": "crowd-2", "data": {} })).await;
    for (claims, path) in [
        (json!({ "user_id": "ann" }), "/ws/chat/"),
        (json!({ "user_id": "root", "is_admin": true }), "/ws/admin-chat/"),
    ] {
        let address = cluster.fanout[0].address();
        let mut socket = Socket::open_at(&address, path, &sign(&claims)).await.expect("a socket");
        socket.act_ok("list", json!({ "limit": 100 })).await;
    }
    let (status, _) = ann.send(Method::GET, "/room/select/6", &Value::Null).await.expect("the node answers");
    assert!(status.is_success());
}
