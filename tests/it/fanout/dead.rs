//! Tests nodes that die, or are declared dead by mistake: exactly their participants leave, within the documented time.

use std::time::{Duration, Instant};

use tests::{
    client::Socket,
    cluster::{Cluster, Node, ProxiedConnection, Size},
    eventually,
    native::RoomView,
};

/// Documented time within which participants of a dead node leave.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longer than the silence after which a node is declared dead.
const LONG_SILENCE: Duration = Duration::from_secs(14);

async fn join(cluster: &Cluster, node: usize, user: &str, room: u64) -> (Socket, RoomView) {
    let mut socket = cluster.socket(node, user).await;
    let data = socket.join_room(room).await;
    (socket, data)
}

/// Creates a room, lets Eve join on the first node, and `others` on the second.
async fn create_room_with(cluster: &Cluster, others: &[&str]) -> (u64, Socket, Vec<Socket>) {
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

/// Waits until exactly these participants have left; returns how long that took.
async fn wait_for_leaves(watcher: &mut Socket, mut people: Vec<&str>) -> Duration {
    let since = Instant::now();
    while !people.is_empty() {
        let push = watcher.event("participant-leave").await;
        let user = push.user();
        let index = people.iter().position(|name| *name == user);
        people.remove(index.unwrap_or_else(|| panic!("{user} must not leave")));
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
    value.map_or(0, |value| value.parse().expect("a valid number"))
}

#[tokio::test]
async fn people_of_a_dead_node_leave() {
    let mut cluster = Cluster::start(Size { fanout: 2, api: 2, ..Size::default() }).await;
    let (room, mut watcher, _sockets) = create_room_with(&cluster, &["bob", "dan"]).await;
    cluster.fanout[1].kill9();
    // The node restarts at once under the same name: its participants must leave all the same.
    cluster.fanout[1].restart();
    let elapsed = wait_for_leaves(&mut watcher, vec!["bob", "dan"]).await;
    assert!(elapsed < LEAVE_TIMEOUT, "{elapsed:?}");
    let (_, data) = join(&cluster, 0, "ann", room).await;
    assert_eq!(data.participants, Some(vec!["eve".to_owned()]));
    let pool = cluster.database.pool().await;
    eventually("both users are offline", || async {
        let sql = "SELECT count(*) FROM online WHERE present AND user_id IN ('bob', 'dan')";
        let online: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.ok()?;
        (online == 0).then_some(())
    })
    .await;
    eventually("both api nodes have declared the node dead", || async {
        (counter(&cluster, "roomcast_dead_nodes_total").await == 2).then_some(())
    })
    .await;
    // Two users, each in the room and online, make 4 leaves. Both api nodes may append them: 8 at most.
    let leaves = counter(&cluster, "roomcast_dead_node_leaves_total").await;
    assert!((4..=8).contains(&leaves), "{leaves}");
}

#[tokio::test]
async fn people_of_a_node_that_died_unknown_to_all_leave() {
    let mut cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let (_, mut watcher, _sockets) = create_room_with(&cluster, &["bob"]).await;
    cluster.api[0].kill9();
    cluster.fanout[1].kill9();
    cluster.api[0].restart();
    cluster.api[0].wait_until_ready().await;
    let elapsed = wait_for_leaves(&mut watcher, vec!["bob"]).await;
    assert!(elapsed < LEAVE_TIMEOUT, "{elapsed:?}");
}

#[tokio::test]
async fn people_of_a_dead_node_leave_in_several_batches() {
    const PEOPLE: i64 = 1_200;
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let pool = cluster.database.pool().await;
    // The rows of a process that no node ever received a heartbeat from.
    sqlx::query(
        "INSERT INTO participant (shard, room, user_id, incarnation, counter, present)
         SELECT n % 8, 8 + n % 8, 'u' || n, -7, n, true FROM generate_series(1, $1) AS n",
    )
    .bind(PEOPLE)
    .execute(&pool)
    .await
    .expect("the query succeeds");
    eventually("all participants have left", || async {
        let sql = "SELECT count(*) FROM participant WHERE present";
        let present: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.ok()?;
        (present == 0).then_some(())
    })
    .await;
    let counters: Vec<i64> = sqlx::query_scalar("SELECT DISTINCT counter FROM participant")
        .fetch_all(&pool)
        .await
        .expect("the query succeeds");
    assert_eq!(counters, [i64::MAX]);
}

#[tokio::test]
async fn node_taken_for_dead_comes_back_with_its_people() {
    let mut cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let (room, mut watcher, mut sockets) = create_room_with(&cluster, &["bob"]).await;
    cluster.fanout[1].pause();
    wait_for_leaves(&mut watcher, vec!["bob"]).await;
    cluster.fanout[1].resume();
    let push = watcher.event("participant-join").await;
    assert_eq!(push.user(), "bob");
    assert!(count(&cluster.fanout[1], "roomcast_incarnations_total").await > 0);
    // The same socket is still in the room, and its leave is effective.
    sockets[0].leave_room(room).await;
    wait_for_leaves(&mut watcher, vec!["bob"]).await;
}

#[tokio::test]
async fn isolated_api_node_declares_nobody_dead() {
    let cluster = Cluster::start_with_proxies(
        Size { fanout: 2, api: 1, persister: 1 },
        ProxiedConnection::Broker("api"),
    )
    .await;
    let (_, mut watcher, _sockets) = create_room_with(&cluster, &["bob"]).await;
    let proxy = cluster.api[0].proxy();
    for cut in [true, false] {
        if cut {
            proxy.cut();
        } else {
            proxy.stall();
        }
        // Nothing must happen for this time, so there is no event to wait for.
        tokio::time::sleep(LONG_SILENCE).await;
        proxy.restore();
        eventually("api is connected to the broker again", || async {
            cluster.api[0].readyz().await.filter(|text| text.contains("\"ready\":true"))
        })
        .await;
    }
    // Long enough to declare a node dead by the silence, if api counted the time without a connection.
    tokio::time::sleep(LONG_SILENCE).await;
    assert_eq!(counter(&cluster, "roomcast_dead_nodes_total").await, 0);
    let pushes = watcher.pushes_until_pong().await;
    assert!(pushes.iter().all(|push| push.event != "participant-leave"), "{pushes:?}");
}
