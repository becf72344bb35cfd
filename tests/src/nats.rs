//! Starts real nats-servers, with the configuration files of `deploy/nats`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use service::nats::{BrokerUser, NatsArgs};

use crate::{
    certificate::Certificate,
    eventually,
    folder::Folder,
    process::{Process, command, free_port},
};

/// The password of every user: each server serves a single test.
pub const PASSWORD: &str = "secret";

/// A broker of one server or three, with its own store.
#[derive(Debug)]
pub struct Nats {
    servers: Vec<Server>,
    certificate: Option<Certificate>,
}

#[derive(Debug)]
struct Server {
    process: Process,
    port: u16,
    folder: Folder,
    kind: Kind,
}

/// How a server is configured.
#[derive(Debug)]
enum Kind {
    /// A single server.
    Single,
    /// A server of a cluster: its configuration file, and the environment variables for that.
    Member(&'static str, Vec<(&'static str, String)>),
    /// A single server without users, which `deploy/nats` has no file for.
    Open,
}

fn program() -> PathBuf {
    std::env::var_os("ROOMCAST_TEST_NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from)
}

/// Whether the tested nats-server is 2.12.3 or later, whose clusters neither lose nor duplicate messages.
///
/// # Panics
/// When nats-server is not installed.
#[must_use]
pub fn has_safe_clusters() -> bool {
    let output = std::process::Command::new(program()).arg("--version").output().expect("a nats-server");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.trim().rsplit_once('v').map_or("", |(_, version)| version);
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().expect("a version"));
    (numbers.next(), numbers.next(), numbers.next()) >= (Some(2), Some(12), Some(3))
}

impl Server {
    async fn start(kind: Kind) -> Self {
        let folder = Folder::new();
        let mut process = spawn(folder.path(), "-1", &kind);
        let port = eventually("nats-server tells its port", || {
            let port = read_port(folder.path());
            assert!(process.ended().is_none(), "nats-server ended:\n{}", process.tail());
            std::future::ready(port)
        });
        let port = port.await;
        Self { process, port, folder, kind }
    }
}

fn spawn(folder: &Path, port: &str, kind: &Kind) -> Process {
    let shipped = |file| Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats").join(file);
    let mut command = command(&program());
    command.args(["-a", "127.0.0.1", "-p", port]);
    match kind {
        Kind::Single => command.arg("-c").arg(shipped("one.conf")),
        Kind::Member(file, variables) => command.arg("-c").arg(shipped(file)).envs(variables.iter().cloned()),
        Kind::Open => command.args(["-js", "-sd"]).arg(folder.join("store")),
    };
    command.arg("--ports_file_dir").arg(folder);
    command.env("NATS_STORE_DIR", format!("{:?}", folder.join("store")));
    for user in ["API", "FANOUT", "PERSISTER"] {
        command.env(format!("NATS_{user}_PASSWORD"), PASSWORD);
    }
    Process::start("nats", folder, &mut command)
}

impl Nats {
    /// Starts a server on a free port.
    pub async fn start() -> Self {
        Self { servers: vec![Server::start(Kind::Single).await], certificate: None }
    }

    /// Starts a server without users: every client may do everything.
    pub async fn start_open() -> Self {
        Self { servers: vec![Server::start(Kind::Open).await], certificate: None }
    }

    /// Starts a cluster of three servers.
    pub async fn start_cluster() -> Self {
        Self::start_three_servers(None).await
    }

    /// Starts a cluster of three servers with TLS.
    pub async fn start_cluster_with_tls() -> Self {
        Self::start_three_servers(Some(Certificate::new())).await
    }

    async fn start_three_servers(certificate: Option<Certificate>) -> Self {
        let hosts = [free_port(), free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let routes = hosts.each_ref().map(|host| format!("nats://route:{PASSWORD}@{host}")).join(", ");
        let mut servers = Vec::new();
        for (n, host) in hosts.into_iter().enumerate() {
            let mut variables = vec![
                ("NATS_SERVER_NAME", format!("roomcast-{n}")),
                ("NATS_CLUSTER_LISTEN", host),
                ("NATS_ROUTES", format!("[{routes}]")),
                ("NATS_ROUTE_PASSWORD", PASSWORD.to_owned()),
            ];
            variables.extend(certificate.iter().flat_map(Certificate::variables));
            let file = if certificate.is_some() { "cluster-tls.conf" } else { "cluster.conf" };
            servers.push(Server::start(Kind::Member(file, variables)).await);
        }
        Self { servers, certificate }
    }

    /// The URLs of all servers for one of the three users, separated by commas.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        let scheme = if self.certificate.is_some() { "tls" } else { "nats" };
        let url = |server: &Server| format!("{scheme}://{user}:{PASSWORD}@127.0.0.1:{}", server.port);
        self.servers.iter().map(url).collect::<Vec<_>>().join(",")
    }

    /// The connection arguments of one of the three services.
    #[must_use]
    pub fn args(&self, role: BrokerUser) -> NatsArgs {
        NatsArgs { nats_url: self.url(role.as_str()), nats_ca: self.ca() }
    }

    /// The CA of the servers' certificate as a PEM file; `None` without TLS.
    #[must_use]
    pub fn ca(&self) -> Option<PathBuf> {
        self.certificate.as_ref().map(Certificate::ca)
    }

    /// The first server's address without a user.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.servers[0].port).into()
    }

    /// The folder of the first server's JetStream store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.servers[0].folder.path().join("store")
    }

    /// Kills the first server with SIGKILL.
    pub fn kill9(&mut self) {
        self.kill9_server(0);
    }

    /// Starts the first server again, on the same port and store.
    pub fn restart(&mut self) {
        self.restart_server(0);
    }

    /// Kills the n-th server with SIGKILL.
    pub fn kill9_server(&mut self, n: usize) {
        self.servers[n].process.kill9();
    }

    /// Starts the n-th server again, on the same port and store.
    pub fn restart_server(&mut self, n: usize) {
        let server = &mut self.servers[n];
        server.process = spawn(server.folder.path(), &server.port.to_string(), &server.kind);
    }
}

/// Reads the client port from the file that nats-server writes once it listens.
fn read_port(folder: &Path) -> Option<u16> {
    let mut files = std::fs::read_dir(folder).ok()?.flatten();
    let file = files.find(|file| file.path().extension().is_some_and(|end| end == "ports"))?;
    let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
    ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
}
