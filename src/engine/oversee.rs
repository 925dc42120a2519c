//! The control thread's work: signs of life, signals, upgrades, and the end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::control::{self, Asked, Control, SocketFile};
use super::heart::{BEAT, Heart};
use super::slack::{Relief, Slack};
use super::start::EngineError;
use super::upgrade::{Inheritance, Listener, Program, Successor};
use super::{ToWorker, metrics_http};
use crate::clock::Clock;
use crate::config::Config;
use crate::connect::SharedPolicy;
use crate::ring::{ifaces, process};

/// How often the machine's own addresses are looked up again.
const ADDRESSES_EVERY: u32 = 20;
/// How long connections that are still open when the drain is over may take to say goodbye.
const GOODBYE_MS: u64 = 2_000;
/// How long workers may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How often it is looked whether a process that was replaced has nothing left to do.
const LEFT: Duration = Duration::from_millis(50);

/// All that the control thread looks after.
pub(super) struct Overseer {
    pub(super) config: Arc<Config>,
    pub(super) control: Rc<Control>,
    pub(super) policy: SharedPolicy,
    pub(super) clock: Clock,
    /// Open sessions of all workers.
    pub(super) open_total: Arc<AtomicUsize>,
    pub(super) program: Program,
    /// Every listening socket. Each is held until the drain: a socket listens until its last holder is gone.
    pub(super) listeners: Vec<Listener>,
    /// Where metrics are served.
    pub(super) metrics: Option<std::net::TcpListener>,
}

/// The control socket while it is ours.
struct Door {
    listener: UnixListener,
    /// The same socket, to be handed on.
    socket: OwnedFd,
    file: SocketFile,
    inherited: bool,
}

/// Why the work is over.
enum End {
    /// Somebody wished it.
    Asked,
    /// Another process serves.
    Replaced {
        successor: Box<Successor>,
        /// It has the control socket.
        has_door: bool,
        asked: Asked,
    },
}

/// What asks us to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Ends with the exit code of a second signal.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => 1,
            _ = self.interrupt.recv() => 130,
        }
    }
}

/// The control thread's work until the end.
pub(super) async fn oversee(
    mut overseer: Overseer,
    mut upgrades: mpsc::Receiver<Asked>,
    inheritance: &mut Option<Inheritance>,
) -> Result<(), EngineError> {
    let mut signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let hangup = signal(SignalKind::hangup())?;
    let mut care = Care { heart: overseer.heart(), hangup, slack: Slack::default() };
    let metrics = match overseer.metrics.take() {
        Some(listener) => {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            Some(tokio::task::spawn_local(metrics_http::serve(listener, overseer.control.clone())))
        }
        None => None,
    };
    let door = overseer.door(inheritance.as_mut())?;
    if let Some(inheritance) = inheritance.take() {
        overseer.accept(true).await;
        // the rules hear of us before the process before us falls silent
        care.heart.beat(&overseer.control.workers).await;
        inheritance.serving(door.as_ref().is_some_and(|door| door.inherited));
        tracing::info!("took over from the ringtap that ran before");
    }
    let (handle, file, serving) = match door {
        Some(Door { listener, socket, file, .. }) => {
            let serving = tokio::task::spawn_local(control::serve(listener, overseer.control.clone()));
            (Some(socket), Some(file), Some(serving))
        }
        None => (None, None, None),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    overseer.control.tell(overseer.clock.unix(), "started");
    let path = file.as_ref().map(SocketFile::path);
    let door = path.zip(handle.as_ref());
    let end = overseer.work(&mut care, &mut signals, &mut upgrades, door).await;
    // whoever asks from here on asks too late
    drop(upgrades);
    let (within_ms, _file) = match end {
        End::Asked => {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            care.heart.stop();
            (overseer.config.timeouts.drain_ms, file)
        }
        End::Replaced { successor, has_door, asked } => {
            serving.inspect(JoinHandle::abort);
            metrics.inspect(JoinHandle::abort);
            drop(handle);
            let file = file.and_then(|file| if has_door { file.leave() } else { Some(file) });
            (overseer.retire(*successor, asked, &mut signals).await, file)
        }
    };
    overseer.drain(within_ms, &mut signals).await;
    Ok(())
}

/// What is looked after all the time.
struct Care {
    heart: Heart,
    hangup: Signal,
    slack: Slack,
}

impl Overseer {
    fn heart(&self) -> Heart {
        let config = &self.config;
        let ports = config.modes.iter().map(|mode| mode.listen_port.unwrap_or(config.listen_port));
        let ports: Vec<u16> = if config.has_transparent() { ports.collect() } else { Vec::new() };
        Heart::new(&ports)
    }

    /// The control socket: the one handed to us, if the configuration still names its path.
    fn door(&self, inheritance: Option<&mut Inheritance>) -> Result<Option<Door>, EngineError> {
        let Some(path) = self.config.control_socket.as_ref().filter(|_| self.config.server) else {
            return Ok(None);
        };
        let open = || -> io::Result<Door> {
            if let Some(fd) = inheritance.and_then(|held| held.take_control(path)) {
                let socket = fd.try_clone()?;
                let listener = UnixListener::from_std(fd.into())?;
                return Ok(Door { listener, socket, file: SocketFile::of(path), inherited: true });
            }
            let (listener, file) = control::listen(path)?;
            let socket = listener.as_fd().try_clone_to_owned()?;
            Ok(Door { listener, socket, file, inherited: false })
        };
        open().map(Some).map_err(|e| EngineError::Control { path: path.clone(), reason: e.to_string() })
    }

    /// Until somebody wishes the end, or another process has taken over.
    async fn work(
        &self,
        care: &mut Care,
        signals: &mut Signals,
        upgrades: &mut mpsc::Receiver<Asked>,
        door: Option<(&Path, &OwnedFd)>,
    ) -> End {
        let control = self.control.clone();
        loop {
            let asked = tokio::select! {
                biased;
                _ = signals.next() => return End::Asked,
                () = control.drain.notified() => return End::Asked,
                Some(asked) = upgrades.recv() => asked,
                () = self.attend(care) => continue,
            };
            tracing::info!("another process is to take over");
            let upgrade = self.upgrade(door);
            let outcome = tokio::select! {
                biased;
                _ = signals.next() => return End::Asked,
                () = control.drain.notified() => return End::Asked,
                outcome = upgrade => outcome,
                () = self.attend(care) => continue,
            };
            match outcome {
                Ok((successor, has_door)) => return End::Replaced { successor, has_door, asked },
                Err(reason) => {
                    self.accept(true).await;
                    tracing::error!("no other process took over: {reason}; this one goes on");
                    let _ = asked.send(Err(format!("not upgraded: {reason}; the running ringtap goes on")));
                }
            }
        }
    }

    /// Another process, to the point where it serves; else it is gone.
    async fn upgrade(&self, door: Option<(&Path, &OwnedFd)>) -> Result<(Box<Successor>, bool), String> {
        let door = door.map(|(path, socket)| (path, socket.as_fd()));
        let recording = self.config.save_stream_file.as_deref();
        let mut successor = Successor::raise(&self.program, &self.listeners, door, recording).await?;
        self.accept(false).await;
        let has_door = successor.take_over().await?;
        Ok((Box::new(successor), has_door))
    }

    /// Signs of life, for ever.
    async fn attend(&self, care: &mut Care) {
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = 0;
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    count += 1;
                    if count % ADDRESSES_EVERY == 0 {
                        self.policy.set_local(ifaces::addresses());
                    }
                    self.control.gauge.pulse.look();
                    care.heart.beat(&self.control.workers).await;
                    match care.slack.look(self.open_total.load(Ordering::Relaxed)) {
                        Relief::Nothing => {}
                        Relief::GiveBack => process::give_back_memory(),
                        Relief::Shed => {
                            for worker in &self.control.workers {
                                let _ = worker.try_send(ToWorker::Shed);
                            }
                        }
                    }
                }
                _ = care.hangup.recv() => tracing::info!("SIGHUP: nothing in this configuration is reloadable yet"),
            }
        }
    }

    /// Lets all workers accept, or none of them.
    async fn accept(&self, on: bool) {
        for worker in &self.control.workers {
            let (done, answer) = oneshot::channel();
            if worker.send(ToWorker::Accept { on, done }).await.is_ok()
                && tokio::time::timeout(ANSWER, answer).await.is_err()
            {
                tracing::error!("a worker does not answer");
            }
        }
    }

    /// Another process serves: clients are asked to go there. When nobody is left, or none may stay any longer, says how
    /// long the rest may take.
    async fn retire(&mut self, mut successor: Successor, asked: Asked, signals: &mut Signals) -> u64 {
        let pid = successor.pid();
        let _ = sd_notify::notify(&[sd_notify::NotifyState::MainPid(pid)]);
        successor.release().await;
        self.listeners.clear();
        let drain_ms = self.config.timeouts.drain_ms;
        let note = format!(
            "process {pid} has taken over; process {} finishes what is under way (at most {} s)",
            std::process::id(),
            drain_ms / 1000
        );
        tracing::info!("{note}");
        self.control.tell(self.clock.unix(), note.clone());
        let _ = asked.send(Ok(note));
        for worker in &self.control.workers {
            let _ = worker.send(ToWorker::Announce).await;
        }
        let gone = async {
            while self.open_total.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(LEFT).await;
            }
        };
        tokio::select! {
            () = gone => GOODBYE_MS,
            () = tokio::time::sleep(Duration::from_millis(drain_ms)) => GOODBYE_MS,
            _ = signals.next() => drain_ms,
        }
    }

    /// Lets workers finish what is under way.
    async fn drain(&mut self, within_ms: u64, signals: &mut Signals) {
        tracing::info!("finishing what is under way (at most {} s)", within_ms / 1000);
        self.control.tell(self.clock.unix(), "draining");
        self.listeners.clear();
        for worker in &self.control.workers {
            let _ = worker.send(ToWorker::Drain { within_ms }).await;
        }
        let gone = async {
            for worker in &self.control.workers {
                worker.closed().await;
            }
        };
        // a second signal ends the waiting
        tokio::select! {
            () = gone => {}
            code = signals.next() => std::process::exit(code),
        }
    }
}
