//! Writes every sort of event beside the rows of the generated deployment.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::paths;
use tests::{client::Rest, cluster::Cluster, eventually};

/// Statements of the persister, by how they begin, each of which must have run.
pub(super) const WRITTEN: [(&str, &str); 8] = [
    ("roomcast-persister", "INSERT INTO message ("),
    ("roomcast-persister", "UPDATE message SET body = new.body"),
    ("roomcast-persister", "UPDATE message SET body = ''"),
    ("roomcast-persister", "INSERT INTO message_search"),
    ("roomcast-persister", "INSERT INTO message_key"),
    ("roomcast-persister", "INSERT INTO room_writer"),
    ("roomcast-persister", "DELETE FROM participant"),
    ("roomcast-persister", "INSERT INTO room_size"),
];

async fn request_ok(rest: &Rest, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = rest.send(method.clone(), path, &body).await.expect("the node answers");
    assert!(status.is_success(), "{method} {path}: {status} {answer}");
    answer
}

pub(super) async fn write_everything(cluster: &Cluster, admin: &str, pool: &PgPool) {
    let ann = cluster.rest(0, "ann");
    let admin = Rest::new(&cluster.api[0].address(), admin);
    let key = |n: u64| format!("0190{:04x}-0000-7000-8000-{n:012x}", rand::random::<u16>());
    for room in [2, 6] {
        let messages = paths::messages(room);
        let sent =
            request_ok(&ann, Method::POST, &messages, json!({ "message": "hello", "client_id": key(room) }))
                .await;
        let message = format!("{messages}/{}", sent["id"]);
        request_ok(&ann, Method::PATCH, &message, json!({ "message": "changed" })).await;
        request_ok(&ann, Method::PUT, &paths::read_mark(room), json!({ "message_id": sent["id"] })).await;
        request_ok(&ann, Method::DELETE, &message, Value::Null).await;
        request_ok(&ann, Method::POST, &messages, json!({ "message": "again", "client_id": key(room + 1) }))
            .await;
    }
    let room = request_ok(
        &ann,
        Method::POST,
        paths::ROOMS,
        json!({ "name": "new", "private": true, "users": ["bob"] }),
    );
    let room = paths::room(&room.await["id"]);
    for path in [&room, &paths::room(4)] {
        let user = format!("new-{}", rand::random::<u32>());
        request_ok(&ann, Method::PUT, &format!("{path}/members/{user}"), Value::Null).await;
        request_ok(&ann, Method::POST, &format!("{path}/invitations"), json!({ "user": "cid" })).await;
        request_ok(&ann, Method::DELETE, &format!("{path}/members/{user}"), Value::Null).await;
    }
    request_ok(&ann, Method::PATCH, &room, json!({ "name": "newer" })).await;
    request_ok(&ann, Method::DELETE, &room, Value::Null).await;
    let user = format!("new-{}", rand::random::<u32>());
    request_ok(&admin, Method::PUT, &paths::team_member(1, &user), Value::Null).await;
    request_ok(&admin, Method::DELETE, &paths::team_member(1, &user), Value::Null).await;
    let title = format!("title {}", rand::random::<u32>());
    let chat = request_ok(&ann, Method::POST, "/api/chat/", json!({ "title": title, "room": "films" })).await;
    request_ok(
        &ann,
        Method::PATCH,
        &format!("/api/chat/films/{}/", chat["chat"]["id"]),
        json!({ "description": "x" }),
    )
    .await;
    request_ok(&admin, Method::DELETE, &paths::room(&chat["chat"]["id"]), Value::Null).await;
    request_ok(&ann, Method::POST, "/room/add", json!({ "owner": "ann", "abonent": user })).await;
    request_ok(&ann, Method::GET, "/webrtc/cameraOn", Value::Null).await;
    request_ok(&ann, Method::GET, "/webrtc/cameraOff", Value::Null).await;
    let visit =
        json!({ "user_id": "visitor-1", "org_id": "org", "portfolio_name": user, "product_name": "product" });
    request_ok(&ann.clone(), Method::POST, "/api/v2/room-control/", visit_by(&visit, "ann")).await;
    request_ok(&admin, Method::PUT, &paths::user("crowd-5"), json!({ "username": "Cid" })).await;
    eventually("all messages are indexed", || async {
        let due: i64 =
            sqlx::query_scalar("SELECT count(*) FROM search_due").fetch_one(pool).await.expect("a count");
        (due == 0).then_some(())
    })
    .await;
    // The bot has not written since the previous run's stop.
    let bot = cluster.rest(0, "right-6");
    request_ok(&bot, Method::POST, "/room/list", json!({ "room_id": 6, "message": "beep" })).await;
    let is_active = async || {
        request_ok(&ann, Method::GET, "/room/list", Value::Null).await["rooms"]["6"]["is_active"].clone()
    };
    assert_eq!(is_active().await, true, "both people have written, one of them long ago");
    request_ok(&ann, Method::GET, "/room/stop/6", Value::Null).await;
    assert_eq!(is_active().await, false);
    // Rows of people who left are deleted every few seconds.
    sqlx::raw_sql(
        "INSERT INTO participant (shard, room, user_id, incarnation, counter, present, changed)
         SELECT 2, 2, 'left-' || n, 1, 1, false, n FROM generate_series(1, 1000) AS n",
    )
    .execute(pool)
    .await
    .expect("rows");
    eventually("rows of people who left are deleted", || async {
        let sql = "SELECT count(*) FROM participant WHERE NOT present AND user_id LIKE 'left-%'";
        let left: i64 = sqlx::query_scalar(sql).fetch_one(pool).await.expect("a count");
        (left == 0).then_some(())
    })
    .await;
}

fn visit_by(visit: &Value, user: &str) -> Value {
    let mut visit = visit.clone();
    visit["user_id"] = user.into();
    visit
}
