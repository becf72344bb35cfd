//! Lends running deployments to tests, one test after another, since starting one takes longer than most tests.

use std::{ops::Deref, sync::Mutex};

use tokio::sync::oneshot;

use super::{Cluster, Size};

/// The nodes of a shared deployment.
const SIZE: Size = Size { api: 2, fanout: 2, persister: 1 };

/// The deployments that no test uses now.
static IDLE: Mutex<Vec<Cluster>> = Mutex::new(Vec::new());

/// A deployment that earlier tests have used, and later ones will. Nothing can be stopped, killed or paused: that needs
/// `&mut Cluster`.
#[derive(Debug)]
pub struct SharedCluster(Option<Cluster>);

impl Cluster {
    /// Two api nodes, two fan-out nodes and a persister, with rooms, people and events of earlier tests.
    pub async fn shared() -> SharedCluster {
        let idle = IDLE.lock().expect("no test fails in between").pop();
        let cluster = match idle {
            Some(cluster) => cluster,
            None => start().await,
        };
        SharedCluster(Some(cluster))
    }
}

impl Deref for SharedCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().expect("only dropping takes it")
    }
}

impl Drop for SharedCluster {
    /// Returns the deployment, unless the test has failed.
    fn drop(&mut self) {
        let cluster = self.0.take().filter(|_| !std::thread::panicking());
        IDLE.lock().expect("no test fails in between").extend(cluster);
    }
}

/// Starts a deployment on a thread that never ends: processes are killed when the thread that started them ends.
async fn start() -> Cluster {
    let (send, receive) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let cluster = runtime.expect("a runtime").block_on(Cluster::start(SIZE));
        // If the test has ended meanwhile, the deployment is dropped here.
        let _ = send.send(cluster);
        loop {
            std::thread::park();
        }
    });
    receive.await.expect("the deployment starts")
}
