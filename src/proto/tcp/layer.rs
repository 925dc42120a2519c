//! Bytes in both directions until both sides have ended: half-close is kept, messages are shown to whoever
//! wants them.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::buf::Chunk;
use crate::config::Splice;
use crate::flow::{Flow, FlowMeta, Layer, TcpFlow, TcpMessage};
use crate::hooks::{Hook, Hooks, Subject};
use crate::proto::budget::Charge;
use crate::proto::server::open_server;
use crate::proto::session::{Outcome, Services, Session, count};
use crate::stream::Stream;

/// Bytes that a recorded conversation keeps: what comes after is relayed, not kept.
const RECORDED_MAX: usize = 4 << 20;

/// Relays to the end.
pub async fn relay(mut session: Session, layer: Layer) -> Outcome {
    count(&session.services.counters.tcp_conversations);
    let _under_way = Talking::begin(&session.services);
    if let Err(error) = open_server(&mut session).await {
        let mut tape = Tape::of(&session, layer);
        tape.finish(&session, Err(error.reason)).await;
        session.client_io.reset_on_close();
        crate::proto::end(session).await;
        return Outcome::Closed;
    }
    let mut tape = Tape::of(&session, layer);
    let result = match tape.begin(&session).await {
        Ok(()) => converse(&session, &tape).await,
        Err(killed) => Err(Cut::from(killed)),
    };
    let whole = result.is_ok();
    tape.finish(&session, result.map_err(|cut| tell(&session, cut))).await;
    if whole {
        crate::proto::end(session).await;
    } else {
        crate::proto::break_off(session).await;
    }
    Outcome::Closed
}

/// A conversation under way: counted as such until this is dropped.
struct Talking(Rc<Services>);

impl Talking {
    fn begin(services: &Rc<Services>) -> Self {
        count(&services.counters.under_way.tcp);
        Self(services.clone())
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        let open = &self.0.counters.under_way.tcp;
        open.set(open.get() - 1);
    }
}

/// Why a conversation ended before its end.
struct Cut {
    reason: String,
    /// One side reset it: the other is to meet the same, for nothing else tells it that something is missing.
    reset: bool,
}

impl From<String> for Cut {
    fn from(reason: String) -> Self {
        Self { reason, reset: false }
    }
}

impl Cut {
    fn of(who: &str, error: &io::Error) -> Self {
        let reset = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        Self { reason: format!("{who}: {}", broken(error)), reset }
    }
}

/// Sees to it that both sides will notice; gives the reason.
fn tell(session: &Session, cut: Cut) -> String {
    if cut.reset {
        session.client_io.reset_on_close();
        if let Some(server) = &session.server_io {
            server.reset_on_close();
        }
    }
    cut.reason
}

async fn converse(session: &Session, tape: &Tape) -> Result<(), Cut> {
    let Some(server) = &session.server_io else { return Ok(()) };
    let services = &session.services;
    let beat = Cell::new(services.clock().now_ms());
    let short =
        Shortcut { mode: services.config.tcp_splice, seen: tape.flow.is_some(), here: OnceCell::new() };
    let up = one_way(&session.client_io, server, tape, true, &beat, &short);
    let down = one_way(server, &session.client_io, tape, false, &beat, &short);
    let both = async { tokio::try_join!(up, down).map(drop) };
    tokio::select! {
        result = both => result,
        () = silence(services, &beat) => {
            Err(format!("no byte for {} s (tcp_timeout)", services.config.timeouts.idle_ms / 1000).into())
        }
    }
}

/// Ends when nothing has moved for too long.
async fn silence(services: &Services, beat: &Cell<u64>) {
    let limit = services.config.timeouts.idle_ms;
    loop {
        let silent = services.clock().now_ms().saturating_sub(beat.get());
        if silent >= limit {
            return;
        }
        services.timers.sleep(limit - silent).await;
    }
}

/// When bytes go past us.
struct Shortcut {
    mode: Splice,
    /// Somebody records the conversation or listens to it.
    seen: bool,
    /// Both peers are on this machine: asked once, if at all.
    here: OnceCell<bool>,
}

impl Shortcut {
    /// Whether the kernel is to move what comes next by itself.
    fn pays(&self, from: &Stream, to: &Stream) -> bool {
        if self.seen || self.mode == Splice::Off || !from.can_splice_to(to) {
            return false;
        }
        // through an interface, a move was dearer than a copy where it was measured
        self.mode == Splice::On || *self.here.get_or_init(|| from.peer_is_here() && to.peer_is_here())
    }
}

async fn one_way(
    from: &Stream,
    to: &Stream,
    tape: &Tape,
    from_client: bool,
    beat: &Cell<u64>,
    short: &Shortcut,
) -> Result<(), Cut> {
    let services = &*tape.services;
    let who = if from_client { "client" } else { "server" };
    loop {
        let chunk = from.read().await.map_err(|e| Cut::of(who, &e))?;
        if chunk.is_empty() {
            // the other direction may go on
            let _ = to.shutdown_write().await;
            return Ok(());
        }
        beat.set(services.clock().now_ms());
        let Some(chunk) = tape.message(services, from_client, chunk).await? else { continue };
        let other = if from_client { "server" } else { "client" };
        to.write(chunk).await.map_err(|e| Cut::of(other, &e))?;
        beat.set(services.clock().now_ms());
        if short.pays(from, to) {
            let moved = || beat.set(services.clock().now_ms());
            from.splice_to(to, moved).await.map_err(|e| Cut::of(other, &e))?;
        }
    }
}

fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::BrokenPipe => "connection closed".into(),
        _ => error.to_string(),
    }
}

/// The flow of a conversation, if anybody wants it. The mutex never leaves its task: it makes one direction
/// wait while addons look at the other's message.
struct Tape {
    flow: Option<Mutex<TcpFlow>>,
    recorded: Cell<usize>,
    charge: RefCell<Charge>,
    services: Rc<Services>,
}

impl Tape {
    fn of(session: &Session, layer: Layer) -> Self {
        let services = &session.services;
        let wanted = services.chain.wants().intersects(Hooks::TCP) || services.outbox.wanted();
        let flow = (wanted && layer == Layer::Tcp).then(|| {
            let meta =
                FlowMeta::new(Arc::clone(&session.client), Arc::clone(&session.server), services.now());
            Mutex::new(TcpFlow { meta, messages: Vec::new(), killed: false })
        });
        let charge = RefCell::new(Charge::on(&services.kept_bodies));
        Self { flow, recorded: Cell::new(0), charge, services: services.clone() }
    }

    async fn begin(&self, session: &Session) -> Result<(), String> {
        let Some(flow) = &self.flow else { return Ok(()) };
        let mut flow = flow.lock().await;
        session.services.chain.run(Hook::TcpStart, Subject::Tcp(&mut flow)).await;
        if flow.killed { Err(crate::flow::KILLED_MESSAGE.into()) } else { Ok(()) }
    }

    /// Shows a message to whoever wants it; gives what is to be sent on, if anything.
    async fn message(
        &self,
        services: &Services,
        from_client: bool,
        chunk: Chunk,
    ) -> Result<Option<Chunk>, String> {
        let Some(flow) = &self.flow else { return Ok(Some(chunk)) };
        let listened = services.chain.wants().contains(Hook::TcpMessage);
        let full =
            self.recorded.get() + chunk.len() > RECORDED_MAX || !self.charge.borrow_mut().grow(chunk.len());
        if !listened && full {
            return Ok(Some(chunk));
        }
        self.recorded.set(self.recorded.get() + chunk.len());
        let message = TcpMessage { from_client, content: chunk.to_bytes(), timestamp: services.now() };
        // while addons work on one message, the other direction's next waits: they are shown in order
        let mut flow = flow.lock().await;
        flow.messages.push(message);
        if !listened {
            return Ok(Some(chunk));
        }
        let at = flow.messages.len() - 1;
        services.chain.run(Hook::TcpMessage, Subject::Tcp(&mut flow)).await;
        if flow.killed {
            return Err(crate::flow::KILLED_MESSAGE.into());
        }
        let content = flow.messages.get(at).map(|message| message.content.clone()).unwrap_or_default();
        Ok((!content.is_empty()).then(|| content.into()))
    }

    async fn finish(&mut self, session: &Session, result: Result<(), String>) {
        let Some(flow) = self.flow.as_mut().map(Mutex::get_mut) else { return };
        flow.meta.live = false;
        let hook = match result {
            Ok(()) => Hook::TcpEnd,
            Err(reason) => {
                flow.meta.error = Some(session.flow_error(reason));
                Hook::TcpError
            }
        };
        session.services.chain.run(hook, Subject::Tcp(flow)).await;
        self.deliver();
    }

    fn deliver(&mut self) {
        if let Some(flow) = self.flow.take() {
            self.services.outbox.deliver(Flow::Tcp(Box::new(flow.into_inner())));
        }
    }
}

impl Drop for Tape {
    /// A session that is killed is dropped where it stands: its flow still reaches the recorders.
    fn drop(&mut self) {
        if let Some(flow) = self.flow.as_mut().map(Mutex::get_mut)
            && flow.meta.live
        {
            let timestamp = self.services.now();
            flow.meta.error = Some(crate::flow::Error { msg: crate::flow::KILLED_MESSAGE.into(), timestamp });
            flow.meta.live = false;
        }
        self.deliver();
    }
}
