//! Tests the limits of a server, on real connections.

use std::future::Future;

use axum::routing::{get, post};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::*;

/// Time-out of a test.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// More bytes than the buffers of both ends hold.
const LONG_BODY_BYTES: usize = 32 << 20;

fn limits() -> ServeLimits {
    ServeLimits { write_timeout: Duration::from_millis(200), ..ServeLimits::internal() }
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
async fn run_with_server<F: Future>(
    router: Router,
    limits: ServeLimits,
    test: impl FnOnce(SocketAddr) -> F,
) -> F::Output {
    let (address, server, shutdown) = start(router, limits).await;
    let server = tokio::spawn(server);
    let outcome = timeout(TEST_TIMEOUT, test(address)).await.expect("the test ends in time");
    shutdown.hard.cancel();
    shutdown.soft.cancel();
    server.await.expect("no panic").expect("no error");
    outcome
}

async fn connect(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a server");
    stream.write_all(request.as_bytes()).await.expect("the server reads");
    stream
}

/// Reads until the server ends the connection. Returns what was read, and whether it ended by a reset.
async fn read_until_closed(stream: &mut TcpStream) -> (String, bool) {
    let mut bytes = Vec::new();
    let is_reset = stream.read_to_end(&mut bytes).await.is_err();
    (String::from_utf8_lossy(&bytes).into_owned(), is_reset)
}

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn unread_answer_ends_the_connection() {
    let router = Router::new().route("/", get(|| async { vec![b'x'; LONG_BODY_BYTES] }));
    run_with_server(router, limits(), async |address| {
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
        let (answer, is_reset) = read_until_closed(&mut reading).await;
        assert!(answer.len() > LONG_BODY_BYTES && !is_reset, "{} bytes", answer.len());
    })
    .await;
}

#[tokio::test]
async fn connection_beyond_the_limit_of_an_address_is_answered_429() {
    let router = Router::new().route("/", get(|| async { "hello" }));
    run_with_server(router, ServeLimits { per_address: ConcurrencyLimit(2), ..limits() }, async |address| {
        let mut first = connect(address, GET).await;
        let second = connect(address, GET).await;
        let mut bytes = [0; 512];
        assert!(first.read(&mut bytes).await.expect("an answer") > 0);
        let (refusal, is_reset) = read_until_closed(&mut connect(address, GET).await).await;
        assert!(
            refusal.starts_with("HTTP/1.1 429 ") && refusal.contains("\r\nretry-after: 10\r\n"),
            "{refusal}"
        );
        assert!(!is_reset, "the answer could be read");
        drop(second);
        // Once the server sees that it has ended, another connection is accepted.
        loop {
            let (answer, _) = read_until_closed(
                &mut connect(address, &GET.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await,
            )
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
    run_with_server(Router::new(), limits, async |address| {
        for beginning in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI", "GET / HTTP/1.1\r\nhost:"] {
            let (answer, _) = read_until_closed(&mut connect(address, beginning).await).await;
            assert!(!answer.contains(" 200 "), "{beginning}: {answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn unread_body_is_discarded_until_the_answer_is_read() {
    let router = Router::new().route("/", post(|| async { axum::http::StatusCode::UNAUTHORIZED }));
    run_with_server(router, limits(), async |address| {
        let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {LONG_BODY_BYTES}\r\n\r\n");
        let mut stream = connect(address, &head).await;
        stream.write_all(&vec![b'x'; LONG_BODY_BYTES]).await.expect("the server accepts the whole body");
        let (answer, is_reset) = read_until_closed(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close"), "{answer}");
        assert!(!is_reset, "the answer could be read");
        // A request without a body leaves its connection open.
        let request_without_body = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let mut stream = connect(address, request_without_body).await;
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
        panic!("on purpose")
    }
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    // Of this thread: the test's runtime has no other.
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let open_connections = || {
        let rendered = recorder.handle().render();
        let line = rendered.lines().find_map(|line| line.strip_prefix("roomcast_http_connections_open "));
        line.expect("the gauge").to_owned()
    };
    let router = Router::new().route("/", get(panics)).route("/well", get(|| async { "well" }));
    run_with_server(router, limits(), async |address| {
        let mut other_connection = connect(address, &GET.replace("/ ", "/well ")).await;
        assert!(other_connection.read(&mut [0; 512]).await.expect("an answer") > 0);
        let (answer, _) = read_until_closed(&mut connect(address, GET).await).await;
        assert_eq!(answer, "", "the connection ends without an answer");
        assert_eq!(open_connections(), "1");
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
