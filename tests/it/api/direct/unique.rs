//! Tests that a pair has one direct room, however many requests add it at once, in either order of the two people.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::cluster::{Cluster, Size};
use tests::paths;
use tokio::task::JoinSet;

use super::{add, admin, get, person, send};

async fn rush(cluster: &Cluster) -> u64 {
    let mut requests = JoinSet::new();
    for n in 0..40 {
        let (owner, abonent) = if n % 2 == 0 { (7, 8) } else { (8, 7) };
        let rest = person(cluster, n % 3 % 2, owner);
        requests.spawn(async move { add(&rest, owner, abonent).await });
    }
    let ids: BTreeSet<u64> = requests.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    *ids.first().expect("one")
}

#[tokio::test]
async fn direct_room_of_a_pair_is_unique_until_it_is_closed() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let first = rush(&cluster).await;
    send(&person(&cluster, 0, 7), first, "hi").await;
    let made: i64 = sqlx::query_scalar("SELECT count(*) FROM room WHERE kind = 'direct'")
        .fetch_one(&cluster.database.pool().await)
        .await
        .expect("a count");
    assert_eq!(made, 1);
    let path = paths::room(first);
    let (status, _) = admin(&cluster).delete(&path).await;
    assert_eq!(status, 204);
    let list = get(&person(&cluster, 1, 7), "/room/list").await;
    assert_eq!((&list["room_ids"], &list["current_room"]), (&Value::Array(vec![]), &Value::Null));
    let next = rush(&cluster).await;
    assert_ne!(next, first);
    assert_ne!(add(&person(&cluster, 0, 7), 7, 9).await, next, "another pair has another room");
}
