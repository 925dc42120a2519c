//! One client connection, accept to close, and what a conversation may use on its core.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::buf::{BlockPool, Chunks};
use crate::ca::LeafCache;
use crate::clock::{Clock, Timers};
use crate::config::{Config, ReverseScheme};
use crate::connect::{Connector, Origin, SharedPolicy, UpstreamMark};
use crate::flow::{Client, Error, Flow, Layer, Server};
use crate::hooks::Chain;
use crate::stream::Stream;

use super::budget::Budget;
pub use super::counters::{Counters, count};
use super::counters::{HttpProto, MethodLabel};
use super::tls::TlsContexts;

/// What a conversation may use on its core.
pub struct Services {
    /// The operator's wishes.
    pub config: Arc<Config>,
    /// Addons.
    pub chain: Chain,
    /// Waits.
    pub timers: Rc<Timers>,
    /// The way out.
    pub connector: Connector,
    /// What may be reached.
    pub policy: SharedPolicy,
    /// Mints leaves.
    pub leaves: Arc<LeafCache>,
    /// TLS configurations, ready made.
    pub tls: TlsContexts,
    /// Where buffers come from.
    pub pool: Rc<BlockPool>,
    /// Where finished flows go.
    pub outbox: Rc<dyn Outbox>,
    /// What flows under way may keep for recorders.
    pub kept_bodies: Rc<Budget>,
    /// What bodies that are collected for addons may take.
    pub collected_bodies: Rc<Budget>,
    /// Set at shutdown: finish what is under way, begin nothing.
    pub draining: Drain,
    /// What happened, counted.
    pub counters: Counters,
}

impl Services {
    /// The time.
    pub fn clock(&self) -> &Clock {
        self.timers.clock()
    }

    /// Unix seconds.
    pub fn now(&self) -> f64 {
        self.clock().unix()
    }
}

/// Takes finished flows; never waits.
pub trait Outbox {
    /// Whether anybody wants finished flows: otherwise none are built.
    fn wanted(&self) -> bool;
    /// A flow has ended.
    fn deliver(&self, flow: Flow);
    /// So many flows wait that more may soon be lost.
    fn is_pressed(&self) -> bool {
        false
    }
}

/// Tells sessions that the end is near.
#[derive(Default)]
pub struct Drain {
    announced: Cell<bool>,
    on: Cell<bool>,
    notify: Notify,
}

impl Drain {
    /// Ask clients to come back on a new connection, and go on serving those that do not: responses say
    /// `Connection: close` (RFC 9112 §9.6), so that no request meets a connection that is being closed.
    pub fn announce(&self) {
        self.announced.set(true);
    }

    /// Whether clients are asked to come back on a new connection.
    pub fn is_announced(&self) -> bool {
        self.announced.get()
    }

    /// Finish what is under way.
    pub fn start(&self) {
        self.on.set(true);
        self.notify.notify_waiters();
    }

    /// Whether it has started.
    pub fn is_on(&self) -> bool {
        self.on.get()
    }

    /// Ends when it starts.
    pub async fn started(&self) {
        if !self.on.get() {
            self.notify.notified().await;
        }
    }
}

/// What others may see and do of a session while it lives.
pub struct Card {
    /// The client connection's id.
    pub id: Uuid,
    /// Who.
    pub client: Option<SocketAddr>,
    /// The mode it came by.
    pub mode: String,
    /// Accepted, Unix seconds.
    pub since: f64,
    doing: RefCell<Doing>,
    /// What the client was answered last; 0: nothing yet.
    status: Cell<u16>,
    kill: Notify,
}

impl Card {
    /// A session's card.
    pub fn of(client: &Client) -> Rc<Self> {
        Rc::new(Self {
            id: client.id,
            client: client.peername,
            mode: client.proxy_mode.clone(),
            since: client.timestamp_start,
            doing: RefCell::default(),
            status: Cell::new(0),
            kill: Notify::new(),
        })
    }

    /// An exchange begins. `host` may be empty if the target is absolute.
    pub fn begin(&self, flow: Option<Uuid>, method: &[u8], scheme: &'static str, host: &[u8], target: &[u8]) {
        let cut = |bytes: &[u8]| bytes.len().min(DOING_MAX);
        let mut doing = self.doing.borrow_mut();
        doing.flow = flow;
        doing.scheme = scheme;
        doing.line.clear();
        doing.line.extend_from_slice(&method[..cut(method)]);
        doing.method = doing.line.len();
        doing.line.extend_from_slice(&target[..cut(target)]);
        doing.host.clear();
        doing.host.extend_from_slice(&host[..cut(host)]);
    }

    /// Nothing is under way any more.
    pub fn done(&self) {
        self.doing.borrow_mut().line.clear();
    }

    /// What is under way: the flow's id, or the session's if no flow is built, and a line for people.
    pub fn under_way(&self) -> Option<(Uuid, String)> {
        let doing = self.doing.borrow();
        if doing.line.is_empty() {
            return None;
        }
        let (method, target) = doing.line.split_at(doing.method);
        let mut line = String::from_utf8_lossy(method).into_owned();
        line.push(' ');
        if target.starts_with(b"/") || target == b"*" {
            line.push_str(doing.scheme);
            line.push_str("://");
            line.push_str(&String::from_utf8_lossy(&doing.host));
        }
        line.push_str(&String::from_utf8_lossy(target));
        Some((doing.flow.unwrap_or(self.id), line))
    }

    /// The client is answered with this status.
    pub fn answered(&self, status: u16) {
        self.status.set(status);
    }

    /// Ends the session where it stands.
    pub fn kill(&self) {
        self.kill.notify_one();
    }

    /// Ends when the session is to end.
    pub async fn killed(&self) {
        self.kill.notified().await;
    }
}

/// An HTTP/1 request under way: counted, with what the client was answered, when this is dropped.
pub struct Asked {
    services: Rc<Services>,
    card: Rc<Card>,
    method: MethodLabel,
    begun_us: u64,
}

impl Asked {
    /// A request's head has come.
    pub fn begin(session: &Session, method: &[u8]) -> Self {
        let services = session.services.clone();
        count(&services.counters.requests);
        count(&services.counters.under_way.http);
        let begun_us = services.clock().now_us();
        session.card.answered(0);
        Self { services, card: session.card.clone(), method: MethodLabel::of(method), begun_us }
    }

    /// No head that can be understood has come: counted if the client was told so.
    pub fn unread(session: &Session) {
        let status = session.card.status.replace(0);
        if status > 0 {
            count(&session.services.counters.requests);
            session.services.counters.answered.count(HttpProto::Http1, MethodLabel::of(b""), status);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let counters = &self.services.counters;
        counters.under_way.http.set(counters.under_way.http.get() - 1);
        counters.answered.count(HttpProto::Http1, self.method, self.card.status.replace(0));
        counters.request_time.record_us(self.services.clock().now_us().saturating_sub(self.begun_us));
    }
}

/// The exchange under way, as the client asked for it. Its room is used again by the session's next exchange.
#[derive(Default)]
struct Doing {
    flow: Option<Uuid>,
    /// Method and target as they came, cut to [`DOING_MAX`]; empty: nothing is under way.
    line: Vec<u8>,
    /// The length of `line` that is the method.
    method: usize,
    scheme: &'static str,
    /// Ours if the target names no host.
    host: Vec<u8>,
}

/// Bytes kept of what a client asked for, and of the host it named.
const DOING_MAX: usize = 512;

/// How the client came to us: what the first bytes may be, and who chose the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// An explicit proxy: requests name their destination.
    Proxy,
    /// Inside a CONNECT tunnel.
    Tunnel,
    /// Redirected here.
    Transparent,
    /// To a fixed server.
    Reverse(ReverseScheme),
}

/// One client connection, accept to close.
pub struct Session {
    /// Facts about the client's side.
    pub client: Arc<Client>,
    /// Facts about the server's side.
    pub server: Arc<Server>,
    /// How the client came.
    pub way: Way,
    /// The client's bytes.
    pub client_io: Stream,
    /// The server's bytes, once connected.
    pub server_io: Option<Stream>,
    /// Why the server is out of reach, once that was tried.
    pub server_error: Option<ServerError>,
    /// What may be used here.
    pub services: Rc<Services>,
    /// Layers so far, for logs.
    pub trail: LayerTrail,
    /// What others see of it.
    pub card: Rc<Card>,
    /// The server's connection is known as ours while this is held.
    pub upstream_mark: Option<UpstreamMark>,
}

/// What comes after a layer.
#[expect(clippy::large_enum_variant, reason = "it is moved once per layer, never stored")]
pub enum Outcome {
    /// The session is over.
    Closed,
    /// Ask again what is next.
    Next(Session),
}

/// Why a server cannot be used, and what to tell an HTTP client.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerError {
    /// 403, 502 or 504.
    pub status: u16,
    /// What a person reads.
    pub reason: String,
}

impl ServerError {
    /// The server is at fault.
    pub fn bad_gateway(reason: impl Into<String>) -> Self {
        Self { status: 502, reason: reason.into() }
    }

    /// The server is too slow.
    pub fn timeout(reason: impl Into<String>) -> Self {
        Self { status: 504, reason: reason.into() }
    }

    /// It may not be reached.
    pub fn forbidden(reason: impl Into<String>) -> Self {
        Self { status: 403, reason: reason.into() }
    }
}

impl Session {
    /// A session that begins. The destination is `server.address`, if the way in knows it.
    pub fn new(client: Client, server: Server, way: Way, client_io: Stream, services: Rc<Services>) -> Self {
        Self {
            card: Card::of(&client),
            client: Arc::new(client),
            server: Arc::new(server),
            way,
            client_io,
            server_io: None,
            server_error: None,
            services,
            trail: LayerTrail::default(),
            upstream_mark: None,
        }
    }

    /// Who chose where this session goes.
    pub fn origin(&self) -> Origin {
        match (self.way, self.client.peername) {
            (Way::Transparent, _) => Origin::Redirect,
            (Way::Reverse(_), _) | (_, None) => Origin::Operator,
            (Way::Proxy | Way::Tunnel, Some(client)) => Origin::Request { client },
        }
    }

    /// Changes facts about the client. Flows that hold the old ones keep them.
    pub fn client_mut(&mut self) -> &mut Client {
        Arc::make_mut(&mut self.client)
    }

    /// Changes facts about the server. Flows that hold the old ones keep them.
    pub fn server_mut(&mut self) -> &mut Server {
        Arc::make_mut(&mut self.server)
    }

    /// `host:port` of the destination, for messages.
    pub fn destination_text(&self) -> String {
        match &self.server.address {
            Some((host, port)) if host.contains(':') => format!("[{host}]:{port}"),
            Some((host, port)) => format!("{host}:{port}"),
            None => "an unknown destination".into(),
        }
    }

    /// Writes to the client, who must not take for ever to make room.
    ///
    /// # Errors
    /// The connection's error, or that the client takes no data.
    pub async fn write_client(&self, chunks: impl Into<Chunks>) -> io::Result<()> {
        self.write_in_time(&self.client_io, chunks.into()).await
    }

    /// Writes to one side, which must not take for ever to make room.
    ///
    /// # Errors
    /// The connection's error, or that the peer takes no data.
    pub async fn write_in_time(&self, to: &Stream, chunks: Chunks) -> io::Result<()> {
        let idle_ms = self.services.config.timeouts.idle_ms;
        let written = self.services.timers.timeout(idle_ms, to.write(chunks)).await;
        written.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "takes no data")))
    }

    /// The error as flows record it.
    pub fn flow_error(&self, msg: impl Into<String>) -> Error {
        Error { msg: msg.into(), timestamp: self.services.now() }
    }
}

/// The layers a session went through: `tls > h1`.
#[derive(Clone, Debug, Default)]
pub struct LayerTrail(Vec<Layer>);

impl LayerTrail {
    /// A layer begins.
    pub fn enter(&mut self, layer: Layer) {
        self.0.push(layer);
    }

    /// Layers so far.
    pub fn depth(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Display for LayerTrail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, layer) in self.0.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { " > " }, layer.as_str())?;
        }
        Ok(())
    }
}
