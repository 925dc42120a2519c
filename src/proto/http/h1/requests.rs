//! The request's half: waiting for it, finding out where it goes, and what of it is sent on.

use bytes::Bytes;

use super::codec::{
    BodyFraming, HeadReason, RequestHead, TargetForm, head_end, request_framing, split_absolute,
    split_authority, write_chunk, write_last_chunk, write_request_head,
};
use super::inbox::NoHead;
use super::lane::Lane;
use super::layer::{After, Refusal, Talk, refuse, run_hook};
use super::passage::{Form, Passage};
use crate::buf::Chunks;
use crate::flow::{BodyTransform, Headers, HttpVersion, Request};
use crate::hooks::Hook;
use crate::proto::http::exchange::{Exchange, Verdict};
use crate::proto::http::plan::{Gathered, Plan, Size, Stop};
use crate::proto::http::tape::BodyTape;
use crate::proto::session::{Session, Way};

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Route {
    /// The server that the request names; `None`: where the session goes anyway, which costs no copy of its name.
    pub(super) host: Option<String>,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// Path with query as it is sent to the server; `None`: the target as it came.
    pub(super) path: Option<Bytes>,
    /// The authority as the request gave it, if its target had one.
    pub(super) authority: Bytes,
    /// The Host field that the server is to see, if not the client's.
    pub(super) host_field: Option<String>,
}

impl Route {
    /// The server's name or address, without brackets.
    pub(super) fn host<'a>(&'a self, session: &'a Session) -> &'a str {
        let fixed = session.server.address.as_ref().map_or("", |(host, _)| host);
        self.host.as_deref().unwrap_or(fixed)
    }
}

/// A request ready to be sent.
pub(super) struct Outgoing {
    pub(super) first: Chunks,
    pub(super) passage: Passage,
}

/// What preparing a request came to.
#[expect(clippy::large_enum_variant, reason = "it is moved once per exchange, never stored")]
pub(super) enum Prepared {
    Send(Outgoing),
    /// An addon answered.
    Answered,
    Killed,
    Refused(Refusal),
}

/// Waits for the next request; says how long its head is.
pub(super) async fn await_head(session: &Session, talk: &mut Talk) -> Result<usize, After> {
    let services = &session.services;
    let (timers, timeouts) = (&services.timers, &services.config.timeouts);
    if services.config.record_loss_slow {
        wait_for_recorder(session).await;
    }
    if talk.client.peek().is_empty() {
        let idle = async {
            tokio::select! {
                biased;
                more = talk.client.more(&session.client_io) => more.is_ok(),
                () = services.draining.started() => false,
            }
        };
        let came = timers.timeout(timeouts.keepalive_ms, idle).await;
        if came != Ok(true) || talk.client.peek().is_empty() {
            return Err(After::Close);
        }
    }
    let head = talk.client.request_head(
        &session.client_io,
        &mut talk.request,
        &talk.limits,
        timers,
        timeouts.head_ms,
    );
    match head.await {
        Ok(length) => Ok(length),
        Err(NoHead::Refused(error)) => {
            let refusal = Refusal { status: error.status(), reason: error.to_string() };
            if matches!(error.reason, HeadReason::Http2Preface) {
                tracing::info!(client = ?session.client.peername, "HTTP/2 without TLS is not part of this version");
            }
            Err(refuse(session, refused(session, talk.client.peek()), refusal).await)
        }
        Err(NoHead::Slow) => {
            let seconds = timeouts.head_ms / 1000;
            let reason = format!("the request's head did not come within {seconds} s (http_head_timeout)");
            let refusal = Refusal { status: 408, reason };
            Err(refuse(session, refused(session, talk.client.peek()), refusal).await)
        }
        Err(_) => Err(After::Close),
    }
}

/// An exchange that ends with the request's head.
pub(super) fn refused(session: &Session, head: &[u8]) -> Exchange {
    Exchange::begin(session, |now| refused_request(session, head, now))
}

/// What can be told of a request that is refused for its head: its flow says why.
fn refused_request(session: &Session, bytes: &[u8], now: f64) -> Request {
    let end = head_end(bytes, 0).unwrap_or(bytes.len());
    let mut lines =
        bytes[..end].split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let mut words = lines.next().unwrap_or_default().split(|b| *b == b' ').filter(|word| !word.is_empty());
    let mut word = || Bytes::copy_from_slice(words.next().unwrap_or_default());
    let (method, path, http_version) = (word(), word(), word());
    let mut headers = Headers::default();
    for line in lines {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        headers.add(line[..colon].trim_ascii(), value.trim_ascii());
    }
    let (host, port) = session.server.address.clone().unwrap_or_default();
    let scheme = if session.client.tls { "https" } else { "http" };
    Request {
        host,
        port,
        method,
        scheme: Bytes::from_static(scheme.as_bytes()),
        authority: Bytes::new(),
        path,
        http_version,
        headers,
        content: None,
        trailers: None,
        timestamp_start: now,
        timestamp_end: None,
        stream: crate::flow::BodyStream::Auto,
    }
}

/// Lets a recorder that is behind catch up, for a while.
async fn wait_for_recorder(session: &Session) {
    let services = &session.services;
    let mut waited_ms = 0;
    while services.outbox.is_pressed() && waited_ms < SLOWED_MS_MAX {
        services.timers.sleep(SLOWED_STEP_MS).await;
        waited_ms += SLOWED_STEP_MS;
    }
}

/// The most that one exchange waits for the recorder.
const SLOWED_MS_MAX: u64 = 1000;
const SLOWED_STEP_MS: u64 = 50;

/// Where the request in the inbox goes.
pub(super) fn route(session: &Session, talk: &Talk, length: usize) -> Result<Route, Refusal> {
    let head = &talk.client.peek()[..length];
    let request = &talk.request;
    let target = request.target.of(head);
    if !matches!(session.way, Way::Proxy) {
        return fixed_route(session);
    }
    let bad = |reason: &str| Refusal { status: 400, reason: reason.to_owned() };
    let host_field = request.host.map(|host| host.of(head));
    match request.target_form {
        TargetForm::Authority => {
            let (host, port) = split_authority(target).map_err(|e| bad(&e.to_string()))?;
            let authority = Bytes::copy_from_slice(target);
            let (host, path) = (Some(host.into()), Some(Bytes::new()));
            Ok(Route { host, port, tls: false, path, authority, host_field: None })
        }
        TargetForm::Absolute => {
            let (scheme, host, port, path) =
                split_absolute(target).ok_or_else(|| bad("invalid URL in the request"))?;
            let tls = match scheme {
                _ if scheme.eq_ignore_ascii_case("http") => false,
                _ if scheme.eq_ignore_ascii_case("https") => true,
                _ => return Err(bad("only http and https URLs can be fetched")),
            };
            let default = if tls { 443 } else { 80 };
            let authority = authority_text(host, port.unwrap_or(default), default);
            let path = match path.first() {
                None => Bytes::from_static(if request.method.of(head) == b"OPTIONS" { b"*" } else { b"/" }),
                Some(b'/') => Bytes::copy_from_slice(path),
                Some(_) => [b"/", path].concat().into(),
            };
            let keep = host_field.is_some_and(|held| held.eq_ignore_ascii_case(authority.as_bytes()));
            Ok(Route {
                host: Some(host.into()),
                port: port.unwrap_or(default),
                tls,
                path: Some(path),
                host_field: (!keep).then(|| authority.clone()),
                authority: authority.into(),
            })
        }
        TargetForm::Origin | TargetForm::Asterisk => {
            let host = host_field
                .ok_or_else(|| bad("a request to a proxy names its server: no absolute URL, no Host"))?;
            let default = if session.client.tls { 443 } else { 80 };
            let (host, port) = match split_authority(host) {
                Ok((host, port)) => (host.to_owned(), port),
                Err(_) => {
                    let with_port = [host, b":1"].concat();
                    let (host, _) = split_authority(&with_port).map_err(|_| bad("invalid Host"))?;
                    (host.to_owned(), default)
                }
            };
            let (host, tls) = (Some(host), session.client.tls);
            Ok(Route { host, port, tls, path: None, authority: Bytes::new(), host_field: None })
        }
    }
}

fn fixed_route(session: &Session) -> Result<Route, Refusal> {
    let Some((host, port)) = &session.server.address else {
        return Err(Refusal { status: 502, reason: "the connection's destination is unknown".into() });
    };
    let host_field = match session.way {
        Way::Reverse(scheme) if !session.services.config.keep_host_header => {
            Some(authority_text(host, *port, if scheme.is_tls() { 443 } else { 80 }))
        }
        _ => None,
    };
    let tls = session.server.tls;
    Ok(Route { host: None, port: *port, tls, path: None, authority: Bytes::new(), host_field })
}

fn authority_text(host: &str, port: u16, default_port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == default_port { host } else { format!("{host}:{port}") }
}

/// The request as flows hold it.
pub(super) fn flow_request(
    session: &Session,
    talk: &Talk,
    length: usize,
    route: &Route,
    now: f64,
) -> Request {
    let head = Bytes::copy_from_slice(&talk.client.peek()[..length]);
    let request = &talk.request;
    Request {
        host: route.host(session).to_owned(),
        port: route.port,
        method: head.slice(request.method.range()),
        scheme: match (request.connect, is_https(session, route)) {
            (true, _) => Bytes::new(),
            (false, true) => Bytes::from_static(b"https"),
            (false, false) => Bytes::from_static(b"http"),
        },
        authority: route.authority.clone(),
        path: route.path.clone().unwrap_or_else(|| head.slice(request.target.range())),
        http_version: Bytes::from_static(request.version.as_str().as_bytes()),
        headers: sent_headers(session, request, &head, route),
        content: None,
        trailers: None,
        timestamp_start: now,
        timestamp_end: None,
        stream: crate::flow::BodyStream::Auto,
    }
}

/// Tells others what the session is doing, whether or not a flow is built.
pub(super) fn announce(session: &Session, talk: &Talk, exchange: &Exchange, length: usize, route: &Route) {
    let (head, request) = (&talk.client.peek()[..length], &talk.request);
    let scheme = if is_https(session, route) { "https" } else { "http" };
    let host = request.host.map_or(route.host(session).as_bytes(), |host| host.of(head));
    let (method, target) = (request.method.of(head), request.target.of(head));
    session.card.begin(exchange.id(), method, scheme, host, target);
}

fn is_https(session: &Session, route: &Route) -> bool {
    match session.way {
        Way::Proxy => route.tls,
        Way::Reverse(scheme) => scheme.is_tls(),
        Way::Tunnel | Way::Transparent => session.client.tls,
    }
}

/// The fields that the server is to see: the client's, without those between it and a proxy.
fn sent_headers(session: &Session, request: &RequestHead, head: &Bytes, route: &Route) -> Headers {
    let mut headers = request.headers(head);
    if matches!(session.way, Way::Proxy) && !request.connect {
        headers.remove("proxy-connection");
        headers.remove("proxy-authorization");
        if request.has_connection_options {
            drop_nominated(&mut headers);
        }
    }
    if let Some(host) = &route.host_field {
        headers.set("Host", host);
    }
    headers
}

/// Fields that `Connection` names are for us, not for the server (RFC 9110 §7.6.1). What the conversation goes by
/// stays: the server answers to it, and its answer reaches the client.
fn drop_nominated(headers: &mut Headers) {
    let Some(said) = headers.get("connection") else { return };
    let stays = |token: &&str| {
        ["close", "keep-alive", "upgrade", "te"].iter().any(|kept| token.eq_ignore_ascii_case(kept))
    };
    let (kept, dropped): (Vec<&str>, Vec<&str>) =
        said.split(',').map(str::trim).filter(|token| !token.is_empty()).partition(stays);
    for name in dropped {
        headers.remove(name);
    }
    match &kept[..] {
        [] => drop(headers.remove("connection")),
        kept => headers.set("Connection", kept.join(", ")),
    }
}

/// Whether the bytes that came are what goes out.
fn passes_untouched(session: &Session, route: &Route, exchange: &Exchange) -> bool {
    !matches!(session.way, Way::Proxy) && route.host_field.is_none() && !exchange.is_editable()
}

/// Everything up to the point where the server is needed.
pub(super) async fn prepare(
    session: &Session,
    talk: &mut Talk,
    exchange: &mut Exchange,
    length: usize,
    route: &Route,
) -> Prepared {
    let config = &session.services.config;
    let framing = talk.request.framing;
    match run_hook(session, exchange, Hook::Requestheaders).await {
        Verdict::Go => {}
        Verdict::Answered => {
            // it would be taken for the next request
            talk.client.take(length);
            return Prepared::Answered;
        }
        Verdict::Killed => return Prepared::Killed,
    }
    if Passage::declared_too_large(framing, config.body_size_limit) {
        return Prepared::Refused(Refusal {
            status: 413,
            reason: "the request's body is larger than body_size_limit".into(),
        });
    }
    let size = size_of(framing);
    match exchange.plan(Hook::Request, size) {
        Plan::Stream => {}
        Plan::Collect(body) => return collect(session, talk, exchange, length, body).await,
        Plan::Through(transform) => return through(session, talk, exchange, length, transform),
        Plan::Refuse(reason) => return Prepared::Refused(Refusal { status: 413, reason }),
    }
    let tape = exchange.tape(Hook::Request, size);
    let mut passage =
        Passage::new(framing, tape, config.body_size_limit).holding_end(exchange.holds_end(Hook::Request));
    if passes_untouched(session, route, exchange) {
        return match passage.step(&mut talk.client, length) {
            Ok(mut first) => {
                // empty lines ahead of a request are for us to forgive: other parsers refuse them
                first.advance(talk.request.start as usize);
                Prepared::Send(Outgoing { first: first.into(), passage })
            }
            Err(broken) => broken_off(&broken),
        };
    }
    let mut first = Chunks::default();
    match head_from(session, talk, exchange, length, route) {
        Ok(head) => first.push(head.into()),
        Err(reason) => return Prepared::Refused(Refusal { status: 502, reason }),
    }
    talk.client.take(length);
    match passage.step(&mut talk.client, 0) {
        Ok(body) => first.push(body),
        Err(broken) => return broken_off(&broken),
    }
    Prepared::Send(Outgoing { first, passage })
}

fn broken_off(broken: &super::passage::Broken) -> Prepared {
    let status = broken.request_status();
    Prepared::Refused(Refusal { status, reason: broken.reason("client", "server") })
}

/// What plans need to know of a framing.
pub(super) fn size_of(framing: BodyFraming) -> Size {
    match framing {
        BodyFraming::None | BodyFraming::Length(0) => Size::Nothing,
        BodyFraming::Length(length) => Size::Known(length),
        BodyFraming::Chunked | BodyFraming::UntilClose => Size::Open,
    }
}

/// A body that goes through an addon's function: nobody knows its length any more, so it leaves in chunks, and in
/// HTTP/1.1 whatever version the client speaks.
fn through(
    session: &Session,
    talk: &mut Talk,
    exchange: &mut Exchange,
    length: usize,
    transform: BodyTransform,
) -> Prepared {
    let config = &session.services.config;
    let framing = talk.request.framing;
    let tape = exchange.tape(Hook::Request, size_of(framing));
    let Some(flow) = exchange.flow() else { return Prepared::Killed };
    let request = &mut flow.request;
    put_in_chunks(&mut request.headers);
    if talk.request.version == HttpVersion::Http10 && !talk.request.keep_alive {
        request.headers.set("Connection", "close");
    }
    let mut first = Vec::with_capacity(length + 64);
    let (method, path, version) = (&request.method, &request.path, HttpVersion::Http11);
    match write_request_head(&mut first, method, path, version, &request.headers) {
        Ok(()) => {}
        Err(error) => return Prepared::Refused(Refusal { status: 502, reason: error.to_string() }),
    }
    talk.client.take(length);
    let lane = Lane::new(transform, config.timeouts.hook_ms);
    let passage = Passage::new(framing, tape, config.body_size_limit).through(lane, Form::Chunks);
    Prepared::Send(Outgoing { first: first.into(), passage })
}

fn head_from(
    session: &Session,
    talk: &Talk,
    exchange: &mut Exchange,
    length: usize,
    route: &Route,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(length + 64);
    let editable = exchange.is_editable();
    let written = match exchange.flow() {
        Some(flow) if editable => {
            let request = &flow.request;
            keeps_framing(talk, &request.headers)?;
            write_request_head(
                &mut out,
                &request.method,
                &request.path,
                talk.request.version,
                &request.headers,
            )
        }
        _ => {
            let head = Bytes::copy_from_slice(&talk.client.peek()[..length]);
            let headers = sent_headers(session, &talk.request, &head, route);
            write_request_head(
                &mut out,
                talk.request.method.of(&head),
                route.path.as_deref().unwrap_or_else(|| talk.request.target.of(&head)),
                talk.request.version,
                &headers,
            )
        }
    };
    written.map(|()| out).map_err(|e| e.to_string())
}

/// A body that streams past keeps its framing: a head that says otherwise would split the message.
fn keeps_framing(talk: &Talk, headers: &Headers) -> Result<(), String> {
    let said = request_framing(talk.request.version, talk.request.connect, headers);
    match said.map_err(|e| e.to_string())? == talk.request.framing {
        true => Ok(()),
        false => Err("an addon changed how a streamed request body is framed".into()),
    }
}

async fn collect(
    session: &Session,
    talk: &mut Talk,
    exchange: &mut Exchange,
    length: usize,
    mut body: Gathered,
) -> Prepared {
    let config = &session.services.config;
    let (timers, idle_ms) = (&session.services.timers, config.timeouts.idle_ms);
    let (version, framing) = (talk.request.version, talk.request.framing);
    talk.client.take(length);
    if talk.request.expect_continue && framing != BodyFraming::None {
        // the body is wanted here and now: the server is asked later, with all of it
        let _ = session.write_client(&b"HTTP/1.1 100 Continue\r\n\r\n"[..]).await;
        if let Some(flow) = exchange.flow() {
            flow.request.headers.remove("expect");
        }
    }
    let mut passage = Passage::new(framing, BodyTape::counting(), config.body_size_limit);
    match passage.collect(&mut talk.client, &session.client_io, &mut body, timers, idle_ms).await {
        Ok(None) => {}
        Ok(Some(stop)) => return stream_rest(exchange, passage, body, stop, version),
        Err(broken) => return broken_off(&broken),
    }
    exchange.request_collected(body, passage.trailers());
    match run_hook(session, exchange, Hook::Request).await {
        Verdict::Go => {}
        Verdict::Answered => return Prepared::Answered,
        Verdict::Killed => return Prepared::Killed,
    }
    let Some(flow) = exchange.flow() else { return Prepared::Killed };
    let request = &mut flow.request;
    let body = request.content.clone().unwrap_or_default();
    fit_trailers(&mut request.headers, request.trailers.as_ref(), version == HttpVersion::Http11);
    fit_length(&mut request.headers, &body, framing);
    let mut out = Vec::with_capacity(512 + body.len());
    let written = write_request_head(&mut out, &request.method, &request.path, version, &request.headers)
        .and_then(|()| write_body(&mut out, &request.headers, &body, request.trailers.as_ref()));
    match written {
        Ok(()) => Prepared::Send(Outgoing { first: out.into(), passage: Passage::nothing() }),
        Err(error) => Prepared::Refused(Refusal { status: 502, reason: error.to_string() }),
    }
}

/// A body that turned out too long to be collected: what was collected goes first, the rest follows.
fn stream_rest(
    exchange: &mut Exchange,
    mut passage: Passage,
    body: Gathered,
    stop: Stop,
    version: HttpVersion,
) -> Prepared {
    if stop == Stop::Overflow
        && let Err(reason) = exchange.overflowed(Hook::Request)
    {
        return Prepared::Refused(Refusal { status: 413, reason });
    }
    let (data, _) = body.into_parts();
    let tape = exchange.tape(Hook::Request, Size::Open);
    let Some(flow) = exchange.flow() else { return Prepared::Killed };
    let request = &flow.request;
    let mut out = Vec::with_capacity(512 + data.len());
    match write_request_head(&mut out, &request.method, &request.path, version, &request.headers) {
        Ok(()) => {}
        Err(error) => return Prepared::Refused(Refusal { status: 502, reason: error.to_string() }),
    }
    let form = if is_chunked(&request.headers) { Form::Chunks } else { Form::AsCame };
    passage.go_on_after(&data, tape, &mut out, form);
    Prepared::Send(Outgoing { first: out.into(), passage })
}

pub(super) fn is_chunked(headers: &Headers) -> bool {
    headers.contains("transfer-encoding")
}

/// Chunked coding in place of a length.
pub(super) fn put_in_chunks(headers: &mut Headers) {
    headers.remove("content-length");
    headers.set("Transfer-Encoding", "chunked");
}

/// Trailers that an addon has set need chunks to follow, and are announced (RFC 9110 §6.6.2).
pub(super) fn fit_trailers(headers: &mut Headers, trailers: Option<&Headers>, receiver_takes: bool) {
    let Some(trailers) = trailers.filter(|trailers| !trailers.is_empty()) else { return };
    if is_chunked(headers) || !receiver_takes {
        return;
    }
    put_in_chunks(headers);
    if !headers.contains("trailer") {
        let names: Vec<&[u8]> = trailers.fields().iter().map(|field| &field.name[..]).collect();
        headers.set("Trailer", names.join(&b", "[..]));
    }
}

/// A changed body gets the length it has, unless it goes in chunks anyway.
pub(super) fn fit_length(headers: &mut Headers, body: &[u8], framing: BodyFraming) {
    if is_chunked(headers) {
        headers.remove("content-length");
        return;
    }
    let has_length = headers.contains("content-length");
    if has_length || !body.is_empty() || framing != BodyFraming::None {
        headers.set("Content-Length", body.len().to_string());
    }
}

/// Appends a whole body in the framing its head declares.
pub(super) fn write_body(
    out: &mut Vec<u8>,
    headers: &Headers,
    body: &[u8],
    trailers: Option<&Headers>,
) -> Result<(), super::codec::WriteError> {
    if !is_chunked(headers) {
        out.extend_from_slice(body);
        return Ok(());
    }
    write_chunk(out, body);
    write_last_chunk(out, trailers)
}
