//! Attacks nodes that serve a steady load, first by one attack after another, then by all at once.
//!
//! `ROOMCAST_CHAOS_SECONDS` sets the duration. The load's p99, memory and descriptors are printed.
//!
//! What must hold: all messages of the load arrive, in order; no request is answered 5xx or reset; and memory,
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

/// Limits are the default ones, and count by the client address in the header of a proxy.
const VARIABLES: [(&str, &str); 2] =
    [("ROOMCAST_ADDRESS_HEADER", "x-forwarded-for"), ("ROOMCAST_RATE_WRITES", "20:200")];

/// Number of messages of 4,000 bytes in the old room.
const OLD_MESSAGES: usize = 300;
/// Maximum additional memory of a node afterwards, in KiB.
const MEMORY_KIB_MAX: usize = 64 << 10;
/// Maximum number of additional connections to PostgreSQL that a node may keep.
const CONNECTIONS_MAX: usize = 16;
/// Maximum number of additional metric series of a node, for routes first requested by an attack. If made-up words had
/// series of their own, there would be many more.
const SERIES_MAX: usize = 400;
/// Interval between samples of a node's memory and descriptors.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

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

    fn max(self, other: Self) -> Self {
        Self { memory: self.memory.max(other.memory), files: self.files.max(other.files) }
    }
}

/// A part of the run, such as one attack: its times, and the peak usage of api and fanout.
struct Phase {
    name: String,
    from: u64,
    to: u64,
    peak: [Usage; 2],
}

impl Phase {
    async fn watch(name: &str, cluster: &Cluster, load: &Load, work: impl Future<Output = ()>) -> Self {
        let (from, mut work) = (load.now(), pin!(work));
        let mut peak = [Usage::default(); 2];
        loop {
            let is_over = timeout(SAMPLE_INTERVAL, &mut work).await.is_ok();
            for (peak, node) in peak.iter_mut().zip([&cluster.api[0], &cluster.fanout[0]]) {
                *peak = peak.max(Usage::of(node));
            }
            if is_over {
                return Self { name: name.to_owned(), from, to: load.now(), peak };
            }
        }
    }

    /// The line of this phase in the printed table.
    fn line(&self, deliveries: &[Delivery]) -> String {
        let deliveries_of_phase =
            deliveries.iter().filter(|delivery| (self.from..self.to).contains(&delivery.sent_us));
        let mut times: Vec<u64> = deliveries_of_phase.map(|delivery| delivery.latency_us).collect();
        times.sort_unstable();
        let percentile_ms =
            |percent: usize| times.get(times.len() * percent / 100).map_or(0, |time| time / 1_000);
        let [api, fanout] = self.peak.map(|peak| format!("{:>5} {:>6}", peak.memory >> 10, peak.files));
        format!(
            "{:<20} {:>6} {:>6} {:>6}  {api}   {fanout}",
            self.name,
            times.len(),
            percentile_ms(50),
            percentile_ms(99)
        )
    }
}

/// Number of metric series of a node.
async fn series(node: &Node) -> usize {
    node.metrics().await.lines().filter(|line| !line.starts_with('#')).count()
}

/// Creates a room with more events than a ring holds; returns the ids of the room and of its first message.
async fn old_room(cluster: &Cluster) -> (u64, u64) {
    let root = Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": "root", "is_admin": true })));
    let room = root.create_room("old").await;
    let first = root.send_message(room, "first").await;
    let (long, root) = ("x".repeat(4_000), &root);
    stream::iter(0..OLD_MESSAGES)
        .for_each_concurrent(16, |_| async {
            root.send_message(room, &long).await;
        })
        .await;
    (room, first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the measurements of the run are printed")]
async fn attacks_leave_a_steady_load_unharmed() {
    let seconds =
        std::env::var("ROOMCAST_CHAOS_SECONDS").map_or(10, |text| text.parse().expect("a valid number"));
    let attack_time =
        Duration::from_secs(seconds) / u32::try_from(Attack::ALL.len()).expect("a small number");
    let limit = rlimit::increase_nofile_limit(u64::MAX).expect("the limit is raised");
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
        victim: Load::first_reader(),
        token: token("mallory"),
        open_connections: Vec::new().into(),
    });

    let mut phases = vec![Phase::watch("before", &cluster, &load, sleep(attack_time * 3)).await];
    let before = phases[0].peak;
    let series_before = [series(nodes[0]).await, series(nodes[1]).await];
    for attack in Attack::ALL {
        let name = format!("{attack:?}");
        phases
            .push(Phase::watch(&name, &cluster, &load, attacks::run(&[attack], &target, attack_time)).await);
    }
    let all_attacks = attacks::run(&Attack::ALL, &target, attack_time * 3);
    phases.push(Phase::watch("all at once", &cluster, &load, all_attacks).await);
    // The attackers still hold their open connections: the nodes must close them.
    let closing = async {
        eventually("the nodes have as few descriptors as before", || async {
            let is_back =
                |(node, before): (&&Node, Usage)| node.open_files() <= before.files + CONNECTIONS_MAX;
            nodes.iter().zip(before).all(is_back).then_some(())
        })
        .await;
    };
    phases.push(Phase::watch("closing the rest", &cluster, &load, closing).await);
    phases.push(Phase::watch("after", &cluster, &load, sleep(attack_time * 3)).await);
    let after = nodes.map(Usage::of);
    let series_after = [series(nodes[0]).await, series(nodes[1]).await];

    let deliveries = load.end(&cluster).await;
    println!(
        "{:<20} {:>6} {:>6} {:>6}  {:>12}   {:>12}",
        "", "msgs", "p50 ms", "p99 ms", "api MiB, fd", "fanout"
    );
    for phase in &phases {
        println!("{}", phase.line(&deliveries));
    }
    println!("series of api and fanout before {series_before:?}, after {series_after:?}");
    for (n, node) in nodes.into_iter().enumerate() {
        assert!(!node.log().contains("panicked"), "{}", node.tail());
        assert!(after[n].memory <= before[n].memory + MEMORY_KIB_MAX, "{} KiB", after[n].memory);
        assert!(series_after[n] <= series_before[n] + SERIES_MAX, "{series_before:?} {series_after:?}");
    }
}
