//! Tests nodes that are gone, or were taken for gone: their people leave within the bound, and nobody else's.

use std::time::{Duration, Instant};

use tests::{
    client::Socket,
    cluster::{Cluster, Node, ProxiedConnection, Size},
    eventually,
    native::RoomView,
};

/// Documented time within which participants of a dead node leave.
const BOUND: Duration = Duration::from_secs(20);
/// Longer than the silence after which a node is declared dead.
const SILENCE: Duration = Duration::from_secs(14);

async fn join(cluster: &Cluster, node: usize, user: &str, room: u64) -> (Socket, RoomView) {
    let mut socket = cluster.socket(node, user).await;
    let data = socket.join_room(room).await;
    (socket, data)
}

/// Makes a room with Eve on the first node, who has seen `others` join on the second.
async fn room(cluster: &Cluster, others: &[&str]) -> (u64, Socket, Vec<Socket>) {
    let room = cluster.rest(0, "ann").create_room("tea").await;
    let (mut watcher, _) = join(cluster, 0, "eve", room).await;
    watcher.event("participant-join").await;
    let mut sockets = vec![];
    for user in others {
        sockets.push(join(cluster, 1, user, room).await.0);
        assert_eq!(watcher.event("participant-join").await.user(), *user);
    }
    (room, watcher, sockets)
}

/// Waits for leaves of exactly these people; returns how long that took.
async fn leave(watcher: &mut Socket, mut people: Vec<&str>) -> Duration {
    let since = Instant::now();
    while !people.is_empty() {
        let push = watcher.event("participant-leave").await;
        let user = push.user();
        let place = people.iter().position(|name| *name == user);
        people.remove(place.unwrap_or_else(|| panic!("{user} leaves")));
    }
    since.elapsed()
}

/// Sum of a counter over all api nodes.
async fn counter(cluster: &Cluster, name: &str) -> u64 {
    let mut sum = 0;
    for node in &cluster.api {
        sum += count(node, name).await;
    }
    sum
}

/// A counter of a node; 0 if it is missing.
async fn count(node: &Node, name: &str) -> u64 {
    let metrics = node.metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().expect("a count"))
}

#[tokio::test]
async fn people_of_a_dead_node_leave() {
    let mut cluster = Cluster::start(Size { fanout: 2, api: 2, ..Size::default() }).await;
    let (room, mut watcher, _sockets) = room(&cluster, &["bob", "dan"]).await;
    cluster.fanout[1].kill9();
    // Up again under its name at once: its people are not back by that.
    cluster.fanout[1].restart();
    let took = leave(&mut watcher, vec!["bob", "dan"]).await;
    assert!(took < BOUND, "{took:?}");
    let (_, data) = join(&cluster, 0, "ann", room).await;
    assert_eq!(data.participants, Some(vec!["eve".to_owned()]));
    let pool = cluster.database.pool().await;
    eventually("they are offline", || async {
        let sql = "SELECT count(*) FROM online WHERE present AND user_id IN ('bob', 'dan')";
        let online: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.ok()?;
        (online == 0).then_some(())
    })
    .await;
    eventually("both api nodes have declared it", || async {
        (counter(&cluster, "roomcast_dead_nodes_total").await == 2).then_some(())
    })
    .await;
    // Two places of two people; the node that comes second finds its leaves said already.
    let leaves = counter(&cluster, "roomcast_dead_node_leaves_total").await;
    assert!((4..=8).contains(&leaves), "{leaves}");
}

#[tokio::test]
async fn people_of_a_node_that_died_unknown_to_all_leave() {
    let mut cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let (_, mut watcher, _sockets) = room(&cluster, &["bob"]).await;
    cluster.api[0].kill9();
    cluster.fanout[1].kill9();
    cluster.api[0].restart();
    cluster.api[0].wait_until_ready().await;
    let took = leave(&mut watcher, vec!["bob"]).await;
    assert!(took < BOUND, "{took:?}");
}

#[tokio::test]
async fn people_of_a_dead_node_leave_in_several_batches() {
    const PEOPLE: i64 = 1_200;
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let pool = cluster.database.pool().await;
    // As a process that nobody ever heard has left them.
    sqlx::query(
        "INSERT INTO participant (shard, room, user_id, incarnation, counter, present)
         SELECT n % 8, 8 + n % 8, 'u' || n, -7, n, true FROM generate_series(1, $1) AS n",
    )
    .bind(PEOPLE)
    .execute(&pool)
    .await
    .expect("rows");
    eventually("all have left", || async {
        let sql = "SELECT count(*) FROM participant WHERE present";
        let left: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.ok()?;
        (left == 0).then_some(())
    })
    .await;
    let words: Vec<i64> =
        sqlx::query_scalar("SELECT DISTINCT counter FROM participant").fetch_all(&pool).await.expect("rows");
    assert_eq!(words, [i64::MAX]);
}

#[tokio::test]
async fn node_taken_for_dead_comes_back_with_its_people() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let (room, mut watcher, mut sockets) = room(&cluster, &["bob"]).await;
    cluster.fanout[1].pause();
    leave(&mut watcher, vec!["bob"]).await;
    cluster.fanout[1].resume();
    let back = watcher.event("participant-join").await;
    assert_eq!(back.user(), "bob");
    assert!(count(&cluster.fanout[1], "roomcast_incarnations_total").await > 0);
    // By the same socket, which is in the room as ever; and its leave counts.
    sockets[0].leave_room(room).await;
    leave(&mut watcher, vec!["bob"]).await;
}

#[tokio::test]
async fn isolated_api_node_declares_nobody_dead() {
    let cluster = Cluster::start_with_proxies(
        Size { fanout: 2, api: 1, persister: 1 },
        ProxiedConnection::Broker("api"),
    )
    .await;
    let (_, mut watcher, _sockets) = room(&cluster, &["bob"]).await;
    let link = cluster.api[0].proxy();
    for cut in [true, false] {
        if cut {
            link.cut();
        } else {
            link.stall();
        }
        // That nothing happens has no event to wait for.
        tokio::time::sleep(SILENCE).await;
        link.restore();
        eventually("api hears again", || async {
            cluster.api[0].readyz().await.filter(|said| said.contains("\"ready\":true"))
        })
        .await;
    }
    // Long enough to judge by what it heard since, had it counted what it did not hear.
    tokio::time::sleep(SILENCE).await;
    assert_eq!(counter(&cluster, "roomcast_dead_nodes_total").await, 0);
    let pushes = watcher.pushes_until_pong().await;
    assert!(pushes.iter().all(|push| push.event != "participant-leave"), "{pushes:?}");
}
