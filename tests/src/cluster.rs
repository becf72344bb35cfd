//! Starts a whole deployment of separate processes: N nodes of each service, a broker and a database.

mod node;
mod shared;

use std::net::SocketAddr;

use async_nats::jetstream;
use protocol::{
    id::{RoomId, Shard},
    subject::Channel,
};
use serde_json::json;
use service::{
    metric_names::PERSISTER_LEADING,
    nats::{BrokerUser, connect_once},
};

use crate::{
    client::{Rest, Socket},
    eventually,
    folder::Folder,
    nats::Nats,
    postgres::Database,
    proxy::Proxy,
};
pub use node::{Node, program};
pub use shared::SharedCluster;

/// The secret that signs the tokens of all tests.
pub const SECRET: &str = "a secret for tests, of 32 bytes and more";

/// Environment of the nodes where the broker has three servers.
const THREE_REPLICAS: [(&str, &str); 2] = [("ROOMCAST_REPLICAS", "3"), ("ROOMCAST_SHARDS", "2")];

/// The connections of a service that tests can cut: each node of the service gets its own proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxiedConnection {
    /// From the nodes of this service to the broker.
    Broker(&'static str),
    /// From the nodes of this service to the database.
    Database(&'static str),
}

/// The number of nodes of each service.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Number of api nodes.
    pub api: usize,
    /// Number of fan-out nodes.
    pub fanout: usize,
    /// Number of persisters: the first to get a shard's lock works on the shard, the others stand by.
    pub persister: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { api: 1, fanout: 1, persister: 1 }
    }
}

/// A running deployment.
#[derive(Debug)]
pub struct Cluster {
    /// The api nodes.
    pub api: Vec<Node>,
    /// The fan-out nodes.
    pub fanout: Vec<Node>,
    /// The persisters.
    pub persister: Vec<Node>,
    /// The broker.
    pub nats: Nats,
    /// The database.
    pub database: Database,
    _folder: Folder,
}

/// A server's URL, through a new proxy where `is_proxied` is true.
async fn url_through_proxy(url: String, server: SocketAddr, is_proxied: bool) -> (String, Option<Proxy>) {
    if !is_proxied {
        return (url, None);
    }
    let proxy = Proxy::start(server).await;
    (proxy.url(&url), Some(proxy))
}

impl Cluster {
    /// Starts a deployment, and waits until every node is ready.
    pub async fn start(size: Size) -> Self {
        Self::start_all(size, Nats::start().await, Database::shared(), &[], None).await
    }

    /// Starts a deployment in which one kind of connection can be cut, with [`Node::proxy`].
    pub async fn start_with_proxies(size: Size, proxied: ProxiedConnection) -> Self {
        Self::start_all(size, Nats::start().await, Database::shared(), &[], Some(proxied)).await
    }

    /// Starts a deployment on this database, with more environment variables for every node.
    pub async fn start_with(size: Size, database: Database, more: &[(&'static str, &str)]) -> Self {
        Self::start_all(size, Nats::start().await, database, more, None).await
    }

    /// Starts a deployment on a broker of three servers, with three replicas of the log.
    pub async fn start_on_broker_cluster(size: Size) -> Self {
        Self::start_all(size, Nats::start_cluster().await, Database::shared(), &THREE_REPLICAS, None).await
    }

    /// Starts a deployment on a broker of three servers, with TLS on the broker's connections.
    pub async fn start_on_broker_cluster_with_tls(size: Size) -> Self {
        Self::start_all(size, Nats::start_cluster_with_tls().await, Database::shared(), &THREE_REPLICAS, None)
            .await
    }

    async fn start_all(
        size: Size,
        nats: Nats,
        database: Database,
        more: &[(&'static str, &str)],
        proxied: Option<ProxiedConnection>,
    ) -> Self {
        // Only the first call in a process installs the provider; later calls fail, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = Folder::new();
        let (mut api, mut fanout, mut persister) = (vec![], vec![], vec![]);
        for (service, count, nodes) in [
            ("persister", size.persister, &mut persister),
            ("api", size.api, &mut api),
            ("fanout", size.fanout, &mut fanout),
        ] {
            for n in 0..count {
                let (broker, broker_proxy) = url_through_proxy(
                    nats.url(service),
                    nats.address(),
                    proxied == Some(ProxiedConnection::Broker(service)),
                )
                .await;
                let store = database.url(&format!("roomcast_{service}"));
                let (store, store_proxy) = url_through_proxy(
                    store,
                    database.address(),
                    proxied == Some(ProxiedConnection::Database(service)),
                )
                .await;
                let mut environment = vec![
                    ("NATS_URL", broker),
                    ("DATABASE_URL", store),
                    ("ROOMCAST_JWT_SECRET", SECRET.to_owned()),
                    ("ROOMCAST_DRAIN_SECONDS", "5".to_owned()),
                    // No write limit, except in the tests of that limit.
                    ("ROOMCAST_RATE_WRITES", "off".to_owned()),
                    ("ROOMCAST_MEDIA", folder.path().join("media").display().to_string()),
                ];
                environment.extend(nats.ca().map(|file| ("NATS_CA", file.display().to_string())));
                environment.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
                nodes.push(Node::start(service, folder.path(), n, environment, broker_proxy.or(store_proxy)));
            }
        }
        let mut cluster = Self { api, fanout, persister, nats, database, _folder: folder };
        cluster.wait_until_ready().await;
        cluster
    }

    /// Waits until every shard has a leading persister, which from then on publishes a heartbeat to api every second.
    pub async fn wait_until_led(&mut self) {
        let Some(first) = self.persister.first_mut() else { return };
        first.wait_until_ready().await;
        let leads = |line: &&str| line.starts_with(PERSISTER_LEADING) && line.ends_with(" 1");
        eventually("every shard has a leading persister", || async {
            let (mut shards, mut led) = (0, 0);
            for node in &self.persister {
                let metrics = node.metrics().await;
                shards = metrics.lines().filter(|line| line.starts_with(PERSISTER_LEADING)).count();
                led += metrics.lines().filter(leads).count();
            }
            (shards > 0 && led == shards).then_some(())
        })
        .await;
    }

    /// Waits until every node is ready, and every shard has a leading persister.
    pub async fn wait_until_ready(&mut self) {
        for node in self.persister.iter_mut().take(1).chain(&mut self.api).chain(&mut self.fanout) {
            node.wait_until_ready().await;
        }
        self.wait_until_led().await;
    }

    /// A JetStream context with a service's broker user.
    pub async fn jetstream(&self, role: BrokerUser) -> jetstream::Context {
        let args = self.nats.args(role);
        let connection = eventually("the broker answers", || async { connect_once(&args, role).await.ok() });
        connection.await.jetstream()
    }

    /// The sum of the last sequences of all shards: the number of events ever stored.
    ///
    /// # Panics
    /// When there is no log, or a shard has no leader.
    pub async fn event_count(&self) -> u64 {
        let log = self.jetstream(BrokerUser::Api).await;
        let shards = log::discover(&log).await.expect("a log").shards;
        let mut count = 0;
        for shard in shards.all() {
            count += log::state(&log, shard).await.expect("a leader").last;
        }
        count
    }

    /// The shard of a room.
    ///
    /// # Panics
    /// When there is no log.
    pub async fn shard_of(&self, room: u64) -> Shard {
        let info = log::discover(&self.jetstream(BrokerUser::Persister).await).await.expect("a log");
        Channel::Room(RoomId(room)).shard(info.shards)
    }

    /// A REST client of the n-th api node, as this user.
    #[must_use]
    pub fn rest(&self, n: usize, user: &str) -> Rest {
        Rest::new(&self.api[n].address(), &token(user))
    }

    /// A socket on the n-th fan-out node, as this user.
    pub async fn socket(&self, n: usize, user: &str) -> Socket {
        Socket::open(&self.fanout[n].address(), &token(user)).await.expect("the node accepts the socket")
    }
}

/// A valid token for this user.
#[must_use]
pub fn token(user: &str) -> String {
    sign(&json!({ "user_id": user }))
}

/// Signs a token with these claims. Without `exp` among them it expires in an hour.
///
/// # Panics
/// When the claims are not a JSON object.
#[must_use]
pub fn sign(claims: &serde_json::Value) -> String {
    let mut all = json!({ "exp": protocol::clock::Timestamp::now().unix_ms() / 1000 + 3600 });
    for (name, value) in claims.as_object().expect("claims are an object") {
        all[name] = value.clone();
    }
    service::token::sign(SECRET, &all).expect("claims are JSON")
}
