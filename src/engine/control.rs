//! The control socket: one JSON object a line, one or more lines in answer. Mode 0600: whoever may open it may
//! see and end everything.

use std::cell::Cell;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use super::measure::Gauge;
use super::outbox::Wanted;
use super::{GatewayReport, SessionReport, ToWorker, WorkerReport};
use crate::flow::Flow;
use crate::ring::process;
use crate::store::FlowStore;

/// Longest request.
const REQUEST_MAX: u64 = 64 * 1024;
/// How long a request may take to come: a silent peer must not keep others out.
const REQUEST_TIME: std::time::Duration = std::time::Duration::from_secs(5);
/// Connections to the socket at once.
const PEERS_MAX: usize = 32;
/// How long workers may take to answer.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(2);

/// What may be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Request {
    /// Finished flows, the newest first, and open sessions.
    Flows {
        /// At most so many.
        limit: usize,
    },
    /// Everything from now on, a line each.
    Events,
    /// End sessions.
    Kill {
        /// A session's id; none: all.
        id: Option<String>,
    },
    /// Finish what is under way and exit.
    Drain,
    /// Hand over to a new process of the program now on disk, then drain.
    Upgrade,
    /// What the workers do.
    Workers,
}

/// A line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// A finished flow.
    Flow {
        /// UUID.
        id: String,
        /// `http` or `tcp`.
        protocol: String,
        /// Who.
        client: String,
        /// What, in one line.
        summary: String,
        /// Unix seconds.
        created: f64,
        /// What went wrong, if something did.
        error: Option<String>,
    },
    /// A worker's state.
    Worker(Box<WorkerReport>),
    /// What all workers share.
    Gateway(Box<GatewayReport>),
    /// Something happened.
    Event {
        /// Unix seconds.
        at: f64,
        /// What.
        text: String,
    },
    /// Done; how many things it concerned.
    Done {
        /// Count.
        count: usize,
        /// Something worth knowing.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Not done.
    Error {
        /// Why.
        reason: String,
    },
}

/// What the socket can reach.
pub(super) struct Control {
    pub(super) workers: Vec<mpsc::Sender<ToWorker>>,
    pub(super) store: Option<Arc<Mutex<FlowStore>>>,
    pub(super) events: broadcast::Sender<Reply>,
    pub(super) drain: Rc<Notify>,
    pub(super) gauge: Gauge,
    /// Events that readers were too slow for.
    pub(super) events_lost: Cell<u64>,
    /// Whoever asks for an upgrade hears here what came of it.
    upgrades: mpsc::Sender<Asked>,
    wanted: Arc<Wanted>,
}

/// Somebody who asked for an upgrade.
pub(super) type Asked = oneshot::Sender<Result<String, String>>;

impl Control {
    pub(super) fn new(
        workers: Vec<mpsc::Sender<ToWorker>>,
        store: Option<Arc<Mutex<FlowStore>>>,
        events: broadcast::Sender<Reply>,
        wanted: Arc<Wanted>,
        gauge: Gauge,
    ) -> (Rc<Self>, mpsc::Receiver<Asked>) {
        let (upgrades, asked) = mpsc::channel(1);
        let (drain, events_lost) = (Rc::new(Notify::new()), Cell::new(0));
        (Rc::new(Self { workers, store, events, drain, gauge, events_lost, upgrades, wanted }), asked)
    }

    /// Tells everybody who listens to events.
    pub(super) fn tell(&self, at: f64, text: impl Into<String>) {
        let _ = self.events.send(Reply::Event { at, text: text.into() });
    }
}

/// The socket's file, removed when dropped.
pub(super) struct SocketFile(PathBuf);

impl SocketFile {
    /// The file of a socket that was handed to us.
    pub(super) fn of(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// It is somebody else's now.
    pub(super) fn leave(mut self) -> Option<Self> {
        self.0 = PathBuf::new();
        None
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.0.as_os_str().is_empty() {
            return;
        }
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Makes the socket. One left over by a process that is gone is replaced; one in use is not.
pub(super) fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another ringtap listens there: give one of them --set control_socket=PATH",
        ));
    }
    // nothing but a socket can be a left-over of ours: root may remove devices and anybody's files
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket has that name: remove it, or choose another with --set control_socket=PATH",
            ));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    // nobody else gets in between making it and closing it to others
    let listener = process::make_private(|| UnixListener::bind(path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// Serves the socket for ever.
pub(super) async fn serve(listener: UnixListener, control: Rc<Control>) {
    let peers = Arc::new(tokio::sync::Semaphore::new(PEERS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = peers.clone().try_acquire_owned() else {
            let reason = format!("{PEERS_MAX} others are connected to the control socket: end one of them");
            let line = serde_json::to_vec(&Reply::Error { reason }).unwrap_or_default();
            let _ = stream.try_write(&[&line[..], b"\n"].concat());
            continue;
        };
        let control = control.clone();
        tokio::task::spawn_local(async move {
            let _permit = permit;
            let _ = talk(stream, &control).await;
        });
    }
}

async fn talk(stream: UnixStream, control: &Control) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader.take(REQUEST_MAX));
    let mut line = String::new();
    tokio::time::timeout(REQUEST_TIME, lines.read_line(&mut line)).await??;
    let request = match serde_json::from_str::<Request>(&line) {
        Ok(request) => request,
        Err(error) => {
            return say(&mut writer, &Reply::Error { reason: format!("not understood: {error}") }).await;
        }
    };
    match request {
        Request::Flows { limit } => {
            let mut shown = 0;
            let under_way = report(control, true).await.into_iter().flat_map(|report| report.sessions);
            let under_way: Vec<_> = under_way.filter_map(being_done).collect();
            for reply in under_way.into_iter().chain(flows(control, limit)).take(limit) {
                shown += 1;
                say(&mut writer, &reply).await?;
            }
            let note = control.store.is_none().then(|| {
                "flows are not kept in memory: start with --set flow_store_max=64m, or record with -w"
                    .to_owned()
            });
            say(&mut writer, &Reply::Done { count: shown, note }).await
        }
        Request::Workers => {
            let reports = report(control, true).await;
            let count = reports.len();
            let gateway = control.gauge.gateway(control, &reports);
            for report in reports {
                say(&mut writer, &Reply::Worker(Box::new(report))).await?;
            }
            say(&mut writer, &Reply::Gateway(Box::new(gateway))).await?;
            say(&mut writer, &Reply::Done { count, note: None }).await
        }
        Request::Kill { id } => kill(control, id, &mut writer).await,
        Request::Drain => {
            say(&mut writer, &Reply::Done { count: 1, note: Some("finishing what is under way".into()) })
                .await?;
            control.drain.notify_one();
            Ok(())
        }
        Request::Upgrade => {
            let answer = match upgrade(control).await {
                Ok(note) => Reply::Done { count: 1, note: Some(note) },
                Err(reason) => Reply::Error { reason },
            };
            say(&mut writer, &answer).await
        }
        Request::Events => {
            let mut events = control.events.subscribe();
            let _listening = control.wanted.listen();
            loop {
                match events.recv().await {
                    Ok(event) => say(&mut writer, &event).await?,
                    Err(broadcast::error::RecvError::Lagged(n)) => {
                        control.events_lost.set(control.events_lost.get() + n);
                        let text = format!("{n} events were lost: the reader was too slow");
                        say(&mut writer, &Reply::Event { at: 0.0, text }).await?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                }
            }
        }
    }
}

async fn say(writer: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

async fn upgrade(control: &Control) -> Result<String, String> {
    let (done, answer) = oneshot::channel();
    if control.upgrades.try_send(done).is_err() {
        return Err("this process is being replaced, or is ending, already".into());
    }
    answer.await.unwrap_or_else(|_| Err("this process is ending".into()))
}

async fn kill(
    control: &Control,
    id: Option<String>,
    writer: &mut (impl AsyncWriteExt + Unpin),
) -> io::Result<()> {
    let Ok(id) = id.map(|id| id.parse()).transpose() else {
        return say(writer, &Reply::Error { reason: "that is no session's id".into() }).await;
    };
    let mut count = 0;
    for worker in &control.workers {
        let (done, answer) = oneshot::channel();
        if worker.send(ToWorker::Kill { id, done }).await.is_ok() {
            count += tokio::time::timeout(ANSWER, answer).await.ok().and_then(Result::ok).unwrap_or(0);
        }
    }
    tracing::warn!("control: {count} sessions ended on request");
    if count == 0 && id.is_some() {
        return say(writer, &Reply::Error { reason: "no open session has that id".into() }).await;
    }
    say(writer, &Reply::Done { count, note: None }).await
}

/// Reports of all workers that answer, asked at once.
pub(super) async fn report(control: &Control, sessions: bool) -> Vec<WorkerReport> {
    let ask = |worker: &mpsc::Sender<ToWorker>| {
        let (answer, answered) = oneshot::channel();
        // a full mailbox is a worker that hangs
        worker.try_send(ToWorker::Report { sessions, answer }).ok().map(|()| answered)
    };
    let mut asked: Vec<_> = control.workers.iter().filter_map(ask).collect();
    let mut reports = Vec::with_capacity(asked.len());
    let mut heard = 0;
    let all = async {
        for answered in &mut asked {
            reports.extend(answered.await.ok());
            heard += 1;
        }
    };
    if tokio::time::timeout(ANSWER, all).await.is_err() {
        // one that hangs does not hide those behind it
        reports.extend(asked[heard..].iter_mut().skip(1).filter_map(|answered| answered.try_recv().ok()));
    }
    for report in &mut reports {
        control.gauge.complete(report);
    }
    reports
}

fn flows(control: &Control, limit: usize) -> Vec<Reply> {
    let Some(store) = &control.store else { return Vec::new() };
    let Ok(store) = store.lock() else { return Vec::new() };
    store.newest(limit).map(describe).collect()
}

/// A flow that has not ended.
fn being_done(session: SessionReport) -> Option<Reply> {
    let (id, line) = session.flow?;
    Some(Reply::Flow {
        id,
        protocol: "http".into(),
        client: session.client,
        summary: format!("{line} (under way)"),
        created: session.since,
        error: None,
    })
}

/// A flow in a line.
pub(super) fn describe(flow: &Flow) -> Reply {
    let meta = flow.meta();
    let (protocol, summary) = match flow {
        Flow::Http(http) => {
            let method = String::from_utf8_lossy(&http.request.method).into_owned();
            let status = http.response.as_ref().map(|response| format!(" {}", response.status_code));
            ("http", format!("{method} {}{}", http.request.pretty_url(), status.unwrap_or_default()))
        }
        Flow::Tcp(tcp) => ("tcp", format!("{} messages", tcp.messages.len())),
        Flow::Udp(udp) => ("udp", format!("{} messages", udp.messages.len())),
        Flow::Dns(_) => ("dns", "query".to_owned()),
    };
    Reply::Flow {
        id: meta.id.to_string(),
        protocol: protocol.to_owned(),
        client: meta.client_conn.peername.map(|addr| addr.to_string()).unwrap_or_default(),
        summary,
        created: meta.timestamp_created,
        error: meta.error.as_ref().map(|error| error.msg.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_socket_left_behind_is_replaced() {
        let dir = std::env::temp_dir().join(format!("ringtap-control-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).expect("a directory");
        let (file, socket) = (dir.join("precious"), dir.join("control.sock"));
        std::fs::write(&file, "contents").expect("a file");
        let refused = listen(&file).map(drop).expect_err("a file is no socket");
        assert!(refused.to_string().contains("no socket"), "{refused}");
        assert_eq!(std::fs::read(&file).expect("it is still there"), b"contents");
        // what a killed process leaves: a socket nobody listens on
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
        drop(listen(&socket).expect("replaced"));
        std::fs::remove_dir_all(&dir).expect("cleaned up");
    }
}
