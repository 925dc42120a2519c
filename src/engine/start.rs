//! Starting, running, ending.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::control::{self, Control};
use super::heart::{BEAT, Heart};
use super::measure::{Gauge, Pulse};
use super::outbox::{Backlog, Wanted};
use super::slack::Slack;
use super::{Show, ToWorker, flows, metrics_http, worker};
use crate::ca::{Authority, CaError, LeafCache, Origin};
use crate::clock::Clock;
use crate::config::{Config, ModeSpec, Workers};
use crate::connect::{Policy, SharedPolicy, SourceAddrs, SourceError};
use crate::hooks::AddonFactory;
use crate::proto::tls::{TlsSetup, TlsSetupError};
use crate::ring::runtime::Busy;
use crate::ring::{cpu, ifaces, probe, process, sockopt};

/// `SO_MARK` of our connections to servers; redirect rules leave them alone.
pub(super) const UPSTREAM_MARK: u32 = 0x5254_0000;
/// Descriptors for everything but sessions.
const FDS_RESERVED: u64 = 128;
/// Descriptors of one session: the client's and the server's.
const FDS_PER_SESSION: u64 = 2;
/// Messages that may wait for a worker.
const MAILBOX_MAX: usize = 64;
/// How often the machine's own addresses are looked up again.
const ADDRESSES_EVERY: u32 = 20;

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
    let sinks = flows::Sinks::open(&config, show).map_err(EngineError::Sink)?;
    let store = sinks.store.clone();
    let events = sinks.events.clone();
    let backlog = Arc::new(Backlog::default());
    let wanted = Wanted::new(backlog.clone(), sinks.wanted());
    let (sender, receiver) = std::sync::mpsc::sync_channel(flows::BATCHES_MAX);
    let flows_thread = flows::spawn(sinks, receiver, backlog.clone())?;

    let cpus = cpu::allowed();
    let count = match config.workers {
        Workers::All => cpus.len(),
        Workers::Count(n) => n,
    };
    let listeners = bind_all(&config, count, &policy)?;
    let metrics = bind_metrics(&config, &policy)?;
    let sessions_max = sessions_max(&config, fds);
    policy.set_nested_max((sessions_max / 2).max(1));
    let open_total = Arc::<AtomicUsize>::default();
    let addons = Arc::new(addons);
    let started = start_workers(listeners, |id, listeners, mailbox, ready| worker::Plan {
        id,
        workers: count,
        cpu: cpus.get(id % cpus.len().max(1)).copied().filter(|_| count <= cpus.len()),
        config: config.clone(),
        listeners,
        open_total: open_total.clone(),
        sessions_max,
        mark: config.has_transparent().then_some(UPSTREAM_MARK),
        clock: clock.clone(),
        sources: sources.clone(),
        policy: policy.clone(),
        leaves: leaves.clone(),
        tls: tls.clone(),
        backlog: backlog.clone(),
        flows: sender.clone(),
        addons: addons.clone(),
        mailbox,
        ready,
    })?;
    drop(sender);
    let gauge = Gauge {
        config: config.clone(),
        leaves,
        backlog,
        pulse: Pulse::new(started.busy, clock.clone()),
        sessions_max,
        started: clock.unix(),
        last: RefCell::default(),
    };
    let control = Control::new(started.mailboxes, store, events, wanted, gauge);
    let ended = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(
        tokio::task::LocalSet::new().run_until(oversee(
            &config,
            control,
            &policy,
            &clock,
            &open_total,
            metrics,
        )),
    );
    for thread in started.threads {
        let _ = thread.join();
    }
    let _ = flows_thread.join();
    ended
}

/// Workers that run.
struct Started {
    mailboxes: Vec<mpsc::Sender<ToWorker>>,
    busy: Vec<Busy>,
    threads: Vec<JoinHandle<()>>,
}

type Ready = std::sync::mpsc::Sender<io::Result<Busy>>;

/// Starts one worker after the other.
fn start_workers(
    listeners: Vec<Bound>,
    plan: impl Fn(usize, Bound, mpsc::Receiver<ToWorker>, Ready) -> worker::Plan,
) -> Result<Started, EngineError> {
    let mut started = Started { mailboxes: Vec::new(), busy: Vec::new(), threads: Vec::new() };
    let (ready, readiness) = std::sync::mpsc::channel();
    for (id, listeners) in listeners.into_iter().enumerate() {
        let (mailbox, incoming) = mpsc::channel(MAILBOX_MAX);
        started.mailboxes.push(mailbox);
        let plan = plan(id, listeners, incoming, ready.clone());
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

/// Every mode's listeners, one of each for every worker.
fn bind_all(config: &Config, workers: usize, policy: &SharedPolicy) -> Result<Vec<Bound>, EngineError> {
    let mut bound: Vec<Bound> = (0..workers).map(|_| Vec::new()).collect();
    if !config.server {
        return Ok(bound);
    }
    for mode in &config.modes {
        let mode = Arc::new(mode.clone());
        let transparent = mode.target == crate::config::Target::Transparent;
        let addrs = config.listen_addrs(&mode);
        let mut served = 0;
        for addr in &addrs {
            match bind(*addr, transparent, &mut bound, &mode) {
                Ok(()) => {
                    served += 1;
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
    Ok(bound)
}

fn bind(addr: SocketAddr, transparent: bool, bound: &mut [Bound], mode: &Arc<ModeSpec>) -> io::Result<()> {
    sockopt::check_free(addr)?;
    for worker in bound {
        worker.push((mode.clone(), sockopt::listen(addr, transparent)?));
    }
    Ok(())
}

/// Where metrics are served, if anywhere; clients never get there through us.
fn bind_metrics(
    config: &Config,
    policy: &SharedPolicy,
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
    let listener = metrics_http::listen(addr).map_err(failed)?;
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

/// The control thread's work until the end.
async fn oversee(
    config: &Config,
    control: Rc<Control>,
    policy: &SharedPolicy,
    clock: &Clock,
    open: &AtomicUsize,
    metrics: Option<std::net::TcpListener>,
) -> Result<(), EngineError> {
    if let Some(listener) = metrics {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::task::spawn_local(metrics_http::serve(listener, control.clone()));
    }
    let _socket = match &config.control_socket {
        Some(path) if config.server => {
            let (listener, file) = control::listen(path)
                .map_err(|e| EngineError::Control { path: path.clone(), reason: e.to_string() })?;
            tokio::task::spawn_local(control::serve(listener, control.clone()));
            Some(file)
        }
        _ => None,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let ports: Vec<u16> =
        config.modes.iter().map(|mode| mode.listen_port.unwrap_or(config.listen_port)).collect();
    let mut heart = Heart::new(if config.has_transparent() { &ports } else { &[] });
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    control.tell(clock.unix(), "started");
    let (mut count, mut slack) = (0, Slack::default());
    loop {
        tokio::select! {
            _ = beats.tick() => {
                count += 1;
                if count % ADDRESSES_EVERY == 0 {
                    policy.set_local(ifaces::addresses());
                }
                control.gauge.pulse.look();
                heart.beat(&control.workers).await;
                if slack.is_worth_it(open.load(Ordering::Relaxed)) {
                    process::give_back_memory();
                }
            }
            _ = hangup.recv() => tracing::info!("SIGHUP: nothing in this configuration is reloadable yet"),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = control.drain.notified() => break,
        }
    }
    tracing::info!("finishing what is under way (at most {} s)", config.timeouts.drain_ms / 1000);
    control.tell(clock.unix(), "draining");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    heart.stop();
    for worker in &control.workers {
        let _ = worker.send(ToWorker::Drain { within_ms: config.timeouts.drain_ms }).await;
    }
    // a second signal ends the waiting
    let gone = async {
        for worker in &control.workers {
            worker.closed().await;
        }
    };
    tokio::select! {
        () = gone => {}
        _ = terminate.recv() => std::process::exit(1),
        _ = interrupt.recv() => std::process::exit(130),
    }
    Ok(())
}
