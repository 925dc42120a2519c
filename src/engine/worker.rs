//! One pinned thread with its rings: accepts, serves, and answers the control thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

use super::outbox::{BATCH_MS, Backlog, WorkerOutbox};
use super::{ListenerReport, SessionReport, ToWorker, WorkerReport, measure};
use crate::ca::LeafCache;
use crate::clock::{Clock, TICK_MS, Timers};
use crate::config::{Config, ModeSpec, Target};
use crate::connect::{Connector, Failure, SharedPolicy, SourceAddrs, SourceTurns};
use crate::flow::Flow;
use crate::hooks::{AddonFactory, Chain};
use crate::mode;
use crate::proto::budget::Budget;
use crate::proto::session::{Card, count};
use crate::proto::tls::{TlsContexts, TlsSetup};
use crate::proto::{Counters, Drain, Services};
use crate::ring::runtime::Busy;
use crate::ring::{ConnectOptions, Ring, RingOptions, TcpListener, TcpStream, runtime, sockopt, spawn};

/// Buffers a session may hold at once: one on its way in each direction, and one more queued to be sent.
const BUFFERS_PER_SESSION: usize = 4;
/// Lent to the kernel, and for answers of our own.
const BUFFERS_SPARE: usize = 64 + 256;
/// Unused buffers kept: 9 MB, enough for bursts.
const BUFFERS_IDLE_MAX: usize = 512;
/// Sessions named in one report.
const REPORTED_MAX: usize = 500;
/// After an accept failed for want of descriptors or memory.
const ACCEPT_PAUSE_MS: u64 = 100;
/// Sessions that were killed get this long to end.
const KILLED_MS: u64 = 500;

/// All a worker needs to begin.
pub(super) struct Plan {
    pub(super) id: usize,
    /// How many there are.
    pub(super) workers: usize,
    pub(super) cpu: Option<usize>,
    pub(super) config: Arc<Config>,
    pub(super) listeners: Vec<(Arc<ModeSpec>, OwnedFd)>,
    /// Accept at once; else when told.
    pub(super) accepts: bool,
    /// Open sessions of all workers, and the most there may be.
    pub(super) open_total: Arc<AtomicUsize>,
    pub(super) sessions_max: usize,
    pub(super) mark: Option<u32>,
    pub(super) clock: Clock,
    pub(super) sources: SourceAddrs,
    pub(super) policy: SharedPolicy,
    pub(super) leaves: Arc<LeafCache>,
    pub(super) tls: TlsSetup,
    pub(super) backlog: Arc<Backlog>,
    pub(super) flows: SyncSender<Vec<Flow>>,
    pub(super) addons: Arc<Vec<AddonFactory>>,
    pub(super) mailbox: mpsc::Receiver<ToWorker>,
    pub(super) ready: std::sync::mpsc::Sender<io::Result<Busy>>,
}

struct Worker {
    id: usize,
    ring: Ring,
    services: Rc<Services>,
    outbox: Rc<WorkerOutbox>,
    open: Cell<usize>,
    open_total: Arc<AtomicUsize>,
    sessions_max: usize,
    cards: RefCell<HashMap<Uuid, Rc<Card>>>,
    /// Listeners, and the connections each of them took.
    taken: Vec<Taken>,
    /// Whether listeners are to accept.
    gate: watch::Sender<bool>,
    /// Listeners that do.
    accepting: Cell<usize>,
    paused: Notify,
}

/// A listener, for reports.
struct Taken {
    mode: &'static str,
    listener: String,
    count: Cell<u64>,
}

/// Runs a worker on this thread until it is drained.
pub(super) fn run(plan: Plan) {
    if let Some(cpu) = plan.cpu
        && let Err(error) = crate::ring::cpu::pin(cpu)
    {
        tracing::warn!("worker {} cannot be pinned to processor {cpu}: {error}", plan.id);
    }
    let options = RingOptions {
        buffers_max: plan.sessions_max * BUFFERS_PER_SESSION + BUFFERS_SPARE,
        buffers_idle_max: BUFFERS_IDLE_MAX,
        ..RingOptions::default()
    };
    let ready = plan.ready.clone();
    if let Err(error) = runtime::run(options, |ring| serve(plan, ring)) {
        // nobody listens any more if it had begun well
        let _ = ready.send(Err(error));
    }
}

async fn serve(plan: Plan, ring: Ring) {
    let Plan { ready, listeners, mut mailbox, .. } = plan;
    let timers = Timers::new(plan.clock);
    let outbox = WorkerOutbox::new(plan.backlog, plan.flows, plan.config.recorder_queue_max);
    let addons = plan.addons.iter().map(|make| make(plan.id)).collect();
    let services = Rc::new(Services {
        chain: Chain::new(addons, timers.clone(), plan.config.timeouts.hook_ms),
        connector: Connector::new(
            ring.clone(),
            ConnectOptions {
                mark: plan.mark,
                receive_max: sockopt::receive_limit(plan.config.socket_receive_max),
                bind: None,
            },
            SourceTurns::new(plan.sources, plan.id),
        ),
        policy: plan.policy,
        leaves: plan.leaves,
        tls: TlsContexts::new(plan.tls),
        pool: ring.pool(),
        outbox: outbox.clone(),
        kept_bodies: Budget::new(plan.config.flow_bodies_max / plan.workers.max(1)),
        collected_bodies: Budget::new(plan.config.collect_budget / plan.workers.max(1)),
        draining: Drain::default(),
        counters: Counters::default(),
        config: plan.config,
        timers,
    });
    let listeners: Vec<_> =
        listeners.into_iter().map(|(mode, fd)| (mode, TcpListener::new(&ring, fd))).collect();
    let worker = Rc::new(Worker {
        id: plan.id,
        ring,
        services,
        outbox,
        open: Cell::new(0),
        open_total: plan.open_total,
        sessions_max: plan.sessions_max,
        cards: RefCell::default(),
        taken: listeners.iter().map(|(mode, listener)| taken(mode, listener)).collect(),
        gate: watch::Sender::new(plan.accepts),
        accepting: Cell::new(0),
        paused: Notify::new(),
    });
    spawn(tick(worker.services.timers.clone()));
    spawn(empty_outbox(worker.outbox.clone()));
    for (at, (mode, listener)) in listeners.into_iter().enumerate() {
        spawn(accept(worker.clone(), mode, listener, at));
    }
    let _ = ready.send(Ok(Busy::here()));
    drop(ready);
    while let Some(message) = mailbox.recv().await {
        match message {
            ToWorker::Ping(answer) => drop(answer.send(())),
            ToWorker::Report { sessions, answer } => drop(answer.send(worker.report(sessions))),
            ToWorker::Accept { on, done } => {
                worker.set_accepting(on).await;
                let _ = done.send(());
            }
            ToWorker::Shed => worker.ring.shed(),
            ToWorker::Announce => worker.services.draining.announce(),
            ToWorker::Kill { id, done } => drop(done.send(worker.kill(id))),
            ToWorker::Drain { within_ms } => {
                worker.drain(within_ms).await;
                return;
            }
        }
    }
}

/// Ends waits that are over: sleeps until the next is due, and no longer than it must.
async fn tick(timers: Rc<Timers>) {
    loop {
        let due = std::future::poll_fn(|cx| timers.poll_earlier_than(u64::MAX, cx)).await;
        let wait = due.saturating_sub(timers.clock().now_ms()).max(TICK_MS);
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(wait)) => timers.expire(),
            _ = std::future::poll_fn(|cx| timers.poll_earlier_than(due, cx)) => {}
        }
    }
}

async fn empty_outbox(outbox: Rc<WorkerOutbox>) {
    loop {
        outbox.filling().await;
        tokio::time::sleep(std::time::Duration::from_millis(BATCH_MS)).await;
        outbox.flush();
    }
}

fn taken(mode: &ModeSpec, listener: &TcpListener) -> Taken {
    let mode = match mode.target {
        Target::Regular => "regular",
        Target::Transparent => "transparent",
        Target::Reverse { .. } => "reverse",
    };
    let listener = listener.local_addr().map_or_else(|_| String::new(), |addr| addr.to_string());
    Taken { mode, listener, count: Cell::new(0) }
}

/// Accepts while the gate is open. `at` is the listener's place among those that are reported.
async fn accept(worker: Rc<Worker>, mode: Arc<ModeSpec>, listener: TcpListener, at: usize) {
    let services = worker.services.clone();
    let mut gate = worker.gate.subscribe();
    loop {
        tokio::select! {
            biased;
            () = services.draining.started() => return,
            open = gate.wait_for(|open| *open) => if open.is_err() { return },
        }
        if let Err(error) = sockopt::start_listening(listener.as_fd()) {
            tracing::error!("worker {} cannot listen: {error}", worker.id);
        }
        worker.accepting.set(worker.accepting.get() + 1);
        tokio::select! {
            biased;
            () = take_all(&worker, &mode, &listener, at) => {}
            () = services.draining.started() => {}
            _ = gate.wait_for(|open| !*open) => {}
        }
        listener.pause().await;
        while let Some(accepted) = listener.accepted() {
            if let Ok(tcp) = accepted {
                admit(&worker, &mode, tcp, at);
            }
        }
        worker.accepting.set(worker.accepting.get() - 1);
        worker.paused.notify_one();
    }
}

/// Takes every connection that comes. Dropped in between, it loses none.
async fn take_all(worker: &Rc<Worker>, mode: &Arc<ModeSpec>, listener: &TcpListener, at: usize) {
    loop {
        match listener.accept().await {
            Ok(tcp) => admit(worker, mode, tcp, at),
            Err(error) => {
                let counters = &worker.services.counters;
                count(match Failure::of(&error) {
                    Failure::Descriptors => &counters.accept_no_descriptors,
                    _ => &counters.accept_errors,
                });
                tracing::warn!("accepting failed: {error}");
                worker.services.timers.sleep(ACCEPT_PAUSE_MS).await;
            }
        }
    }
}

/// Starts a session, if there is room for one.
fn admit(worker: &Rc<Worker>, mode: &Arc<ModeSpec>, tcp: TcpStream, at: usize) {
    let permit = Permit::take(worker);
    if worker.open_total.load(Ordering::Relaxed) > worker.sessions_max {
        count(&worker.services.counters.connections_refused);
        tcp.reset_on_close();
        return;
    }
    count(&worker.services.counters.connections);
    count(&worker.taken[at].count);
    spawn(session(worker.clone(), mode.clone(), tcp, permit));
}

async fn session(worker: Rc<Worker>, mode: Arc<ModeSpec>, tcp: TcpStream, permit: Permit) {
    // boxed: what it needs is not needed while the session lives
    let session = match Box::pin(mode::enter(&mode, tcp, &worker.services)).await {
        Ok(session) => session,
        Err(mode::NotTaken::Gone(_)) => return,
        Err(refused) => {
            let counters = &worker.services.counters;
            match &refused {
                mode::NotTaken::Refused(refusal) => counters.refused(refusal),
                _ => count(&counters.direct_refused),
            }
            tracing::warn!("connection refused: {refused}");
            return;
        }
    };
    let card = session.card.clone();
    worker.cards.borrow_mut().insert(card.id, card.clone());
    let _listed = Listed { worker: worker.clone(), id: card.id };
    let talk = Box::pin(crate::proto::run(session));
    tokio::select! {
        biased;
        () = card.killed() => {}
        () = talk => {}
    }
    drop(permit);
}

impl Worker {
    fn report(&self, with_sessions: bool) -> WorkerReport {
        let counters = &self.services.counters;
        let facts = self.ring.facts();
        let (client, server) = (&facts.client, &facts.server);
        let listeners = self.taken.iter().map(|taken| ListenerReport {
            mode: taken.mode.to_owned(),
            listener: taken.listener.clone(),
            taken: taken.count.get(),
        });
        WorkerReport {
            worker: self.id,
            pid: std::process::id(),
            connections_open: self.open.get(),
            buffers_in_use: self.ring.buffers_in_use(),
            ring_ops: self.ring.ops_in_flight(),
            ring_overflows: facts.cq_overflows.get(),
            ring_sq_full: facts.sq_full.get(),
            ring_enobufs: facts.enobufs.get(),
            spliced_bytes: facts.spliced.get(),
            up: true,
            busy_seconds: 0.0,
            busy_ratio: 0.0,
            listeners: listeners.collect(),
            pools: measure::pools(&self.ring),
            bytes: [&client.received, &client.sent, &server.received, &server.sent].map(Cell::get),
            answers: counters.answered.by_class(),
            samples: measure::samples(counters, &self.ring),
            counters: counters.all().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            sessions: if with_sessions { self.sessions() } else { Vec::new() },
        }
    }

    /// Open sessions, the newest first.
    fn sessions(&self) -> Vec<SessionReport> {
        let mut cards: Vec<_> = self.cards.borrow().values().cloned().collect();
        cards.sort_by(|a, b| b.since.total_cmp(&a.since));
        let newest = cards.into_iter().take(REPORTED_MAX).map(|card| SessionReport {
            id: card.id.to_string(),
            client: card.client.map(|addr| addr.to_string()).unwrap_or_default(),
            mode: card.mode.clone(),
            since: card.since,
            flow: card.under_way().map(|(id, line)| (id.to_string(), line)),
        });
        newest.collect()
    }

    /// Opens or closes the gate; when this ends, every listener has heard.
    async fn set_accepting(&self, on: bool) {
        self.gate.send_replace(on);
        while !on && self.accepting.get() > 0 {
            self.paused.notified().await;
        }
    }

    fn kill(&self, id: Option<Uuid>) -> usize {
        let cards = self.cards.borrow();
        let chosen = cards.values().filter(|card| id.is_none_or(|id| id == card.id));
        chosen.map(|card| card.kill()).count()
    }

    async fn drain(&self, within_ms: u64) {
        self.services.draining.start();
        self.wait_for_end(within_ms).await;
        if self.open.get() > 0 {
            tracing::info!("worker {}: {} sessions did not end in time", self.id, self.open.get());
            self.kill(None);
            self.wait_for_end(KILLED_MS).await;
        }
        self.outbox.flush();
    }

    async fn wait_for_end(&self, within_ms: u64) {
        let clock = self.services.clock();
        let deadline = clock.now_ms() + within_ms;
        while self.open.get() > 0 && clock.now_ms() < deadline {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// A session's place among the open ones.
struct Permit(Rc<Worker>);

impl Permit {
    fn take(worker: &Rc<Worker>) -> Self {
        worker.open.set(worker.open.get() + 1);
        worker.open_total.fetch_add(1, Ordering::Relaxed);
        Self(worker.clone())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.open_total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A session's entry in the list.
struct Listed {
    worker: Rc<Worker>,
    id: Uuid,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.worker.cards.borrow_mut().remove(&self.id);
    }
}
