//! Attacks nodes that serve a steady load, by one attack after another and by all at once.
//!
//! `ROOMCAST_CHAOS_SECONDS` sets the duration. The load's p99, memory and descriptors are printed.
//!
//! What must hold: the load is served completely and in order; no request is answered 5xx or reset; and memory,
//! descriptors and metric series return to their level from before the attacks.

mod attacks;
mod load;

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tests::{
    client::Rest,
    cluster::{Cluster, Node, Size, sign, token},
    eventually,
    postgres::Database,
};
use tokio::time::{sleep, timeout};

use attacks::{Attack, Target};
use load::{Delivery, Load};

/// Default limits, counted by the address that a proxy would give.
const VARIABLES: [(&str, &str); 2] =
    [("ROOMCAST_ADDRESS_HEADER", "x-forwarded-for"), ("ROOMCAST_RATE_WRITES", "20:200")];

/// Number of messages of 4,000 bytes in the old room.
const OLD: usize = 300;
/// Most additional memory of a node afterwards, in KiB.
const MEMORY: usize = 64 << 10;
/// Most additional connections to PostgreSQL that a node may keep.
const POOL: usize = 16;
/// Most additional metric series of a node: those of routes first requested by an attack. Made-up words would give
/// many more.
const SERIES: usize = 400;
/// Interval between samples of a node's memory and descriptors.
const SAMPLE: Duration = Duration::from_millis(100);

/// Memory of a process in KiB, and its descriptors.
#[derive(Clone, Copy, Default)]
struct Usage {
    memory: usize,
    files: usize,
}

impl Usage {
    fn of(node: &Node) -> Self {
        Self { memory: node.memory(), files: node.open_files() }
    }

    fn most(self, other: Self) -> Self {
        Self { memory: self.memory.max(other.memory), files: self.files.max(other.files) }
    }
}

/// An attack with its times, and the peak usage of api and fanout meanwhile.
struct Phase {
    name: String,
    from: u64,
    to: u64,
    most: [Usage; 2],
}

impl Phase {
    async fn watch(name: &str, cluster: &Cluster, load: &Load, work: impl Future<Output = ()>) -> Self {
        let (from, mut work) = (load.now(), pin!(work));
        let mut most = [Usage::default(); 2];
        loop {
            let is_over = timeout(SAMPLE, &mut work).await.is_ok();
            for (most, node) in most.iter_mut().zip([&cluster.api[0], &cluster.fanout[0]]) {
                *most = most.most(Usage::of(node));
            }
            if is_over {
                return Self { name: name.to_owned(), from, to: load.now(), most };
            }
        }
    }

    /// The line of this phase in the printed table.
    fn line(&self, deliveries: &[Delivery]) -> String {
        let ours = deliveries.iter().filter(|one| (self.from..self.to).contains(&one.sent));
        let mut times: Vec<u64> = ours.map(|one| one.after).collect();
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0, |time| time / 1_000);
        let [api, fanout] = self.most.map(|most| format!("{:>5} {:>6}", most.memory >> 10, most.files));
        format!("{:<20} {:>6} {:>6} {:>6}  {api}   {fanout}", self.name, times.len(), at(50), at(99))
    }
}

/// Number of metric series of a node.
async fn series(node: &Node) -> usize {
    node.metrics().await.lines().filter(|line| !line.starts_with('#')).count()
}

/// Makes a room with more events than a ring holds; returns it and its first message.
async fn old_room(cluster: &Cluster) -> (u64, u64) {
    let root = Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": "root", "is_admin": true })));
    let room = root.create_room("old").await;
    let first = root.send_message(room, "first").await;
    let (long, root) = ("x".repeat(4_000), &root);
    stream::iter(0..OLD)
        .for_each_concurrent(16, |_| async {
            root.send_message(room, &long).await;
        })
        .await;
    (room, first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the run's figures are what it is for")]
async fn attacks_leave_a_steady_load_unharmed() {
    let seconds = std::env::var("ROOMCAST_CHAOS_SECONDS").map_or(10, |text| text.parse().expect("a number"));
    let share = Duration::from_secs(seconds) / u32::try_from(Attack::ALL.len()).expect("few");
    let limit = rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
    assert!(limit >= 4_096, "{limit} descriptors are too few");
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &VARIABLES).await;
    let nodes = [&cluster.api[0], &cluster.fanout[0]];
    let old = old_room(&cluster).await;
    let load = Load::start(&cluster).await;
    let target = Arc::new(Target {
        api: cluster.api[0].address(),
        fanout: cluster.fanout[0].address(),
        rooms: load.rooms.clone(),
        old,
        victim: Load::somebody(),
        token: token("mallory"),
        kept: Vec::new().into(),
    });

    let mut phases = vec![Phase::watch("before", &cluster, &load, sleep(share * 3)).await];
    let before = phases[0].most;
    let series_before = [series(nodes[0]).await, series(nodes[1]).await];
    for attack in Attack::ALL {
        let name = format!("{attack:?}");
        phases.push(Phase::watch(&name, &cluster, &load, attacks::run(&[attack], &target, share)).await);
    }
    let all = attacks::run(&Attack::ALL, &target, share * 3);
    phases.push(Phase::watch("all at once", &cluster, &load, all).await);
    // Those that attackers would never end are still open: it is the nodes that end them.
    let back = async {
        eventually("descriptors are as many as before", || async {
            let is_back = |(node, before): (&&Node, Usage)| node.open_files() <= before.files + POOL;
            nodes.iter().zip(before).all(is_back).then_some(())
        })
        .await;
    };
    phases.push(Phase::watch("until all is ended", &cluster, &load, back).await);
    phases.push(Phase::watch("after", &cluster, &load, sleep(share * 3)).await);
    let after = nodes.map(Usage::of);
    let series_after = [series(nodes[0]).await, series(nodes[1]).await];

    let deliveries = load.end(&cluster).await;
    println!(
        "{:<20} {:>6} {:>6} {:>6}  {:>12}   {:>12}",
        "", "heard", "p50 ms", "p99 ms", "api MiB, fd", "fanout"
    );
    for phase in &phases {
        println!("{}", phase.line(&deliveries));
    }
    println!("series of api and fanout before {series_before:?}, after {series_after:?}");
    for (n, node) in nodes.into_iter().enumerate() {
        assert!(!node.log().contains("panicked"), "{}", node.tail());
        assert!(after[n].memory <= before[n].memory + MEMORY, "{} KiB", after[n].memory);
        assert!(series_after[n] <= series_before[n] + SERIES, "{series_before:?} {series_after:?}");
    }
}
