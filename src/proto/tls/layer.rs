//! TLS in the middle.
//!
//! LIFECYCLE
//! ```text
//! peek ClientHello ── hook tls_clienthello ──ignore──▶ passthrough, untouched
//!       │
//!       ├─ connect to the server, handshake with the client's name and protocols (its certificate is verified)
//!       │      failed: the client still gets TLS from us, and whoever speaks next tells it why
//!       ├─ mint a leaf with the server's names
//!       └─ handshake with the client, answering the protocol the server chose
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, HandshakeKind};

use super::client_hello::{ClientHello, HelloReader};
use super::codec::TlsCodec;
use super::facts;
use crate::buf::Chunks;
use crate::ca::LeafIdentity;
use crate::config::Strategy;
use crate::flow::{ClientHelloData, Layer, Side, TlsData};
use crate::hooks::{Hook, Subject};
use crate::proto::codec::Parsed;
use crate::proto::server::open_server;
use crate::proto::session::{Outcome, ServerError, Session, count};
use crate::stream::{Step, Stream, Transform};

/// Protocols we speak inside TLS besides those we only relay.
const HTTP1: &[u8] = b"http/1.1";
/// Protocols a client may offer that we cannot speak in this version: they are not passed on.
const NOT_SPOKEN: [&[u8]; 3] = [b"h2", b"h3", b"h2c"];

/// Puts us between client and server.
pub async fn intercept(mut session: Session) -> Outcome {
    let timeout = session.services.config.timeouts.tls_ms;
    let timers = session.services.timers.clone();
    let hello = match timers.timeout(timeout, read_hello(&session.client_io)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(reason)) => return refuse(session, reason, Some(DECODE_ERROR)).await,
        Err(_) => return refuse(session, "no complete ClientHello in time".into(), None).await,
    };
    if ask_addons(&mut session, &hello).await {
        count(&session.services.counters.tls_spliced);
        return crate::proto::tcp::relay(session, Layer::Passthrough).await;
    }
    count(&session.services.counters.tls_bumped);
    let offers: Vec<Vec<u8>> = spoken(&hello.alpn_protocols);
    {
        let client = session.client_mut();
        client.tls = true;
        client.sni = hello.sni.clone();
        client.alpn_offers = hello.alpn_protocols.clone();
    }
    prepare_server(&mut session, &hello, &offers);
    if !hello.alpn_protocols.is_empty() && offers.is_empty() {
        let reason = "the client offers only protocols that this version does not speak (h2): no application protocol in common";
        return refuse(session, reason.into(), Some(NO_APPLICATION_PROTOCOL)).await;
    }
    if session.services.config.strategy == Strategy::Eager {
        // a failure is kept in the session: the client is told inside its TLS connection
        let _ = open_server(&mut session).await;
    }
    match meet_client(&mut session, &offers).await {
        Ok((codec, early)) => {
            let stream =
                std::mem::replace(&mut session.client_io, Stream::from(crate::stream::Pipe::pair().0));
            session.client_io =
                stream.wrap(codec.into_transform(session.services.config.tls_inplace_records), early);
            Outcome::Next(session)
        }
        Err(reason) => client_failed(session, reason).await,
    }
}

/// Reads until the hello is whole, and gives all of it back to the stream.
async fn read_hello(stream: &Stream) -> Result<ClientHello, String> {
    let mut reader = HelloReader::default();
    let mut bytes = stream.read().await.map_err(|e| e.to_string())?;
    let mut gathered = Vec::new();
    loop {
        let seen: &[u8] = if gathered.is_empty() { &bytes } else { &gathered };
        if let Parsed::Done { value, .. } = reader.read(seen).map_err(|e| e.to_string())? {
            stream.unread(if gathered.is_empty() { bytes } else { gathered.into() });
            return Ok(value);
        }
        if gathered.is_empty() {
            gathered = bytes.to_vec();
        }
        bytes = stream.read().await.map_err(|e| e.to_string())?;
        if bytes.is_empty() {
            return Err("closed inside the ClientHello".into());
        }
        gathered.extend_from_slice(&bytes);
    }
}

/// What of a client's offer we can pass on.
fn spoken(offers: &[Vec<u8>]) -> Vec<Vec<u8>> {
    offers.iter().filter(|offer| !NOT_SPOKEN.contains(&&offer[..])).cloned().collect()
}

/// Whether an addon wants the connection untouched.
async fn ask_addons(session: &mut Session, hello: &ClientHello) -> bool {
    if !session.services.chain.wants().contains(Hook::TlsClienthello) {
        return false;
    }
    let mut data = ClientHelloData {
        client: session.client.clone(),
        server: session.server.clone(),
        client_hello: crate::flow::ClientHello {
            cipher_suites: hello.cipher_suites.clone(),
            sni: hello.sni.clone(),
            alpn_protocols: hello.alpn_protocols.clone(),
            extensions: hello.extensions.clone(),
            raw: hello.raw.clone(),
        },
        ignore_connection: false,
        establish_server_tls_first: false,
    };
    session.services.chain.run(Hook::TlsClienthello, Subject::ClientHello(&mut data)).await;
    data.ignore_connection
}

/// The server's handshake uses the client's name and protocols.
fn prepare_server(session: &mut Session, hello: &ClientHello, offers: &[Vec<u8>]) {
    // a tunnel's or a reverse proxy's server may be plain: then the client's TLS ends here
    let plain_server = matches!(session.way, crate::proto::session::Way::Reverse(scheme) if !scheme.is_tls());
    if plain_server || session.server_io.is_some() && session.server.tls {
        return;
    }
    let reverse = matches!(session.way, crate::proto::session::Way::Reverse(_));
    let host = session.server.address.as_ref().map(|(host, _)| host.clone());
    let name =
        if reverse && !session.services.config.keep_host_header { host } else { hello.sni.clone().or(host) };
    let server = session.server_mut();
    server.tls = true;
    server.sni = name;
    server.alpn_offers = offers.to_vec();
}

/// Handshakes with the server over a connected stream.
///
/// # Errors
/// Why there is no TLS connection, for the client to read.
pub async fn connect_server(session: &mut Session, stream: Stream) -> Result<Stream, ServerError> {
    run_tls_hook(session, Hook::TlsStartServer, Side::Server, None).await;
    let begun_us = session.services.clock().now_us();
    let timeout = session.services.config.timeouts.tls_ms;
    let timers = session.services.timers.clone();
    let shaken = match timers.timeout(timeout, shake_server(session, &stream)).await {
        Ok(shaken) => shaken,
        Err(_) => Err(ServerError::timeout(format!(
            "no TLS handshake with {} within {} s (tls_handshake_timeout)",
            session.destination_text(),
            timeout / 1000
        ))),
    };
    match shaken {
        Ok((codec, early)) => {
            count(&session.services.counters.tls_server_established);
            let now = session.services.now();
            let state = codec.state();
            tally(session, Side::Server, state, begun_us);
            let server = session.server_mut();
            server.timestamp_tls_setup = Some(now);
            server.tls_version = facts::version(state);
            server.cipher = facts::cipher(state);
            server.alpn = Some(facts::alpn(state));
            server.certificate_list = facts::certificates(state);
            run_tls_hook(session, Hook::TlsEstablishedServer, Side::Server, None).await;
            Ok(stream.wrap(codec.into_transform(session.services.config.tls_inplace_records), early))
        }
        Err(error) => {
            count(&session.services.counters.tls_server_failed);
            session.services.counters.handshakes.failed(Side::Server, facts::failure(&error.reason));
            run_tls_hook(session, Hook::TlsFailedServer, Side::Server, Some(&error.reason)).await;
            Err(error)
        }
    }
}

async fn shake_server(session: &Session, stream: &Stream) -> Result<(TlsCodec, Step), ServerError> {
    let failed = |reason: String| {
        ServerError::bad_gateway(format!("TLS with {}: {reason}", session.destination_text()))
    };
    let addr = session.server.peername.ok_or_else(|| failed("not connected".into()))?;
    let name = session.server.sni.clone().unwrap_or_else(|| addr.ip().to_string());
    let server_name =
        ServerName::try_from(name.clone()).map_err(|_| failed(format!("'{name}' is no server name")))?;
    let config = session
        .services
        .tls
        .for_server(addr, &name, &session.server.alpn_offers)
        .map_err(|e| failed(e.to_string()))?;
    let connection =
        UnbufferedClientConnection::new(config, server_name).map_err(|e| failed(e.to_string()))?;
    let mut codec = TlsCodec::client(connection, session.services.pool.clone());
    let mut step = Step::default();
    codec.start(&mut step).map_err(|e| failed(e.to_string()))?;
    shake(&mut codec, stream, step).await.map(|early| (codec, early)).map_err(failed)
}

/// Handshakes with the client, with a leaf that looks like the server's.
async fn meet_client(session: &mut Session, offers: &[Vec<u8>]) -> Result<(TlsCodec, Step), String> {
    let now = session.services.now();
    let identity = identity(session);
    let leaf = session.services.leaves.leaf(&identity, now).map_err(|e| format!("no certificate: {e}"))?;
    let answer: Option<Vec<u8>> = match session.server_io {
        // the server's choice is mirrored; it chose none: none
        Some(_) if session.server.tls => session.server.alpn.clone().filter(|alpn| !alpn.is_empty()),
        _ => offers.iter().find(|offer| offer[..] == *HTTP1).cloned(),
    };
    if session.server_io.is_none() {
        // whoever connects later must get the protocol that the client was promised
        session.server_mut().alpn_offers = answer.iter().cloned().collect();
    }
    run_tls_hook(session, Hook::TlsStartClient, Side::Client, None).await;
    let begun_us = session.services.clock().now_us();
    let config = session.services.tls.for_client(&leaf, answer.as_deref()).map_err(|e| e.to_string())?;
    let connection = UnbufferedServerConnection::new(config).map_err(|e| e.to_string())?;
    let mut codec = TlsCodec::server(connection, session.services.pool.clone());
    let timeout = session.services.config.timeouts.tls_ms;
    let timers = session.services.timers.clone();
    let shaking = shake(&mut codec, &session.client_io, Step::default());
    let early = timers
        .timeout(timeout, shaking)
        .await
        .map_err(|_| "the handshake took too long (tls_handshake_timeout)".to_owned())??;
    count(&session.services.counters.tls_client_established);
    let now = session.services.now();
    let state = codec.state();
    tally(session, Side::Client, state, begun_us);
    let client = session.client_mut();
    client.timestamp_tls_setup = Some(now);
    client.tls_version = facts::version(state);
    client.cipher = facts::cipher(state);
    client.alpn = Some(facts::alpn(state));
    run_tls_hook(session, Hook::TlsEstablishedClient, Side::Client, None).await;
    Ok((codec, early))
}

/// Counts a handshake that is done.
fn tally(session: &Session, side: Side, state: &CommonState, begun_us: u64) {
    let counters = &session.services.counters;
    let resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
    counters.handshakes.done(side, resumed, facts::version(state), state.alpn_protocol().unwrap_or_default());
    let (time, resumptions) = match side {
        Side::Client => (&counters.client_handshake_time, &counters.tls_client_resumed),
        Side::Server => (&counters.server_handshake_time, &counters.tls_server_resumed),
    };
    if resumed {
        count(resumptions);
    }
    time.record_us(session.services.clock().now_us().saturating_sub(begun_us));
}

fn identity(session: &Session) -> LeafIdentity {
    let sni = session.client.sni.as_deref();
    let host = session.server.address.as_ref().map(|(host, _)| host.as_str());
    let ip: Option<IpAddr> =
        session.client.sockname.map(|addr| addr.ip()).or_else(|| host.and_then(|host| host.parse().ok()));
    // inside a tunnel the client checks the name it asked the proxy for
    let sni = sni.or(host.filter(|host| host.parse::<IpAddr>().is_err()));
    let ip = match host.and_then(|host| host.parse().ok()) {
        Some(target) => Some(target),
        None => ip,
    };
    match session.server.certificate_list.first() {
        Some(upstream) if session.server_io.is_some() && session.services.config.upstream_cert => {
            LeafIdentity::mirror(upstream, sni, ip)
        }
        _ => LeafIdentity::from_names(sni, ip),
    }
}

/// Runs a handshake to its end. What has arrived behind it is kept.
async fn shake(codec: &mut TlsCodec, stream: &Stream, mut step: Step) -> Result<Step, String> {
    loop {
        let wire = std::mem::take(&mut step.wire);
        if !wire.is_empty() {
            stream.write(wire).await.map_err(|e| e.to_string())?;
        }
        if codec.is_established() {
            return Ok(step);
        }
        let Some(bytes) = stream.read_buffer().await.map_err(|e| e.to_string())? else {
            return Err("connection closed during the handshake".into());
        };
        if let Err(error) = codec.open(bytes, &mut step) {
            // the peer is told by the alert in the step
            let _ = stream.write(std::mem::take(&mut step.wire)).await;
            return Err(error.to_string());
        }
        if step.ended {
            return Err("the peer ended the handshake".into());
        }
    }
}

async fn client_failed(mut session: Session, reason: String) -> Outcome {
    count(&session.services.counters.tls_client_failed);
    session.services.counters.handshakes.failed(Side::Client, facts::failure(&reason));
    let name = session.client.sni.clone().unwrap_or_else(|| session.destination_text());
    let hint = if reason.contains("CertificateUnknown")
        || reason.contains("UnknownCA")
        || reason.contains("BadCertificate")
    {
        " (does the client trust our CA?)"
    } else {
        ""
    };
    tracing::info!(client = ?session.client.peername, "TLS handshake with the client for {name} failed: {reason}{hint}");
    session.client_mut().error = Some(reason.clone());
    run_tls_hook(&mut session, Hook::TlsFailedClient, Side::Client, Some(&reason)).await;
    crate::proto::end(session).await;
    Outcome::Closed
}

/// Ends a session whose ClientHello cannot be used, with the alert that says so (RFC 8446 §6.2).
async fn refuse(session: Session, reason: String, alert: Option<u8>) -> Outcome {
    if let Some(description) = alert {
        let record = vec![21, 3, 3, 0, 2, FATAL, description];
        let _ = session.client_io.write(Chunks::from(record)).await;
        let _ = session.client_io.flush().await;
    }
    client_failed(session, reason).await
}

const FATAL: u8 = 2;
const DECODE_ERROR: u8 = 50;
const NO_APPLICATION_PROTOCOL: u8 = 120;

async fn run_tls_hook(session: &mut Session, hook: Hook, side: Side, error: Option<&str>) {
    if !session.services.chain.wants().contains(hook) {
        return;
    }
    let mut data = TlsData {
        side,
        client: Arc::clone(&session.client),
        server: Arc::clone(&session.server),
        error: error.map(str::to_owned),
    };
    session.services.chain.run(hook, Subject::Tls(&mut data)).await;
}
