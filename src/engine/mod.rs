//! The whole: workers that serve, and the control thread that everything else runs on.

mod control;
mod flows;
mod heart;
mod outbox;
mod oversee;
mod start;
mod upgrade;
mod worker;

pub use control::{Reply, Request};
pub use flows::Show;
pub use start::{EngineError, run};
pub use upgrade::refuse_takeover;

/// What the control thread says to a worker.
pub(crate) enum ToWorker {
    /// Finish what is under way until the deadline, then end.
    Drain {
        /// Milliseconds.
        within_ms: u64,
    },
    /// Let listeners accept, or leave new connections to whoever else has the sockets.
    Accept {
        /// Whether.
        on: bool,
        /// It is so.
        done: tokio::sync::oneshot::Sender<()>,
    },
    /// Ask clients to come back on a new connection, and go on serving those that do not.
    Announce,
    /// Are you there?
    Ping(tokio::sync::oneshot::Sender<()>),
    /// End sessions: of one client connection, or all.
    Kill {
        /// Which; `None`: all.
        id: Option<uuid::Uuid>,
        /// How many were ended.
        done: tokio::sync::oneshot::Sender<usize>,
    },
    /// What is going on?
    Report(tokio::sync::oneshot::Sender<WorkerReport>),
}

/// What is going on in a worker.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct WorkerReport {
    /// Which worker.
    pub worker: usize,
    /// Of which process.
    #[serde(default)]
    pub pid: u32,
    /// Open client connections.
    pub connections_open: usize,
    /// Buffers held by sessions.
    pub buffers_in_use: usize,
    /// Operations the kernel has not finished.
    pub ring_ops: usize,
    /// Completions the kernel had to keep aside.
    pub ring_overflows: u64,
    /// What happened since the start.
    pub counters: Vec<(String, u64)>,
    /// Open sessions, the newest of them first, at most some hundred.
    pub sessions: Vec<SessionReport>,
}

/// One open session.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct SessionReport {
    /// The client connection's id: what `kill` takes.
    pub id: String,
    /// Who.
    pub client: String,
    /// The mode it came by.
    pub mode: String,
    /// Accepted, Unix seconds.
    pub since: f64,
    /// What is under way: the flow's id (the session's, if no flow is built) and one line.
    pub flow: Option<(String, String)>,
}
