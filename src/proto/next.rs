//! What is next? First bytes, the way in and the operator's wishes decide.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::http::h1::codec::{Sniff, looks_like_http};
use super::server::open_server;
use super::session::{Session, Way};
use super::tls::client_hello;
use crate::buf::Chunk;
use crate::config::Strategy;
use crate::flow::{Layer, LayerChoice};
use crate::hooks::{Hook, Subject};

/// How long a client may be silent before the server is asked to speak first.
const SILENCE_MS: u64 = 400;
/// First bytes of a client that addons are shown.
const SHOWN_MAX: usize = 4096;

/// The layer that continues the session; `None`: there is nothing to continue.
pub(super) async fn next_layer(session: &mut Session) -> Option<Layer> {
    let layer = choose(session).await?;
    let chain = &session.services.chain;
    if !chain.wants().contains(Hook::NextLayer) {
        return Some(layer);
    }
    let shown = session.client_io.held();
    let mut choice = LayerChoice {
        client: Arc::clone(&session.client),
        data_client: shown[..shown.len().min(SHOWN_MAX)].to_vec(),
        destination: session.server.peername,
        layer,
    };
    chain.run(Hook::NextLayer, Subject::NextLayer(&mut choice)).await;
    Some(choice.layer)
}

async fn choose(session: &mut Session) -> Option<Layer> {
    let mut seen = 1;
    loop {
        let first = match first_bytes(session, seen).await {
            First::Client(bytes) => bytes,
            First::Server => return raw(session),
            First::Nobody => return None,
        };
        let ended = first.len() < seen;
        match judge(session, &first) {
            Some(layer) => return Some(layer),
            None if ended => return raw(session),
            None => seen = first.len() + 1,
        }
    }
}

/// `None`: more bytes are needed.
fn judge(session: &Session, first: &[u8]) -> Option<Layer> {
    let raw_wanted = matches!(session.way, Way::Reverse(scheme) if !scheme.is_http());
    match client_hello::looks_like_tls(first) {
        client_hello::Sniff::Tls => return Some(Layer::Tls),
        client_hello::Sniff::NeedMore => return None,
        client_hello::Sniff::NotTls => {}
    }
    if raw_wanted {
        return raw(session);
    }
    if matches!(session.way, Way::Proxy) || matches!(session.way, Way::Reverse(_)) {
        return Some(Layer::Http1);
    }
    if let Some(alpn) = session.client.alpn.as_deref() {
        match alpn {
            b"http/1.1" | b"http/1.0" | b"http/0.9" => return Some(Layer::Http1),
            b"" => {}
            _ => return raw(session),
        }
    }
    match looks_like_http(first) {
        // HTTP/2 without TLS is relayed as it is: this version does not take it apart
        Sniff::Http2Preface | Sniff::NotHttp => raw(session),
        Sniff::Http => Some(Layer::Http1),
        Sniff::NeedMore => None,
    }
}

fn raw(session: &Session) -> Option<Layer> {
    if session.services.config.rawtcp {
        return Some(Layer::Tcp);
    }
    tracing::info!(client = ?session.client.peername, "neither TLS nor HTTP, and 'rawtcp' is off: closed");
    None
}

enum First {
    /// At least so many bytes of the client; fewer: it has ended.
    Client(Chunk),
    /// The server speaks first.
    Server,
    /// The client has gone, or the server is out of reach.
    Nobody,
}

/// Waits for the client's first bytes. Where a server may speak first, a silent client gets connected to it, and
/// whoever speaks decides: a browser that connects ahead of need is still met as what it turns out to be.
async fn first_bytes(session: &mut Session, seen: usize) -> First {
    let may_be_server_first =
        !matches!(session.way, Way::Proxy) && session.client.alpn.as_deref() != Some(b"http/1.1");
    let timers = session.services.timers.clone();
    let patience = session.services.config.timeouts.keepalive_ms;
    let eager = session.services.config.strategy == Strategy::Eager;
    if may_be_server_first && eager && seen == 1 {
        match timers.timeout(SILENCE_MS, session.client_io.peek(seen)).await {
            Ok(Ok(bytes)) if bytes.is_empty() => return First::Nobody,
            Ok(Ok(bytes)) => return First::Client(bytes),
            Ok(Err(_)) => return First::Nobody,
            Err(_) => {}
        }
        // TLS towards the server waits for the client's hello: only a plain server can speak first
        if !session.server.tls && open_server(session).await.is_err() {
            return First::Nobody;
        }
    }
    let draining = session.services.clone();
    let wait = async {
        tokio::select! {
            biased;
            bytes = session.client_io.peek(seen) => match bytes {
                Ok(bytes) if bytes.is_empty() => First::Nobody,
                Ok(bytes) => First::Client(bytes),
                Err(_) => First::Nobody,
            },
            () = server_speaks(session) => First::Server,
            () = draining.draining.started() => First::Nobody,
        }
    };
    timers.timeout(patience, wait).await.unwrap_or(First::Nobody)
}

async fn server_speaks(session: &Session) {
    match &session.server_io {
        Some(stream) => match stream.peek(1).await {
            Ok(_) | Err(_) => {}
        },
        None => poll_fn(|_| Poll::Pending).await,
    }
}
