//! Finished flows on their way from a worker to the control side: gathered, bounded, never waited for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use tokio::sync::Notify;

use crate::flow::Flow;
use crate::proto::Outbox;

/// Flows handed over at once, so that the other side is woken rarely.
const BATCH_FLOWS: usize = 64;
/// Bytes of flows handed over at once.
const BATCH_BYTES: usize = 256 * 1024;
/// How long a flow may wait for company, in milliseconds.
pub(super) const BATCH_MS: u64 = 50;

/// What all workers' outboxes share with the flows thread.
#[derive(Default)]
pub(super) struct Backlog {
    /// Bytes handed over and not dealt with.
    pub(super) bytes: AtomicUsize,
    /// Flows lost because the other side was too slow.
    pub(super) lost: AtomicU64,
    /// Flows that were not printed because nobody read them.
    pub(super) unprinted: AtomicU64,
    /// What became of the recording.
    pub(super) recorder: RecorderFacts,
    /// Somebody wants flows.
    pub(super) wanted: AtomicBool,
}

/// What became of the recording, told by the flows thread.
#[derive(Default)]
pub(super) struct RecorderFacts {
    /// Flows given to it.
    pub(super) flows: AtomicU64,
    /// Writes that failed.
    pub(super) errors: AtomicU64,
    /// Flows that could not be written for too long.
    pub(super) lost: AtomicU64,
    /// Bytes in the file.
    pub(super) bytes: AtomicU64,
    /// The last write failed.
    pub(super) failing: AtomicBool,
}

/// Whether flows are wanted: by the configuration always, or by listeners while there are any.
pub(super) struct Wanted {
    backlog: Arc<Backlog>,
    always: bool,
    listeners: AtomicUsize,
}

impl Wanted {
    pub(super) fn new(backlog: Arc<Backlog>, always: bool) -> Arc<Self> {
        backlog.wanted.store(always, Ordering::Relaxed);
        Arc::new(Self { backlog, always, listeners: AtomicUsize::new(0) })
    }

    /// Somebody listens, until what this returns is dropped.
    pub(super) fn listen(self: &Arc<Self>) -> Listening {
        self.listeners.fetch_add(1, Ordering::Relaxed);
        self.backlog.wanted.store(true, Ordering::Relaxed);
        Listening(self.clone())
    }
}

/// Somebody who listens to flows.
pub(super) struct Listening(Arc<Wanted>);

impl Drop for Listening {
    fn drop(&mut self) {
        let wanted = &self.0;
        if wanted.listeners.fetch_sub(1, Ordering::Relaxed) == 1 {
            wanted.backlog.wanted.store(wanted.always, Ordering::Relaxed);
        }
    }
}

/// A worker's outbox.
pub(super) struct WorkerOutbox {
    backlog: Arc<Backlog>,
    sender: SyncSender<Vec<Flow>>,
    budget: usize,
    batch: RefCell<Vec<Flow>>,
    batch_bytes: Cell<usize>,
    filling: Notify,
}

impl WorkerOutbox {
    pub(super) fn new(backlog: Arc<Backlog>, sender: SyncSender<Vec<Flow>>, budget: usize) -> Rc<Self> {
        Rc::new(Self {
            backlog,
            sender,
            budget,
            batch: RefCell::default(),
            batch_bytes: Cell::new(0),
            filling: Notify::new(),
        })
    }

    /// Hands over what has gathered.
    pub(super) fn flush(&self) {
        let batch = self.batch.take();
        self.batch_bytes.set(0);
        if batch.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.sender.try_send(batch)
        {
            let bytes: usize = batch.iter().map(Flow::cost).sum();
            self.backlog.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.backlog.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
    }

    /// Ends when a flow has begun to wait.
    pub(super) async fn filling(&self) {
        self.filling.notified().await;
    }
}

impl Outbox for WorkerOutbox {
    fn wanted(&self) -> bool {
        self.backlog.wanted.load(Ordering::Relaxed)
    }

    fn is_pressed(&self) -> bool {
        self.wanted() && self.backlog.bytes.load(Ordering::Relaxed) > self.budget / 4 * 3
    }

    fn deliver(&self, flow: Flow) {
        if !self.wanted() {
            return;
        }
        let cost = flow.cost();
        if self.backlog.bytes.load(Ordering::Relaxed) + cost > self.budget {
            self.backlog.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.backlog.bytes.fetch_add(cost, Ordering::Relaxed);
        self.batch_bytes.set(self.batch_bytes.get() + cost);
        let held = {
            let mut batch = self.batch.borrow_mut();
            batch.push(flow);
            batch.len()
        };
        if held >= BATCH_FLOWS || self.batch_bytes.get() >= BATCH_BYTES {
            self.flush();
        } else if held == 1 {
            self.filling.notify_one();
        }
    }
}

impl Drop for WorkerOutbox {
    fn drop(&mut self) {
        self.flush();
    }
}
