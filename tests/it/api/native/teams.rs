//! Checks teams and the rooms that they own.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};
use tests::native::Page;
use tests::paths;

use super::{FORBIDDEN, NOT_FOUND, admin, refusal};

#[tokio::test]
async fn team_is_visible_to_its_members_only() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob, eve) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"), cluster.rest(0, "eve"));
    let (status, team) = ann.post(paths::TEAMS, json!({ "name": "crew", "users": ["bob", "bob"] })).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        (&team["name"], &team["user"], &team["users"]),
        (&json!("crew"), &json!("ann"), &json!(["bob"]))
    );
    assert!(team["created_at"].is_string() && team.get("applied").is_none(), "{team}");
    let blank = ann.post(paths::TEAMS, json!({ "name": "" })).await;
    assert_eq!(refusal(&blank), (400, "bad_request", "name: must not be blank."));
    let id = tests::native::id(&team);
    let path = paths::team(id);
    for rest in [&ann, &bob, &admin(&cluster, 0)] {
        assert_eq!(rest.get(&path).await, (StatusCode::OK, team.clone()));
        let (_, teams) = rest.get(paths::TEAMS).await;
        assert_eq!(teams, json!({ "results": [team], "next": null }));
    }
    assert_eq!(refusal(&eve.get(&path).await), NOT_FOUND);
    assert_eq!(refusal(&ann.get(&paths::team(999_999)).await), NOT_FOUND);
    assert_eq!(eve.get(paths::TEAMS).await.1["results"], json!([]));

    let of = |user: &str| format!("{path}/members/{user}");
    assert_eq!(refusal(&bob.put(&of("eve"), Value::Null).await), FORBIDDEN);
    assert_eq!(refusal(&eve.put(&of("eve"), Value::Null).await), NOT_FOUND);
    assert_eq!(ann.put(&of("eve"), Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(eve.get(&path).await.1["users"], json!(["bob", "eve"]));
    assert_eq!(refusal(&eve.delete(&of("bob")).await), FORBIDDEN);
    assert_eq!(eve.delete(&of("eve")).await.0, StatusCode::NO_CONTENT, "a member may remove himself");
    assert_eq!(refusal(&eve.get(&path).await), NOT_FOUND);

    let mut socket = cluster.socket(0, "eve").await;
    let channel = json!({ "channel": format!("team-{id}") });
    let answer = socket.act("subscribe", channel.clone()).await;
    assert_eq!(answer.refusal(), (404, "Not found."));
    let mut socket = cluster.socket(0, "bob").await;
    socket.act_ok("subscribe", channel).await;
    ann.put(&of("eve"), Value::Null).await;
    let push = socket.event("team-member-add").await;
    assert_eq!(push.data, json!({ "team": id, "user": "eve", "by": "ann" }));
}

/// The names of a page's entries.
fn names(page: &Page) -> Vec<&str> {
    page.results.iter().map(|entry| entry["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn team_pages_continue_where_they_ended() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    for name in ["one", "two", "three"] {
        ann.post(paths::TEAMS, json!({ "name": name })).await;
    }
    let pages = ann.pages(&format!("{}?limit=2", paths::TEAMS), "cursor").await;
    assert_eq!(pages.iter().map(names).collect::<Vec<_>>(), [vec!["three", "two"], vec!["one"]]);
    let bad = ann.get(&format!("{}?cursor=x", paths::TEAMS)).await;
    assert_eq!(refusal(&bad), (400, "bad_request", "cursor: must be one that was given as `next`."));
}

#[tokio::test]
async fn lists_continue_behind_rows_that_are_not_written_yet() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    for name in ["one", "two", "three"] {
        ann.post(paths::TEAMS, json!({ "name": name, "users": ["bob"] })).await;
        ann.post(paths::ROOMS, json!({ "name": name, "private": true, "users": ["bob"] })).await;
    }
    for path in [paths::TEAMS, paths::ROOMS] {
        assert_eq!(bob.page(path).await.results.len(), 3, "{path}");
    }
    // Memberships of rooms and teams whose creation is not yet applied.
    let pool = cluster.database.pool().await;
    for sql in [
        "INSERT INTO team_member SELECT 0, 900000 + n, 'bob', 'ann' FROM generate_series(1, 250) n",
        "INSERT INTO room_member SELECT 0, 900000 + n, 'bob', 'ann' FROM generate_series(1, 250) n",
    ] {
        sqlx::query(sql).execute(&pool).await.expect("rows");
    }
    for path in [paths::TEAMS, paths::ROOMS] {
        let pages = bob.pages(&format!("{path}?limit=2"), "cursor").await;
        let listed: Vec<&str> = pages.iter().flat_map(names).collect();
        assert_eq!(listed, ["three", "two", "one"], "{path}");
    }
}

#[tokio::test]
async fn team_room_is_open_to_its_members_only() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob, eve) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"), cluster.rest(1, "eve"));
    let team = ann.create_team("crew", &["bob"]).await;
    let body = json!({ "name": "deck", "team": team });
    assert_eq!(refusal(&bob.post(paths::ROOMS, body.clone()).await), FORBIDDEN);
    assert_eq!(refusal(&eve.post(paths::ROOMS, body.clone()).await), NOT_FOUND);
    let (status, room) = ann.post(paths::ROOMS, body).await;
    assert_eq!(status, StatusCode::CREATED, "{room}");
    assert_eq!(
        (&room["kind"], &room["private"], &room["team"]),
        (&json!("team"), &json!(true), &json!(team))
    );
    let path = paths::room(&room["id"]);
    assert_eq!(bob.get(&path).await.1["users"], json!(["bob"]));
    assert_eq!(refusal(&eve.get(&path).await), NOT_FOUND);
    assert_eq!(eve.rooms().await, []);
    assert_eq!(json!(bob.rooms().await[0].id), room["id"]);
    assert_eq!(refusal(&bob.patch(&path, json!({ "name": "x" })).await), FORBIDDEN);
    let kinds = "Only public and private rooms can become one another.";
    assert_eq!(refusal(&ann.patch(&path, json!({ "private": false })).await), (409, "conflict", kinds));
    let own = ann.put(&format!("{path}/members/eve"), Value::Null).await;
    assert_eq!(refusal(&own), (409, "conflict", "Only a private room has members of its own."));

    // The second node has cached Bob's access; the first one removes him.
    let members = paths::team_members(team);
    assert_eq!(ann.delete(&format!("{members}/bob")).await.0, StatusCode::NO_CONTENT);
    tests::eventually("bob is removed", || async { (bob.get(&path).await.0 == 404).then_some(()) }).await;
    assert_eq!(ann.put(&format!("{members}/eve"), Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(eve.get(&path).await.0, StatusCode::OK, "a refusal is not cached");
}
