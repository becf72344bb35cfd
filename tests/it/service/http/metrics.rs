//! Tests that `roomcast up` shows its metrics on the port of clients to programs on its own machine alone.

use tests::{machine::Machine, raw::Raw};

#[tokio::test]
async fn metrics_on_the_client_port_are_for_this_machine_only() {
    let machine = Machine::start().await;
    let (port, admin) = (&machine.address(), &machine.admin());
    for (port, lines, status) in [
        (port, "host: localhost\r\n", 200),
        (port, "host: 127.0.0.1:8080\r\n", 200),
        // A request that a proxy on this machine forwards.
        (port, "host: localhost\r\nx-forwarded-for: 10.0.0.1\r\n", 403),
        (port, "host: localhost\r\nforwarded: for=10.0.0.1\r\n", 403),
        // A page whose name was bound to this machine's address (DNS rebinding).
        (port, "host: evil.example\r\n", 403),
        (port, "host: localhost\r\nhost: evil.example\r\n", 403),
        (admin, "host: roomcast.internal\r\n", 200),
    ] {
        let answer = Raw::ask(port, &format!("GET /metrics HTTP/1.1\r\n{lines}\r\n")).await;
        assert_eq!(answer.status, status, "{lines}");
        assert_eq!(answer.body.contains("# HELP roomcast_"), status == 200, "{lines}");
    }
}
