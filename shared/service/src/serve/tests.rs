//! Tests the limits of a server, on real connections.

use std::future::Future;

use axum::routing::{get, post};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::*;

/// Time-out of everything that the tests wait for.
const PATIENCE: Duration = Duration::from_secs(30);

/// More bytes than the buffers of both ends hold.
const LONG: usize = 32 << 20;

fn limits() -> ServeLimits {
    ServeLimits { write_timeout: Duration::from_millis(200), ..ServeLimits::inside() }
}

/// A server whose connections all count as those of one address.
async fn start(
    router: Router,
    limits: ServeLimits,
) -> (SocketAddr, impl Future<Output = anyhow::Result<()>>, Shutdown) {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.expect("a port");
    let (address, shutdown) = (listener.local_addr().expect("an address"), Shutdown::default());
    (address, serve_counted(listener, router, limits, shutdown.clone(), Some), shutdown)
}

/// Runs a test beside its server, and ends both.
async fn beside<F: Future>(
    router: Router,
    limits: ServeLimits,
    test: impl FnOnce(SocketAddr) -> F,
) -> F::Output {
    let (address, served, shutdown) = start(router, limits).await;
    let served = tokio::spawn(served);
    let outcome = timeout(PATIENCE, test(address)).await.expect("what is waited for comes");
    shutdown.hard.cancel();
    shutdown.soft.cancel();
    served.await.expect("no panic").expect("no error");
    outcome
}

async fn connect(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a server");
    stream.write_all(request.as_bytes()).await.expect("the server reads");
    stream
}

/// Reads until the server ends the connection. Returns what was read, and whether it ended by a reset.
async fn all(stream: &mut TcpStream) -> (String, bool) {
    let mut bytes = Vec::new();
    let reset = stream.read_to_end(&mut bytes).await.is_err();
    (String::from_utf8_lossy(&bytes).into_owned(), reset)
}

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn unread_answer_ends_the_connection() {
    let router = Router::new().route("/", get(|| async { vec![b'x'; LONG] }));
    beside(router, limits(), async |address| {
        let silent = connect(address, GET).await;
        // The server gives up on it, though nothing is read: its reset is an event of the socket's own.
        let error = loop {
            silent.ready(tokio::io::Interest::ERROR).await.expect("a socket");
            if let Some(error) = silent.take_error().expect("a socket") {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut reading = connect(address, &GET.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
        let (answer, reset) = all(&mut reading).await;
        assert!(answer.len() > LONG && !reset, "{} bytes", answer.len());
    })
    .await;
}

#[tokio::test]
async fn connection_beyond_the_limit_of_an_address_is_answered_429() {
    let router = Router::new().route("/", get(|| async { "hello" }));
    beside(router, ServeLimits { per_address: ConcurrencyLimit(2), ..limits() }, async |address| {
        let mut first = connect(address, GET).await;
        let second = connect(address, GET).await;
        let mut bytes = [0; 512];
        assert!(first.read(&mut bytes).await.expect("an answer") > 0);
        let (refusal, reset) = all(&mut connect(address, GET).await).await;
        assert!(
            refusal.starts_with("HTTP/1.1 429 ") && refusal.contains("\r\nretry-after: 10\r\n"),
            "{refusal}"
        );
        assert!(!reset, "it could be read");
        drop(second);
        // The server sees that it has ended; from then on another has its place.
        loop {
            let (answer, _) =
                all(&mut connect(address, &GET.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await)
                    .await;
            if answer.starts_with("HTTP/1.1 200 ") {
                break;
            }
            assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn silent_connection_is_ended_by_the_header_timeout() {
    let limits = ServeLimits { header_timeout: Duration::from_millis(200), ..limits() };
    beside(Router::new(), limits, async |address| {
        for beginning in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI", "GET / HTTP/1.1\r\nhost:"] {
            let (answer, _) = all(&mut connect(address, beginning).await).await;
            assert!(!answer.contains(" 200 "), "{beginning}: {answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn unread_body_is_discarded_until_the_answer_is_read() {
    let router = Router::new().route("/", post(|| async { axum::http::StatusCode::UNAUTHORIZED }));
    beside(router, limits(), async |address| {
        let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {LONG}\r\n\r\n");
        let mut stream = connect(address, &head).await;
        stream.write_all(&vec![b'x'; LONG]).await.expect("all of it is taken");
        let (answer, reset) = all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close"), "{answer}");
        assert!(!reset, "it could be read");
        // One that was read leaves its connection open.
        let router_reads = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let mut stream = connect(address, router_reads).await;
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).await.expect("an answer");
        let answer = String::from_utf8_lossy(&bytes[..count]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 405 ") && !answer.contains("connection: close"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn connection_whose_handler_panics_is_counted_as_closed() {
    async fn panics() -> &'static str {
        panic!("as a fault in a handler does")
    }
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    // Of this thread: the test's runtime has no other.
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let open = || {
        let rendered = recorder.handle().render();
        let line = rendered.lines().find_map(|line| line.strip_prefix("roomcast_http_connections_open "));
        line.expect("the gauge").to_owned()
    };
    let router = Router::new().route("/", get(panics)).route("/well", get(|| async { "well" }));
    beside(router, limits(), async |address| {
        let mut open_one = connect(address, &GET.replace("/ ", "/well ")).await;
        assert!(open_one.read(&mut [0; 512]).await.expect("an answer") > 0);
        let (answer, _) = all(&mut connect(address, GET).await).await;
        assert_eq!(answer, "", "the connection ends without an answer");
        assert_eq!(open(), "1");
    })
    .await;
}

#[tokio::test]
async fn accepted_connections_have_the_options_of_their_listener() {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.expect("a port");
    stream::set_options(&listener).expect("options");
    let _client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a server");
    let (accepted, _) = listener.accept().await.expect("a client");
    let socket = socket2::SockRef::from(&accepted);
    assert!(socket.keepalive().expect("an option") && accepted.nodelay().expect("an option"));
    assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(Duration::from_secs(60)));
    assert_eq!(socket.tcp_keepalive_time().expect("an option"), Duration::from_secs(60));
}
