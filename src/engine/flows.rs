//! The thread that finished flows go through: recorded, kept in memory, and printed on a thread of its own, so
//! that a terminal nobody reads stops neither recording nor traffic.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::broadcast;

use super::control::{self, Reply};
use super::outbox::Backlog;
use crate::clock::Clock;
use crate::config::Config;
use crate::filter::Filter;
use crate::flow::Flow;
use crate::store::{FlowStore, RecorderFile};

/// Batches that may wait in the channel.
pub(super) const BATCHES_MAX: usize = 1024;
/// Flows that may wait to be printed; more are not printed, and that is said.
const PRINTED_MAX: usize = 4096;
/// Events that may wait for a slow listener; it loses older ones.
const EVENTS_MAX: usize = 256;
/// How often a recording is handed to the kernel: a process that is killed loses no more than this of it.
const FLUSH_MS: u64 = 500;

/// Shows a person a flow; an error says that nobody looks any more.
pub type Show = Box<dyn FnMut(&Flow) -> io::Result<()> + Send>;

/// Where flows end up.
pub(super) struct Sinks {
    pub(super) recorder: Option<RecorderFile>,
    /// Which flows are recorded; `None`: all.
    pub(super) record_only: Option<Filter>,
    pub(super) store: Option<Arc<Mutex<FlowStore>>>,
    pub(super) events: broadcast::Sender<Reply>,
    pub(super) show: Option<Show>,
}

impl Sinks {
    /// What the configuration asks for.
    ///
    /// # Errors
    /// The recording cannot be opened.
    pub(super) fn open(config: &Config, show: Option<Show>) -> Result<Self, String> {
        let recorder = match &config.save_stream_file {
            Some(path) => {
                Some(RecorderFile::open(path).map_err(|e| format!("option 'save_stream_file': {e}"))?)
            }
            None => None,
        };
        let store =
            (config.flow_store_max > 0).then(|| Arc::new(Mutex::new(FlowStore::new(config.flow_store_max))));
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let record_only = config.save_stream_filter.clone();
        Ok(Self { recorder, record_only, store, events, show })
    }

    /// Whether anybody wants flows at all.
    pub(super) fn wanted(&self) -> bool {
        self.recorder.is_some() || self.store.is_some() || self.show.is_some()
    }
}

/// Starts the thread. It ends when every sender is gone, with everything written.
pub(super) fn spawn(
    sinks: Sinks,
    batches: Receiver<Vec<Flow>>,
    backlog: Arc<Backlog>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("ringtap-flows".into()).spawn(move || run(sinks, &batches, &backlog))
}

fn run(mut sinks: Sinks, batches: &Receiver<Vec<Flow>>, backlog: &Backlog) {
    let printer = sinks.show.take().and_then(Printer::start);
    let mut said_lost = 0;
    let clock = Clock::real();
    let mut flushed_ms = clock.now_ms();
    loop {
        match batches.recv_timeout(Duration::from_millis(FLUSH_MS)) {
            Ok(batch) => {
                for flow in batch {
                    backlog.bytes.fetch_sub(flow.cost(), Ordering::Relaxed);
                    deal_with(&mut sinks, printer.as_ref(), flow);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if clock.now_ms() - flushed_ms >= FLUSH_MS {
            flush(&mut sinks);
            flushed_ms = clock.now_ms();
        }
        let lost = backlog.lost.load(Ordering::Relaxed);
        if lost > said_lost {
            tracing::warn!("{} flows were lost: more came than could be recorded or kept", lost - said_lost);
            said_lost = lost;
        }
    }
    flush(&mut sinks);
    if let Some(printer) = printer {
        printer.finish();
    }
}

fn deal_with(sinks: &mut Sinks, printer: Option<&Printer>, flow: Flow) {
    if let Some(recorder) = &mut sinks.recorder
        && sinks.record_only.as_ref().is_none_or(|filter| filter.matches(&flow))
        && let Err(error) = recorder.append(&flow)
    {
        tracing::error!("recording: {error}; traffic goes on, recording is tried again with the next flow");
    }
    if sinks.events.receiver_count() > 0 {
        let _ = sinks.events.send(control::describe(&flow));
    }
    match (printer, &sinks.store) {
        (Some(printer), Some(store)) => {
            printer.print(flow.clone());
            keep(store, flow);
        }
        (Some(printer), None) => printer.print(flow),
        (None, Some(store)) => keep(store, flow),
        (None, None) => {}
    }
}

fn keep(store: &Mutex<FlowStore>, flow: Flow) {
    if let Ok(mut store) = store.lock() {
        store.insert(flow);
    }
}

fn flush(sinks: &mut Sinks) {
    if let Some(recorder) = &mut sinks.recorder
        && let Err(error) = recorder.flush()
    {
        tracing::error!("recording: {error}");
    }
}

/// Prints flows on a thread of its own.
struct Printer {
    flows: SyncSender<Flow>,
    thread: JoinHandle<()>,
}

impl Printer {
    fn start(mut show: Show) -> Option<Self> {
        let (flows, incoming) = sync_channel::<Flow>(PRINTED_MAX);
        let thread = std::thread::Builder::new().name("ringtap-print".into()).spawn(move || {
            for flow in incoming {
                // whoever closed our standard output does not want to read on
                if show(&flow).is_err() {
                    return;
                }
            }
        });
        match thread {
            Ok(thread) => Some(Self { flows, thread }),
            Err(error) => {
                tracing::error!("flows cannot be printed: {error}");
                None
            }
        }
    }

    fn print(&self, flow: Flow) {
        // a full queue means that nobody reads: the flow is still recorded and kept
        let _ = self.flows.try_send(flow);
    }

    fn finish(self) {
        drop(self.flows);
        // a reader that never comes back must not keep us from ending
        for _ in 0..20 {
            if self.thread.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = io::stdout().flush();
    }
}
