//! Serves sockets that send every message back, for `tests/autobahn`. It uses the handshake, frames and sockets that
//! sessions use, with a higher limit on the size of messages, since the suite sends large ones.

use std::io;

use axum::{Router, extract::Request, response::Response};
use bytes::Bytes;
use protocol::error::Error;
use service::{
    lifecycle::Shutdown,
    serve::{self, ServeLimits},
};
use tokio::net::TcpListener;

use crate::{
    accept::{refuse, upgraded},
    encode::{
        PushFormat,
        frame::{self, Decoder, Incoming, Violation},
    },
    handshake,
    outbox::{Outbox, RawSocket, close::CloseReason},
};

/// Maximum bytes of a message: the size of the suite's largest.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Serves until it is stopped.
///
/// # Errors
/// If it can't accept connections.
pub async fn serve(listener: TcpListener, shutdown: Shutdown) -> anyhow::Result<()> {
    let router = Router::new()
        .fallback(|request: Request| async { upgrade(request).unwrap_or_else(|error| refuse(&error)) });
    serve::serve("echo", listener, router, ServeLimits::internal(), shutdown).await
}

fn upgrade(mut request: Request) -> Result<Response, Error> {
    let key = handshake::accept_key(&request)?;
    let deflates = handshake::offers_deflate(request.headers());
    let on_upgrade = handshake::take_upgrade(&mut request)?;
    tokio::spawn(async move {
        if let Some((socket, read)) = upgraded(on_upgrade).await {
            // An error means that the client has closed the connection.
            let _ = echo(socket, &read, deflates).await;
        }
    });
    Ok(handshake::switching_protocols(key, deflates))
}

async fn echo(socket: RawSocket, read: &[u8], deflates: bool) -> io::Result<()> {
    let outbox = Outbox::new(usize::MAX / 2, PushFormat::Native);
    outbox.attach_socket(socket);
    let Some(socket) = outbox.socket() else { return Ok(()) };
    let mut decoder = Decoder::<MESSAGE_BYTES_MAX>::new(deflates);
    decoder.push(read);
    let reason = loop {
        if let Some(reason) = echo_messages(&mut decoder, &outbox, deflates) {
            break reason;
        }
        outbox.flush()?;
        let blocked = outbox.is_blocked();
        socket.ready(!blocked, blocked).await?;
        if !blocked && !socket.read(&mut decoder)? {
            return Ok(());
        }
    };
    outbox.push(frame::close(reason.code(), &reason.reason_text()));
    crate::session::flush_and_close(socket, &outbox).await
}

/// Sends back the messages read so far. Returns why the socket is to be closed, if it is.
fn echo_messages(
    decoder: &mut Decoder<MESSAGE_BYTES_MAX>,
    outbox: &Outbox,
    deflates: bool,
) -> Option<CloseReason> {
    let compressed = |text: &Bytes| frame::deflated(text).filter(|_| deflates);
    loop {
        let frame = match decoder.next() {
            Ok(None) => return None,
            Ok(Some(Incoming::Text(text))) => {
                let text = frame::text(&[text.as_bytes()]);
                compressed(&text).unwrap_or(text)
            }
            Ok(Some(Incoming::Binary(payload))) => frame::binary(&payload),
            Ok(Some(Incoming::Ping(payload))) => frame::pong(&payload),
            Ok(Some(Incoming::Pong)) => continue,
            Ok(Some(Incoming::Close(_))) => return Some(CloseReason::Goodbye),
            Err(violation @ (Violation::Protocol | Violation::NotUtf8 | Violation::TooBig)) => {
                return Some(CloseReason::Violation(violation));
            }
        };
        outbox.push(frame);
    }
}
