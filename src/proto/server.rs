//! The one way out: policy, hooks, TCP, and TLS where it is due.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::session::{ServerError, Session, count};
use super::{CLOSING_MS, tls};
use crate::connect::{ConntrackFull, Entry, Failure, Refusal};
use crate::flow::{Server, ServerConnectionData, Transport};
use crate::hooks::{Hook, Subject};
use crate::stream::Stream;

/// Connects to the session's server, unless it is connected. What goes wrong is kept in `server_error`, for
/// whoever has to tell the client.
///
/// # Errors
/// Why the server is out of reach.
pub async fn open_server(session: &mut Session) -> Result<(), ServerError> {
    let is_secure = session.server.timestamp_tls_setup.is_some();
    if session.server_io.is_some() && (is_secure || !session.server.tls) {
        return Ok(());
    }
    // boxed: whoever asks for a server most often has it, and should not be as big as getting one
    Box::pin(open_anew(session)).await
}

async fn open_anew(session: &mut Session) -> Result<(), ServerError> {
    let connected = match session.server_io.take() {
        // a tunnel's server was connected before it was known that TLS would be spoken
        Some(plain) => Ok(plain),
        None => open_tcp(session).await,
    };
    let opened = match connected {
        Ok(stream) if session.server.tls => tls::connect_server(session, stream).await,
        Ok(stream) => Ok(stream),
        Err(error) => Err(error),
    };
    match opened {
        Ok(stream) => {
            session.server_io = Some(stream);
            session.server_error = None;
            Ok(())
        }
        Err(error) => {
            tracing::info!(client = ?session.client.peername, "{}: {}", session.destination_text(), error.reason);
            session.server_mut().error = Some(error.reason.clone());
            session.server_error = Some(error.clone());
            close_server(session).await;
            Err(error)
        }
    }
}

/// Ends the server's connection, with a goodbye.
pub async fn close_server(session: &mut Session) {
    let stream = session.server_io.take();
    let was_open = stream.is_some();
    if let Some(stream) = stream {
        let _ = session.services.timers.timeout(CLOSING_MS, stream.shutdown_write()).await;
    }
    session.upstream_mark = None;
    if was_open {
        let now = session.services.now();
        session.server_mut().timestamp_end = Some(now);
        notify(session, Hook::ServerDisconnected).await;
    }
}

/// A fresh server, towards the same destination, for another connection.
pub fn renew(server: &Server) -> Server {
    Server {
        id: Uuid::new_v4(),
        address: server.address.clone(),
        tls: server.tls,
        sni: server.sni.clone(),
        alpn_offers: server.alpn_offers.clone(),
        transport_protocol: Transport::Tcp,
        ..Server::default()
    }
}

async fn open_tcp(session: &mut Session) -> Result<Stream, ServerError> {
    let now = session.services.now();
    {
        let server = session.server_mut();
        if server.timestamp_start.is_some() {
            *server = renew(server);
        }
        server.timestamp_start = Some(now);
    }
    notify(session, Hook::ServerConnect).await;
    if let Some(reason) = session.server.error.clone() {
        return Err(ServerError::forbidden(reason));
    }
    match dial(session).await {
        Ok((stream, addr, entry)) => {
            count(&session.services.counters.server_connections);
            let (own, now) = (stream.local_addr(), session.services.now());
            session.upstream_mark = own.map(|own| session.services.policy.upstream_opened(own, addr, entry));
            let server = session.server_mut();
            server.peername = Some(addr);
            server.sockname = own;
            server.timestamp_tcp_setup = Some(now);
            notify(session, Hook::ServerConnected).await;
            Ok(stream)
        }
        Err(error) => {
            count(&session.services.counters.server_connect_errors);
            session.server_mut().error = Some(error.reason.clone());
            notify(session, Hook::ServerConnectError).await;
            Err(error)
        }
    }
}

async fn dial(session: &Session) -> Result<(Stream, SocketAddr, Entry), ServerError> {
    let services = &session.services;
    let begun = services.clock().now_us();
    let Some((host, port)) = session.server.address.clone() else {
        return Err(ServerError::bad_gateway("the request names no destination"));
    };
    let failed = |failure: Failure, reason: String| {
        services.counters.connect_failed(failure);
        ServerError::bad_gateway(reason)
    };
    let attempt = async {
        let addrs = services.connector.resolve(&host, port).await;
        let addrs = addrs.map_err(|e| failed(Failure::Resolve, format!("cannot resolve {host}: {e}")))?;
        let denied = |refusal: Refusal| {
            services.counters.refused(&refusal);
            ServerError::forbidden(refusal.to_string())
        };
        for addr in &addrs {
            services.policy.check_destination(*addr, session.origin()).map_err(denied)?;
        }
        let mut last = failed_nowhere();
        for addr in addrs {
            let entry = services.policy.enter(session.client.peername, addr).map_err(denied)?;
            match services.connector.connect(addr).await {
                Ok(stream) => return Ok((stream, addr, entry)),
                Err(error) => last = diagnose(addr, &error),
            }
        }
        Err(failed(last.0, last.1))
    };
    match services.timers.timeout(services.config.timeouts.connect_ms, attempt).await {
        Ok(Ok(connected)) => {
            services.counters.connect_time.record_us(services.clock().now_us().saturating_sub(begun));
            Ok(connected)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            if let Some(full) = ConntrackFull::now() {
                return Err(failed(Failure::Conntrack, full.explain(&session.destination_text())));
            }
            services.counters.connect_failed(Failure::Timeout);
            Err(ServerError::timeout(format!(
                "cannot connect to {}: no answer within {} s (connect_timeout)",
                session.destination_text(),
                services.config.timeouts.connect_ms / 1000
            )))
        }
    }
}

/// What a failed attempt was, and what the client is told.
fn diagnose(addr: SocketAddr, error: &io::Error) -> (Failure, String) {
    let failure = Failure::of(error);
    // the kernel's own patience may be shorter than ours
    if failure == Failure::Timeout
        && let Some(full) = ConntrackFull::now()
    {
        return (Failure::Conntrack, full.explain(&addr.to_string()));
    }
    (failure, failure.explain(addr, error))
}

/// For a name without addresses, which the resolver does not give.
fn failed_nowhere() -> (Failure, String) {
    (Failure::Resolve, "no address".to_owned())
}

async fn notify(session: &mut Session, hook: Hook) {
    let chain = &session.services.chain;
    if !chain.wants().contains(hook) {
        return;
    }
    let mut data = ServerConnectionData { server: (*session.server).clone(), client: session.client.clone() };
    chain.run(hook, Subject::Server(&mut data)).await;
    session.server = Arc::new(data.server);
}
