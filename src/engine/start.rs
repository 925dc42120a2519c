//! Starting, running, ending.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use thiserror::Error;
use tokio::sync::mpsc;

use super::control::Control;
use super::measure::{Gauge, Pulse};
use super::outbox::{Backlog, Wanted};
use super::oversee::{Overseer, oversee};
use super::upgrade::{Inheritance, Listener, Program};
use super::{Show, ToWorker, flows, worker};
use crate::ca::{Authority, CaError, LeafCache, Origin};
use crate::clock::Clock;
use crate::config::{Config, ModeSpec, Workers};
use crate::connect::{Policy, SharedPolicy, SourceAddrs, SourceError};
use crate::flow::Flow;
use crate::hooks::AddonFactory;
use crate::proto::tls::{TlsSetup, TlsSetupError};
use crate::ring::runtime::Busy;
use crate::ring::{cpu, handover, ifaces, probe, process, sockopt};

/// `SO_MARK` of our connections to servers; redirect rules leave them alone.
pub(super) const UPSTREAM_MARK: u32 = 0x5254_0000;
/// Descriptors for everything but sessions.
const FDS_RESERVED: u64 = 128;
/// Descriptors of one session: the client's and the server's.
const FDS_PER_SESSION: u64 = 2;
/// Messages that may wait for a worker.
const MAILBOX_MAX: usize = 64;

/// Why ringtap does not start. One line that names the thing and its mend.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The machine lacks something.
    #[error("{0}")]
    Unfit(#[from] probe::Unfit),
    /// A right is missing.
    #[error(
        "mode transparent needs CAP_NET_ADMIN (its upstream connections are marked, so that redirect rules leave them alone): run as root, or 'setcap cap_net_admin,cap_net_bind_service+ep' on the binary, or AmbientCapabilities= in the unit"
    )]
    NetAdmin,
    /// A listener.
    #[error("cannot listen on {addr} (mode {mode}): {reason}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// For whom.
        mode: String,
        /// Why not, and the mend.
        reason: String,
    },
    /// The metrics' listener.
    #[error("option 'metrics_addr': cannot listen on {addr}: {reason}")]
    Metrics {
        /// Where.
        addr: SocketAddr,
        /// Why not, and the mend.
        reason: String,
    },
    /// The CA.
    #[error("{0}")]
    Ca(#[from] CaError),
    /// TLS.
    #[error("{0}")]
    Tls(#[from] TlsSetupError),
    /// The addresses to connect from.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The control socket.
    #[error("control socket {}: {reason}", path.display())]
    Control {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The recording.
    #[error("{0}")]
    Sink(String),
    /// A worker did not come up.
    #[error("worker {id} could not start: {reason}")]
    Worker {
        /// Which.
        id: usize,
        /// Why not.
        reason: String,
    },
    /// Taking over from another process.
    #[error("taking over from the running ringtap: {0}")]
    Takeover(io::Error),
    /// Something of the system's.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Runs until a signal or the control socket says otherwise, then drains. Finished flows are shown by `show`, on a
/// thread of its own.
///
/// # Errors
/// Why it did not start.
pub fn run(config: Config, addons: Vec<AddonFactory>, show: Option<Show>) -> Result<(), EngineError> {
    let mut inheritance = Inheritance::claim().map_err(EngineError::Takeover)?;
    let ended = serve(config, addons, show, &mut inheritance);
    if let (Err(error), Some(inheritance)) = (&ended, &mut inheritance) {
        inheritance.refuse(&error.to_string());
    }
    ended
}

fn serve(
    config: Config,
    addons: Vec<AddonFactory>,
    show: Option<Show>,
    inheritance: &mut Option<Inheritance>,
) -> Result<(), EngineError> {
    let program = Program::this()?;
    probe::check()?;
    let fds = process::raise_fd_limit();
    if config.has_transparent() && !process::has_net_admin() {
        return Err(EngineError::NetAdmin);
    }
    let clock = Clock::real();
    let config = Arc::new(config);
    let tls = TlsSetup::new(&config)?;
    let leaves = Arc::new(open_authority(&config, &clock)?);
    let local = ifaces::addresses();
    let sources = open_sources(&config, &local)?;
    let policy = Policy::new(&config, local);
    policy.set_sources(sources.clone());
    let goes_on = |path: &str| inheritance.as_ref().is_some_and(|held| held.records_to(path));
    let sinks = flows::Sinks::open(&config, show, goes_on).map_err(EngineError::Sink)?;
    let store = sinks.store.clone();
    let events = sinks.events.clone();
    let backlog = Arc::new(Backlog::default());
    let wanted = Wanted::new(backlog.clone(), sinks.wanted());
    let (sender, receiver) = std::sync::mpsc::sync_channel(flows::BATCHES_MAX);
    let flows_thread = flows::spawn(sinks, receiver, backlog.clone())?;

    let (bound, listeners) = bind_all(&config, worker_count(&config), &policy, inheritance)?;
    let open_total = Arc::default();
    let plan = Plan {
        sessions_max: sessions_max(&config, fds),
        sources,
        accepts: inheritance.is_none(),
        open_total: Arc::clone(&open_total),
        clock: clock.clone(),
        policy: policy.clone(),
        leaves,
        tls,
        backlog,
        flows: sender,
        addons: Arc::new(addons),
        config: config.clone(),
    };
    let metrics = bind_metrics(&config, &policy, inheritance.is_some())?;
    let (leaves, backlog, sessions_max) = (plan.leaves.clone(), plan.backlog.clone(), plan.sessions_max);
    let started = start_workers(plan, bound)?;
    let gauge = Gauge {
        config: config.clone(),
        leaves,
        backlog,
        pulse: Pulse::new(started.busy, clock.clone()),
        sessions_max,
        started: clock.unix(),
        last: RefCell::default(),
    };
    if let Some(inheritance) = inheritance {
        inheritance.await_turn().map_err(EngineError::Takeover)?;
    }
    let (control, upgrades) = Control::new(started.mailboxes, store, events, wanted, gauge);
    let overseer = Overseer { config, control, policy, clock, open_total, program, listeners, metrics };
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(tokio::task::LocalSet::new().run_until(oversee(overseer, upgrades, inheritance)));
    for thread in started.threads {
        let _ = thread.join();
    }
    let _ = flows_thread.join();
    ended
}

fn worker_count(config: &Config) -> usize {
    match config.workers {
        Workers::All => cpu::allowed().len(),
        Workers::Count(n) => n,
    }
}

/// What all workers are made from.
struct Plan {
    sessions_max: usize,
    sources: SourceAddrs,
    accepts: bool,
    open_total: Arc<AtomicUsize>,
    clock: Clock,
    policy: SharedPolicy,
    leaves: Arc<LeafCache>,
    tls: TlsSetup,
    backlog: Arc<Backlog>,
    flows: SyncSender<Vec<Flow>>,
    addons: Arc<Vec<AddonFactory>>,
    config: Arc<Config>,
}

/// Workers that run.
struct Started {
    mailboxes: Vec<mpsc::Sender<ToWorker>>,
    busy: Vec<Busy>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts a worker for each set of listeners, one after the other.
fn start_workers(plan: Plan, bound: Vec<Bound>) -> Result<Started, EngineError> {
    let cpus = cpu::allowed();
    let count = bound.len();
    plan.policy.set_nested_max((plan.sessions_max / 2).max(1));
    let mut started = Started { mailboxes: Vec::new(), busy: Vec::new(), threads: Vec::new() };
    let (ready, readiness) = std::sync::mpsc::channel();
    for (id, listeners) in bound.into_iter().enumerate() {
        let (mailbox, incoming) = mpsc::channel(MAILBOX_MAX);
        started.mailboxes.push(mailbox);
        let plan = worker::Plan {
            id,
            workers: count,
            cpu: cpus.get(id % cpus.len().max(1)).copied().filter(|_| count <= cpus.len()),
            config: plan.config.clone(),
            listeners,
            accepts: plan.accepts,
            open_total: plan.open_total.clone(),
            sessions_max: plan.sessions_max,
            mark: plan.config.has_transparent().then_some(UPSTREAM_MARK),
            clock: plan.clock.clone(),
            sources: plan.sources.clone(),
            policy: plan.policy.clone(),
            leaves: plan.leaves.clone(),
            tls: plan.tls.clone(),
            backlog: plan.backlog.clone(),
            flows: plan.flows.clone(),
            addons: plan.addons.clone(),
            mailbox: incoming,
            ready: ready.clone(),
        };
        let thread =
            std::thread::Builder::new().name(format!("ringtap-{id}")).spawn(move || worker::run(plan))?;
        started.threads.push(thread);
        match readiness.recv() {
            Ok(Ok(account)) => started.busy.push(account),
            Ok(Err(error)) => return Err(EngineError::Worker { id, reason: error.to_string() }),
            Err(_) => {}
        }
    }
    Ok(started)
}

/// The addresses that connections to servers leave from.
fn open_sources(config: &Config, local: &[(IpAddr, u8)]) -> Result<SourceAddrs, EngineError> {
    let sources = SourceAddrs::of(&config.connect_addr, local, sockopt::can_bind)?;
    if !config.connect_addr.is_empty() {
        let (v4, v6) = sources.counts();
        tracing::info!(
            "connections to servers leave from {v4} IPv4 and {v6} IPv6 addresses ('connect_addr')"
        );
    }
    Ok(sources)
}

fn open_authority(config: &Config, clock: &Clock) -> Result<LeafCache, EngineError> {
    let (authority, opened) = Authority::open_or_create(&config.confdir, clock.unix())?;
    match opened.origin {
        Origin::Created => tracing::info!(
            "created a CA: {}; clients must trust {}",
            opened.file.display(),
            config.confdir.join("ringtap-ca-cert.pem").display()
        ),
        Origin::Ringtap => {}
        Origin::Mitmproxy => tracing::info!("using mitmproxy's CA {}", opened.file.display()),
    }
    for warning in &opened.unwritten {
        tracing::warn!("{warning}");
    }
    Ok(LeafCache::new(Arc::new(authority), config.leaf_cache_max)?)
}

fn sessions_max(config: &Config, fds: u64) -> usize {
    let by_fds = usize::try_from(fds.saturating_sub(FDS_RESERVED) / FDS_PER_SESSION).unwrap_or(usize::MAX);
    match config.connections_max {
        0 => by_fds,
        wanted => {
            if wanted > by_fds {
                tracing::warn!(
                    "connections_max={wanted}, but the limit of open files ({fds}) allows {by_fds}: raise it with 'ulimit -n' or LimitNOFILE="
                );
            }
            wanted.min(by_fds)
        }
    }
}

type Bound = Vec<(Arc<ModeSpec>, OwnedFd)>;

/// Every mode's listeners, one of each for every worker; and all of them, to be handed on.
fn bind_all(
    config: &Config,
    workers: usize,
    policy: &SharedPolicy,
    inheritance: &mut Option<Inheritance>,
) -> Result<(Vec<Bound>, Vec<Listener>), EngineError> {
    let mut bound: Vec<Bound> = (0..workers).map(|_| Vec::new()).collect();
    let mut all = Vec::new();
    if !config.server {
        return Ok((bound, all));
    }
    for mode in &config.modes {
        let mode = Arc::new(mode.clone());
        let transparent = mode.target == crate::config::Target::Transparent;
        let addrs = config.listen_addrs(&mode);
        let mut served = 0;
        for addr in &addrs {
            match listeners(*addr, transparent, workers, inheritance.as_mut()) {
                Ok(fds) => {
                    served += 1;
                    // a worker may have several of one address: there were more workers before
                    for (fd, worker) in fds.into_iter().zip((0..workers).cycle()) {
                        all.push(Listener { addr: *addr, transparent, fd: fd.try_clone()? });
                        bound[worker].push((mode.clone(), fd));
                    }
                    policy.add_listen(*addr);
                    tracing::info!("listening on {addr} (mode {mode})");
                }
                // a machine without IPv6 still serves IPv4
                Err(e) if addr.is_ipv6() && addrs.len() > 1 && process::lacks_address(&e) => {}
                Err(e) => {
                    return Err(EngineError::Listen {
                        addr: *addr,
                        mode: mode.to_string(),
                        reason: listen_reason(&e, *addr),
                    });
                }
            }
        }
        if served == 0 {
            let reason = "this machine has neither IPv4 nor IPv6".to_owned();
            return Err(EngineError::Listen { addr: addrs[0], mode: mode.to_string(), reason });
        }
    }
    Ok((bound, all))
}

/// The sockets that listen there: those handed to us, and new ones for workers that would have none. As long as another
/// process serves, new ones are only bound: who waits in the queue of a socket that never serves would be lost.
fn listeners(
    addr: SocketAddr,
    transparent: bool,
    workers: usize,
    inheritance: Option<&mut Inheritance>,
) -> io::Result<Vec<OwnedFd>> {
    let serves_already = inheritance.is_none();
    let mut fds = match inheritance {
        Some(inheritance) => inheritance.take_listeners(addr, transparent)?,
        None => Vec::new(),
    };
    if fds.is_empty() {
        sockopt::check_free(addr)?;
    }
    while fds.len() < workers {
        fds.push(match serves_already {
            true => sockopt::listen(addr, transparent)?,
            false => handover::bind(addr, transparent)?,
        });
    }
    Ok(fds)
}

/// Where metrics are served, if anywhere; clients never get there through us.
fn bind_metrics(
    config: &Config,
    policy: &SharedPolicy,
    takes_over: bool,
) -> Result<Option<std::net::TcpListener>, EngineError> {
    let Some(addr) = config.metrics_addr.filter(|_| config.server) else { return Ok(None) };
    let failed = |error: io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("the port is in use ('ss -ltnp sport = :{}' shows by whom)", addr.port())
            }
            _ => listen_reason(&error, addr),
        };
        EngineError::Metrics { addr, reason }
    };
    if !takes_over {
        sockopt::check_free(addr).map_err(failed)?;
    }
    // shared with the process that we take over from, until that is gone
    let listener = std::net::TcpListener::from(sockopt::listen(addr, false).map_err(failed)?);
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr().map_err(failed)?;
    policy.add_own(addr);
    tracing::info!("metrics at http://{addr}/metrics");
    if !addr.ip().is_loopback() {
        tracing::warn!(
            "option 'metrics_addr': {addr} is not a loopback address: whoever reaches it reads the metrics, without a password"
        );
    }
    Ok(Some(listener))
}

fn listen_reason(error: &io::Error, addr: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse if error.raw_os_error().is_none() => error.to_string(),
        io::ErrorKind::AddrInUse => format!(
            "the port is in use: another process listens there ('ss -ltnp sport = :{}' shows which): stop it, or choose another --listen-port",
            addr.port()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "no right to port {}: run as root, or 'setcap cap_net_bind_service+ep' on the binary, or AmbientCapabilities= in the unit",
            addr.port()
        ),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".into(),
        _ => error.to_string(),
    }
}
