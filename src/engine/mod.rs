//! The whole: workers that serve, and the control thread that everything else runs on.

mod control;
mod flows;
mod heart;
mod measure;
mod metrics_http;
mod outbox;
mod oversee;
mod slack;
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
    /// Much has ended: free what is kept for more of it.
    Shed,
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
    Report {
        /// Open sessions are named as well.
        sessions: bool,
        /// The answer.
        answer: tokio::sync::oneshot::Sender<WorkerReport>,
    },
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
    /// Submissions ahead of their turn.
    pub ring_sq_full: u64,
    /// Receives that found no buffer.
    pub ring_enobufs: u64,
    /// Bytes moved between connections without being copied.
    #[serde(default)]
    pub spliced_bytes: u64,
    /// The answer is of now, not an older one.
    pub up: bool,
    /// Time in which the worker did not wait.
    pub busy_seconds: f64,
    /// The part of the last ten seconds in which it did not wait.
    pub busy_ratio: f64,
    /// Connections taken, by listener.
    pub listeners: Vec<ListenerReport>,
    /// Its pools of buffers.
    pub pools: Vec<PoolReport>,
    /// Bytes received from clients, sent to them, received from servers, sent to them.
    pub bytes: [u64; 4],
    /// Requests by what was answered: nothing, 1xx to 5xx.
    pub answers: [u64; 6],
    /// Numbers for metrics.
    #[serde(skip)]
    pub samples: Vec<crate::telemetry::metrics::Sample>,
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

/// A listener of a worker.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct ListenerReport {
    /// Its mode's kind: `transparent`, `regular`, `reverse`.
    pub mode: String,
    /// Where it listens.
    pub listener: String,
    /// Connections it took.
    pub taken: u64,
}

/// A pool of buffers.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct PoolReport {
    /// `small` or `bulk`.
    pub pool: String,
    /// Out, those lent to the kernel included.
    pub in_use: usize,
    /// Kept for the next user.
    pub idle: usize,
    /// The most that may be out.
    pub limit: usize,
    /// How often one was wanted at the limit.
    pub starved: u64,
}

/// What all workers share, and the process's own facts. Sizes are in bytes.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct GatewayReport {
    /// Ours.
    pub version: String,
    /// Unix seconds.
    pub started: f64,
    /// Seconds since then.
    pub uptime: u64,
    /// Client connections that may be open at once.
    pub connections_limit: usize,
    /// Open connections of each worker.
    pub open: Vec<usize>,
    /// The busiest worker's open connections, divided by the mean.
    pub imbalance: f64,
    /// RSS.
    pub resident_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Of all threads.
    pub cpu_seconds: f64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Their limit.
    pub max_fds: u64,
    /// Forged certificates kept.
    pub leaves: usize,
    /// What they take.
    pub leaf_bytes: usize,
    /// What they may take.
    pub leaf_limit_bytes: usize,
    /// Certificates that were there.
    pub leaf_hits: u64,
    /// Certificates that were signed.
    pub leaf_misses: u64,
    /// Certificates dropped to make room.
    pub leaf_evictions: u64,
    /// Finished flows kept.
    pub flows_in_memory: usize,
    /// What they take.
    pub flow_store_bytes: usize,
    /// What they may take.
    pub flow_store_limit_bytes: usize,
    /// Flows dropped to make room.
    pub flow_store_evicted: u64,
    /// Finished flows that wait for recorder, store and terminal.
    pub flow_queue_bytes: usize,
    /// What they may take.
    pub flow_queue_limit_bytes: usize,
    /// Flows lost because the queue was full.
    pub flows_lost: u64,
    /// Flows not printed because nobody read.
    pub flows_unprinted: u64,
    /// Events that readers were too slow for.
    pub events_lost: u64,
    /// Flows are recorded to a file.
    pub recording: bool,
    /// Its last write failed.
    pub recorder_failing: bool,
    /// Flows given to it.
    pub recorder_flows: u64,
    /// Writes that failed.
    pub recorder_errors: u64,
    /// Flows it lost.
    pub recorder_lost: u64,
    /// Its size.
    pub recorder_bytes: u64,
}
