//! The HTTP/1 conversation: exchanges one after another, each in order.
//!
//! LIFECYCLE of one exchange
//! ```text
//! await head ─▶ route ─▶ requestheaders ─▶ [collect ─▶ request] ─▶ open server ─▶ send head
//!                                                                        │
//!     client ◀─ body ◀─ responseheaders ◀─ head (1xx pass by) ◀──────────┤ meanwhile: rest of the body
//! ```

use std::pin::pin;

use super::codec::{HeadLimits, RequestHead, ResponseHead, write_simple_response};
use super::inbox::{Inbox, NoHead};
use super::passage::{Broken, Passage, said};
use super::requests::{self, Outgoing, Prepared, Route};
use super::responses;
use crate::buf::Chunks;
use crate::clock::Timers;
use crate::config::Strategy;
use crate::flow::{HttpVersion, KILLED_MESSAGE, Layer};
use crate::hooks::Hook;
use crate::proto::http::exchange::{Exchange, Verdict};
use crate::proto::http::plan::Size;
use crate::proto::server::{close_server, open_server};
use crate::proto::session::{Asked, Outcome, ServerError, Session, Way};
use crate::proto::tcp;
use crate::stream::Stream;

/// What a conversation remembers between exchanges.
pub(super) struct Talk {
    pub(super) client: Inbox,
    pub(super) server: Inbox,
    pub(super) request: RequestHead,
    pub(super) response: ResponseHead,
    pub(super) limits: HeadLimits,
    /// The server's connection has carried an exchange before.
    pub(super) server_used: bool,
    /// The request's method may be sent twice (RFC 9110 §9.2.2).
    pub(super) idempotent: bool,
}

/// What follows an exchange.
pub(super) enum After {
    /// The next one.
    Again,
    /// The end, in order.
    Close,
    /// The end, and the client is to see that something is missing.
    Abort,
    /// A CONNECT tunnel.
    Tunnel,
    /// The protocol was switched.
    Raw,
}

/// An answer of our own that ends the conversation.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: String,
}

impl From<ServerError> for Refusal {
    fn from(error: ServerError) -> Self {
        Self { status: error.status, reason: error.reason }
    }
}

impl Refusal {
    /// Tells the client.
    pub(super) async fn answer(&self, session: &Session) -> After {
        session.card.answered(self.status);
        let mut page = Vec::new();
        write_simple_response(&mut page, self.status, reason_phrase(self.status), &self.reason, true);
        let _ = session.write_client(Chunks::from(page)).await;
        After::Close
    }
}

/// Tells a client that it may not come in, and hears it out for a moment, so that it sees the answer.
pub async fn forbid(client: Stream, reason: &str, timers: &Timers) {
    let mut page = Vec::new();
    write_simple_response(&mut page, 403, reason_phrase(403), reason, true);
    let told = async {
        client.write(Chunks::from(page)).await?;
        client.shutdown_write().await?;
        client.read().await.map(drop)
    };
    let _ = timers.timeout(crate::proto::CLOSING_MS, told).await;
}

/// Talks HTTP/1 until the connection ends or becomes something else.
pub async fn converse(mut session: Session) -> Outcome {
    let limits = HeadLimits {
        head_size_max: session.services.config.http_head_size_max,
        headers_max: session.services.config.http_headers_max,
        line_len_max: session.services.config.http_line_max,
        mends: !session.services.config.validate_inbound_headers,
    };
    let mut talk = Talk {
        client: Inbox::default(),
        server: Inbox::default(),
        request: RequestHead::default(),
        response: ResponseHead::default(),
        limits,
        server_used: false,
        idempotent: false,
    };
    loop {
        let after = exchange(&mut session, &mut talk).await;
        let after = if session.services.draining.is_on() && matches!(after, After::Again) {
            After::Close
        } else {
            after
        };
        match after {
            After::Again => {}
            After::Close => break,
            After::Abort => {
                Box::pin(crate::proto::break_off(session)).await;
                return Outcome::Closed;
            }
            After::Tunnel => {
                session.client_io.unread(talk.client.take_all());
                session.way = Way::Tunnel;
                return Outcome::Next(session);
            }
            After::Raw => {
                session.client_io.unread(talk.client.take_all());
                if let Some(server) = &session.server_io {
                    server.unread(talk.server.take_all());
                }
                return Box::pin(tcp::relay(session, Layer::Tcp)).await;
            }
        }
    }
    Box::pin(crate::proto::end(session)).await;
    Outcome::Closed
}

async fn exchange(session: &mut Session, talk: &mut Talk) -> After {
    let length = match requests::await_head(session, talk).await {
        Ok(length) => length,
        Err(after) => {
            Asked::unread(session);
            return after;
        }
    };
    let method = talk.request.method.of(talk.client.peek());
    let _asked = Asked::begin(session, method);
    talk.idempotent = matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE");
    let route = match requests::route(session, talk, length) {
        Ok(route) => route,
        Err(refusal) => {
            let exchange = requests::refused(session, &talk.client.peek()[..length]);
            return refuse(session, exchange, refusal).await;
        }
    };
    if talk.request.connect && matches!(session.way, Way::Proxy) {
        return connect(session, talk, length, &route).await;
    }
    steer(session, talk, &route).await;
    let mut exchange =
        Exchange::begin(session, |now| requests::flow_request(session, talk, length, &route, now));
    requests::announce(session, talk, &exchange, length, &route);
    match requests::prepare(session, talk, &mut exchange, length, &route).await {
        Prepared::Send(outgoing) => send(session, talk, exchange, outgoing).await,
        Prepared::Answered => responses::answer_of_addon(session, talk, exchange).await,
        Prepared::Killed => killed(exchange).await,
        Prepared::Refused(refusal) => refuse(session, exchange, refusal).await,
    }
}

/// Points the session at the request's server: another one than before means another connection.
async fn steer(session: &mut Session, talk: &mut Talk, route: &Route) {
    if !matches!(session.way, Way::Proxy) {
        return;
    }
    let host = route.host(session);
    let is_there =
        session.server.address.as_ref().is_some_and(|(name, port)| name == host && *port == route.port);
    if is_there && session.server.tls == route.tls {
        return;
    }
    let host = host.to_owned();
    close_server(session).await;
    (talk.server, talk.server_used) = (Inbox::default(), false);
    *session.server_mut() = crate::flow::Server { id: uuid::Uuid::new_v4(), ..Default::default() };
    let server = session.server_mut();
    server.tls = route.tls;
    if route.tls {
        server.sni = Some(host.clone());
        server.alpn_offers = vec![b"http/1.1".to_vec()];
    }
    server.address = Some((host, route.port));
}

pub(super) async fn killed(exchange: Exchange) -> After {
    exchange.fail(KILLED_MESSAGE).await;
    After::Abort
}

/// Answers with an error of ours, and records that.
pub(super) async fn refuse(session: &Session, exchange: Exchange, refusal: Refusal) -> After {
    let after = refusal.answer(session).await;
    exchange.fail(&refusal.reason).await;
    after
}

/// RFC 9110 §9.3.6: a tunnel to the named server.
async fn connect(session: &mut Session, talk: &mut Talk, length: usize, route: &Route) -> After {
    let mut exchange =
        Exchange::tunnel(session, |now| requests::flow_request(session, talk, length, route, now));
    talk.client.take(length);
    steer(session, talk, route).await;
    match exchange.run(Hook::HttpConnect).await {
        Verdict::Go => {}
        Verdict::Answered => {
            let after = responses::answer_of_addon(session, talk, exchange).await;
            return if matches!(after, After::Again) { After::Close } else { after };
        }
        Verdict::Killed => return After::Abort,
    }
    if session.services.config.strategy == Strategy::Eager
        && let Err(error) = open_server(session).await
    {
        exchange.run(Hook::HttpConnectError).await;
        return Refusal::from(error).answer(session).await;
    }
    if session.write_client(&b"HTTP/1.1 200 Connection established\r\n\r\n"[..]).await.is_err() {
        return After::Close;
    }
    session.card.answered(200);
    exchange.run(Hook::HttpConnected).await;
    After::Tunnel
}

async fn send(session: &mut Session, talk: &mut Talk, mut exchange: Exchange, outgoing: Outgoing) -> After {
    if let Some(error) = session.server_error.take() {
        // TLS with the server failed before: this is where the client can read why
        return refuse(session, exchange, error.into()).await;
    }
    if session.server_io.as_ref().is_some_and(|server| is_stale(server, talk)) {
        close_server(session).await;
    }
    if session.server_io.is_none() {
        (talk.server, talk.server_used) = (Inbox::default(), false);
        if let Err(error) = open_server(session).await {
            session.server_error = None;
            return refuse(session, exchange, error.into()).await;
        }
    }
    exchange.refresh(session);
    // a kept connection may have been closed a moment ago: a request without a body can be sent again
    let again = (talk.server_used && outgoing.passage.is_done()).then(|| outgoing.first.clone());
    let (sent, head) = request_and_head(session, talk, &mut exchange, outgoing).await;
    match (head, again) {
        (Err(NoHead::Closed | NoHead::Broken(_)), Some(first)) if is_idempotent(talk) => {
            close_server(session).await;
            (talk.server, talk.server_used) = (Inbox::default(), false);
            if let Err(error) = open_server(session).await {
                session.server_error = None;
                return refuse(session, exchange, error.into()).await;
            }
            exchange.refresh(session);
            let tape = exchange.tape(Hook::Request, Size::Nothing);
            let passage = Passage::new(super::codec::BodyFraming::None, tape, None);
            let (sent, head) =
                request_and_head(session, talk, &mut exchange, Outgoing { first, passage }).await;
            finish(session, talk, exchange, sent, head).await
        }
        (head, _) => finish(session, talk, exchange, sent, head).await,
    }
}

/// The server has closed, or has said something on a kept connection before it was asked: that would pass for
/// the next answer (RFC 9112 §9.2 wants the connection closed).
fn is_stale(server: &Stream, talk: &Talk) -> bool {
    let unasked = talk.server_used && !server.is_quiet();
    unasked || !talk.server.peek().is_empty() || server.has_ended()
}

fn is_idempotent(talk: &Talk) -> bool {
    talk.request.framing == super::codec::BodyFraming::None && !talk.request.upgrade && talk.idempotent
}

/// How much of the request has reached the server when the response's head has come.
pub(super) enum Sent {
    /// All of it.
    Whole,
    /// Not all: the server answers while the client is still sending.
    Partly(Box<Passage>),
    /// It broke.
    Broken(Broken),
}

async fn finish(
    session: &mut Session,
    talk: &mut Talk,
    exchange: Exchange,
    sent: Sent,
    head: Result<usize, NoHead>,
) -> After {
    talk.server_used = true;
    match (head, sent) {
        (Ok(_), _) if talk.response.status == 101 && !talk.request.upgrade => {
            // what follows would pass both ways with nobody looking (RFC 9110 §7.8)
            close_server(session).await;
            let reason = "server switched protocols, which the client did not ask for".to_owned();
            refuse(session, exchange, Refusal { status: 502, reason }).await
        }
        (Ok(length), sent) => responses::relay(session, talk, exchange, sent, length).await,
        (Err(_), Sent::Broken(Broken::Sender(reason) | Broken::NoGoodbye(reason))) => {
            exchange.fail(&format!("client: {reason}")).await;
            close_server(session).await;
            After::Abort
        }
        (
            Err(_),
            Sent::Broken(
                broken @ (Broken::TooLarge | Broken::Framing(_) | Broken::Idle(_) | Broken::Transform(_)),
            ),
        ) => {
            close_server(session).await;
            let (status, reason) = (broken.request_status(), broken.reason("client", "server"));
            refuse(session, exchange, Refusal { status, reason }).await
        }
        (Err(no_head), _) => {
            let refusal = match no_head {
                NoHead::Unwanted => {
                    exchange.fail("client: connection closed").await;
                    close_server(session).await;
                    return After::Abort;
                }
                NoHead::Closed => {
                    Refusal { status: 502, reason: "server closed the connection without a response".into() }
                }
                NoHead::Truncated => Refusal {
                    status: 502,
                    reason: "server closed the connection inside the response's head".into(),
                },
                NoHead::Broken(error) | NoHead::BrokenInside(error) => {
                    Refusal { status: 502, reason: format!("server: {}", said(&error)) }
                }
                NoHead::OnlyInterim => Refusal {
                    status: 502,
                    reason: "server closed the connection after an interim response".into(),
                },
                NoHead::TooManyInterim => Refusal {
                    status: 502,
                    reason: format!("server sent more than {INTERIM_MAX} interim responses"),
                },
                NoHead::Refused(error) => {
                    Refusal { status: 502, reason: format!("server sent an invalid response: {error}") }
                }
                NoHead::Slow => Refusal {
                    status: 504,
                    reason: format!(
                        "no response within {} s (response_timeout)",
                        session.services.config.timeouts.response_ms / 1000
                    ),
                },
            };
            close_server(session).await;
            refuse(session, exchange, refusal).await
        }
    }
}

/// Sends the request and waits for the head of its response; the rest of a long body goes out meanwhile.
async fn request_and_head(
    session: &Session,
    talk: &mut Talk,
    exchange: &mut Exchange,
    outgoing: Outgoing,
) -> (Sent, Result<usize, NoHead>) {
    let Some(server) = &session.server_io else { return (Sent::Whole, Err(NoHead::Closed)) };
    let services = &session.services;
    let (timers, timeouts) = (&services.timers, &services.config.timeouts);
    let Outgoing { first, mut passage } = outgoing;
    if let Err(error) = session.write_in_time(server, first).await {
        return (Sent::Broken(Broken::Receiver(said(&error))), Err(NoHead::Broken(error)));
    }
    let interim_to = (talk.request.version == HttpVersion::Http11).then_some(&session.client_io);
    let facts = talk.request.request_facts();
    let mut head =
        pin!(final_head(&mut talk.server, server, &mut talk.response, facts, &talk.limits, interim_to));
    if !passage.is_through() {
        let result = {
            // dropped where it waits, it loses nothing: it is taken up again beside the response
            let upload = passage.pass(&mut talk.client, &session.client_io, server, timers, timeouts.idle_ms);
            tokio::select! {
                biased;
                uploaded = upload => Ok(uploaded),
                head = &mut head => Err(head),
            }
        };
        match result {
            Err(head) => return (Sent::Partly(Box::new(passage)), head),
            Ok(Ok(())) => {}
            // the server may have answered before it stopped listening
            Ok(Err(broken @ Broken::Receiver(_))) => {
                let head = timers.timeout(timeouts.tls_ms, head).await.unwrap_or(Err(NoHead::Slow));
                return (Sent::Broken(broken), head);
            }
            Ok(Err(broken)) => return (Sent::Broken(broken), Err(NoHead::Closed)),
        }
    }
    let trailers = passage.trailers();
    exchange.request_streamed(&mut passage.tape, trailers).await;
    if let Err(broken) = passage.end(exchange.request_trailers(), server, timers, timeouts.idle_ms).await {
        let head = timers.timeout(timeouts.tls_ms, head).await.unwrap_or(Err(NoHead::Slow));
        return (Sent::Broken(broken), head);
    }
    let waiting = async {
        tokio::select! {
            biased;
            head = &mut head => head,
            () = gone(&session.client_io) => Err(NoHead::Unwanted),
        }
    };
    let head = timers.timeout(timeouts.response_ms, waiting).await.unwrap_or(Err(NoHead::Slow));
    (Sent::Whole, head)
}

/// Runs a hook; a client that is reset while an addon holds the exchange ends it.
pub(super) async fn run_hook(session: &Session, exchange: &mut Exchange, hook: Hook) -> Verdict {
    tokio::select! {
        biased;
        verdict = exchange.run(hook) => verdict,
        () = gone(&session.client_io) => Verdict::Killed,
    }
}

/// Ends when the client's connection breaks. One that is only half closed still wants its answer.
pub(super) async fn gone(client: &Stream) {
    if client.peek(1).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// The head of the response; interim ones (RFC 9110 §15.2) pass by.
async fn final_head(
    inbox: &mut Inbox,
    server: &Stream,
    response: &mut ResponseHead,
    request: super::codec::RequestFacts,
    limits: &HeadLimits,
    interim_to: Option<&Stream>,
) -> Result<usize, NoHead> {
    for count in 0..=INTERIM_MAX {
        let length = match inbox.response_head(server, response, request, limits).await {
            Err(NoHead::Closed) if count > 0 => return Err(NoHead::OnlyInterim),
            Err(NoHead::Broken(error)) if count > 0 => return Err(NoHead::BrokenInside(error)),
            head => head?,
        };
        if !response.interim {
            return Ok(length);
        }
        let interim = inbox.take(length);
        if let Some(client) = interim_to {
            client.write(Chunks::from(interim)).await.map_err(|_| NoHead::Unwanted)?;
        }
    }
    Err(NoHead::TooManyInterim)
}

/// Interim responses before the final one.
const INTERIM_MAX: usize = 100;

/// The usual words for the statuses we answer with.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Bad Gateway",
    }
}
