//! Compares the rule of who may read a room in its two forms: in Rust, for one room, and in SQL, for lists and for
//! search. Both answer the same for every kind and state of a room and every sort of caller.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, sign},
    eventually,
};

use super::admin;

/// A word that every message of this test has.
const WORD: &str = "matrix";

async fn make(rest: &Rest, path: &str, body: Value) -> u64 {
    let (status, made) = rest.post(path, body).await;
    assert!(status.is_success(), "{status} {made}");
    let id = made["id"].as_u64().or_else(|| made["chat"]["id"].as_u64());
    id.unwrap_or_else(|| panic!("no id in {made}"))
}

/// Makes one room of each kind, twice where it can be closed, and the states that a change leads to. Returns their ids.
async fn make_rooms(cluster: &Cluster, ann: &Rest, root: &Rest, agent: &Rest) -> Vec<u64> {
    let private = json!({ "name": "private", "private": true, "users": ["bob"] });
    let team = make(ann, paths::TEAMS, json!({ "name": "crew", "users": ["bob", "dan"] })).await;
    let other_team = make(ann, paths::TEAMS, json!({ "name": "other", "users": ["bob", "dan"] })).await;
    let mut rooms = Vec::new();
    for n in 0..2 {
        rooms.push(make(ann, paths::ROOMS, json!({ "name": "public" })).await);
        rooms.push(make(ann, paths::ROOMS, private.clone()).await);
        rooms.push(make(ann, paths::ROOMS, json!({ "name": "team", "team": team })).await);
        rooms.push(make(ann, "/api/chat/", json!({ "title": format!("Potter {n}"), "room": "films" })).await);
        rooms.push(make(root, paths::ROOMS, json!({ "kind": "match", "users": ["ann", "bob"] })).await);
    }
    for room in &rooms {
        ann.send_message(*room, WORD).await;
    }
    for room in &rooms[5..] {
        let closed = root.delete(&paths::room(room)).await;
        assert!(closed.0.is_success(), "{closed:?}");
    }
    let narrowed = make(ann, paths::ROOMS, json!({ "name": "made private" })).await;
    let opened = make(ann, paths::ROOMS, private.clone()).await;
    for (room, is_private) in [(narrowed, true), (opened, false)] {
        let changed = ann.patch(&paths::room(room), json!({ "private": is_private })).await;
        assert!(changed.0.is_success(), "{changed:?}");
    }
    let removed = make(ann, paths::ROOMS, private).await;
    let left_team = make(ann, paths::ROOMS, json!({ "name": "of a team", "team": other_team })).await;
    for path in [paths::member(removed, "bob"), paths::team_member(other_team, "dan")] {
        let done = ann.delete(&path).await;
        assert!(done.0.is_success(), "{done:?}");
    }
    let direct = make(ann, "/room/add", json!({ "owner": "ann", "abonent": "bob" })).await;
    for room in [narrowed, opened, removed, left_team, direct] {
        ann.send_message(room, WORD).await;
        rooms.push(room);
    }
    let visit =
        json!({ "user_id": "v1", "org_id": "o1", "portfolio_name": "p", "product_name": "WIFIQRCODE" });
    let visitor = Rest::without_token(&cluster.api[0].address());
    let (status, visited) = visitor.post("/api/v2/room-control/", visit).await;
    assert!(status.is_success(), "{visited}");
    let listed = agent.rooms().await;
    let support = listed.iter().find(|room| room.kind == "support").expect("the visitor's room").id;
    agent.send_message(support, WORD).await;
    rooms.push(support);
    rooms
}

/// Reads all pages of a list.
async fn read_all(rest: &Rest, path: &str, id: &str) -> BTreeSet<u64> {
    let pages = rest.pages(&format!("{path}limit=3"), "cursor").await;
    let entries = pages.iter().flat_map(|page| &page.results);
    entries.map(|entry| entry[id].as_u64().expect("an id")).collect()
}

#[tokio::test]
async fn room_access_is_the_same_in_lists_search_and_single_reads_for_every_caller() {
    let cluster = Cluster::shared().await;
    let address = cluster.api[0].address();
    let agent_of = |org: &str| Rest::new(&address, &sign(&json!({ "user_id": "agent", "org_id": org })));
    let (ann, root, agent) = (cluster.rest(0, "ann"), admin(&cluster, 0), agent_of("o1"));
    let rooms = make_rooms(&cluster, &ann, &root, &agent).await;
    let is_indexed = || async {
        let found = read_all(&root, &paths::search(format!("q={WORD}&")), "room").await;
        (found == rooms.iter().copied().collect()).then_some(())
    };
    eventually("all messages are found by an admin", is_indexed).await;

    let callers = [
        ("ann", ann),
        ("bob", cluster.rest(0, "bob")),
        ("dan", cluster.rest(0, "dan")),
        ("eve", cluster.rest(0, "eve")),
        ("root", root),
        ("the agent", agent),
        ("another organisation's agent", agent_of("o2")),
    ];
    let mut cases = 0;
    for (name, rest) in callers {
        let listed = read_all(&rest, &format!("{}?", paths::ROOMS), "id").await;
        let found = read_all(&rest, &paths::search(format!("q={WORD}&")), "room").await;
        for room in &rooms {
            let (status, shown) = rest.get(&paths::room(room)).await;
            let may_read = status == 200;
            assert!(may_read || status == 404, "{name}: {shown}");
            let is_open = shown["active"] == true;
            assert_eq!(listed.contains(room), may_read && is_open, "{name} lists {room}: {shown}");
            assert_eq!(found.contains(room), may_read, "{name} searches {room}: {shown}");
            cases += 1;
        }
    }
    assert_eq!(cases, 7 * rooms.len());
}
