//! A server that sends every message back, for `tests/autobahn`: on the handshake, the frames and the sockets of
//! sessions, and with their bound on messages raised, since the suite sends large ones.

use std::io;

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use shared::{
    error::Error,
    lifecycle::Shutdown,
    serve::{self, Limits},
};
use tokio::net::TcpListener;

use crate::{
    accept::upgraded,
    handshake,
    render::Form,
    session::{
        Socket,
        close::CloseReason,
        deflate,
        frame::{self, Decoder, Incoming, Violation},
        outbox::Outbox,
    },
};

/// The largest message: that of the suite.
const MESSAGE_MAX: usize = 16 << 20;

/// Serves until it is stopped.
///
/// # Errors
/// When it can't accept connections.
pub async fn serve(listener: TcpListener, shutdown: Shutdown) -> anyhow::Result<()> {
    let router = Router::new().fallback(|request: Request| async {
        upgrade(request).unwrap_or_else(|error| (StatusCode::BAD_REQUEST, error.detail).into_response())
    });
    serve::serve("echo", listener, router, Limits::inside(), shutdown).await
}

fn upgrade(mut request: Request) -> Result<Response, Error> {
    let key = handshake::accept(&request)?;
    let offers = handshake::parts(request.headers(), header::SEC_WEBSOCKET_EXTENSIONS);
    let deflates = deflate::is_offered(offers);
    let on_upgrade = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or_else(|| Error::bad_request("This connection can't be upgraded."))?;
    tokio::spawn(async move {
        if let Some((socket, read)) = upgraded(on_upgrade).await {
            // The client may be gone at any time.
            let _ = echo(socket, &read, deflates).await;
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    if deflates {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(deflate::AGREED));
    }
    Ok(response)
}

async fn echo(socket: Socket, read: &[u8], deflates: bool) -> io::Result<()> {
    let outbox = Outbox::new(usize::MAX / 2, Form::Native);
    outbox.open(socket);
    let Some(socket) = outbox.socket() else { return Ok(()) };
    let mut decoder = Decoder::<MESSAGE_MAX>::new(deflates);
    decoder.push(read);
    let reason = loop {
        if let Some(reason) = answer(&mut decoder, &outbox, deflates) {
            break reason;
        }
        outbox.flush()?;
        let blocked = outbox.is_blocked();
        socket.ready(!blocked, blocked).await?;
        if !blocked && !socket.read(&mut decoder)? {
            return Ok(());
        }
    };
    outbox.push(frame::close(reason.code(), &reason.text()));
    crate::session::goodbye(socket, &outbox).await
}

/// Sends back what has come; why the socket is to be closed, if it is.
fn answer(decoder: &mut Decoder<MESSAGE_MAX>, outbox: &Outbox, deflates: bool) -> Option<CloseReason> {
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
