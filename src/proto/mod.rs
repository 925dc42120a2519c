//! Conversations: a session asks what is next, and that layer talks until it ends or hands the session back.

pub mod budget;
pub mod codec;
pub mod counters;
pub mod http;
mod next;
pub mod server;
pub mod session;
pub mod tcp;
pub mod tls;

pub use session::{Counters, Drain, Outbox, Outcome, ServerError, Services, Session, Way};

use std::sync::Arc;

use crate::flow::Layer;
use crate::hooks::{Hook, Subject};

/// Layers of one session: TLS in a tunnel in TLS is as deep as honest clients go.
const LAYERS_MAX: usize = 10;
/// How long a closing connection may take to hand its last bytes to the kernel, and to hear the peer's end.
pub(crate) const CLOSING_MS: u64 = 2000;
/// Bytes of a closing peer that are read and thrown away, so that it sees our answer and not a reset.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Talks until the session is over.
pub async fn run(mut session: Session) {
    if !Box::pin(greet(&mut session)).await {
        Box::pin(end(session)).await;
        return;
    }
    loop {
        if session.trail.depth() >= LAYERS_MAX {
            tracing::warn!(client = ?session.client.peername, "more than {LAYERS_MAX} layers ({}): closed", session.trail);
            Box::pin(end(session)).await;
            return;
        }
        let Some(layer) = Box::pin(next::next_layer(&mut session)).await else {
            Box::pin(end(session)).await;
            return;
        };
        session.trail.enter(layer);
        // boxed per layer: a session is as big as the layer it is in
        let outcome = match layer {
            Layer::Tls => Box::pin(tls::intercept(session)).await,
            Layer::Http1 => Box::pin(http::h1::converse(session)).await,
            Layer::Tcp | Layer::Passthrough => Box::pin(tcp::relay(session, layer)).await,
        };
        match outcome {
            Outcome::Closed => return,
            Outcome::Next(next) => session = next,
        }
    }
}

/// Whether addons let the client in.
async fn greet(session: &mut Session) -> bool {
    let chain = &session.services.chain;
    if chain.wants().contains(Hook::ClientConnected) {
        let mut client = (*session.client).clone();
        chain.run(Hook::ClientConnected, Subject::Client(&mut client)).await;
        session.client = Arc::new(client);
    }
    session.client.error.is_none()
}

/// Ends a session in order: what is queued goes out, both sides hear the end.
pub async fn end(session: Session) {
    let timers = session.services.timers.clone();
    let _ = timers.timeout(CLOSING_MS, close_client(&session)).await;
    part(session).await;
}

/// Ends a session in which something is missing: the client is not told that all is well.
pub async fn break_off(session: Session) {
    let timers = session.services.timers.clone();
    let cut = async {
        let client = session.client_io.cut_short();
        match &session.server_io {
            Some(server) => drop(tokio::join!(client, server.cut_short())),
            None => drop(client.await),
        }
    };
    let _ = timers.timeout(CLOSING_MS, cut).await;
    part(session).await;
}

async fn part(mut session: Session) {
    server::close_server(&mut session).await;
    if session.services.chain.wants().contains(Hook::ClientDisconnected) {
        let now = session.services.now();
        let mut client = (*session.client).clone();
        client.timestamp_end = Some(now);
        session.services.chain.run(Hook::ClientDisconnected, Subject::Client(&mut client)).await;
    }
}

/// Closing with unread bytes would reset the connection and may destroy our last answer on its way
/// (RFC 9112 §9.6): the end is said first, then what still comes is thrown away for a moment.
async fn close_client(session: &Session) {
    let stream = &session.client_io;
    if stream.shutdown_write().await.is_err() || stream.has_ended() {
        return;
    }
    let mut thrown = 0;
    while let Ok(chunk) = stream.read().await {
        thrown += chunk.len();
        if chunk.is_empty() || thrown > LINGER_BYTES_MAX {
            return;
        }
    }
}
