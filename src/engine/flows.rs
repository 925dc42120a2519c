//! The thread that finished flows go through: recorded, kept in memory, and printed on a thread of its own, so
//! that a terminal nobody reads stops neither recording nor traffic.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
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
    /// What the configuration asks for. A recording that `goes_on` is another process' as well: it is appended to,
    /// whatever was written before its name.
    ///
    /// # Errors
    /// The recording cannot be opened.
    pub(super) fn open(
        config: &Config,
        show: Option<Show>,
        goes_on: impl FnOnce(&str) -> bool,
    ) -> Result<Self, String> {
        let open = |path: &String| {
            let appended = !path.starts_with('+') && goes_on(path);
            let spec = if appended { format!("+{path}") } else { path.clone() };
            RecorderFile::open(&spec).map_err(|e| format!("option 'save_stream_file': {e}"))
        };
        let recorder = config.save_stream_file.as_ref().map(open).transpose()?;
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
    std::thread::Builder::new().name("ringtap-flows".into()).spawn(move || run(sinks, &batches, backlog))
}

fn run(mut sinks: Sinks, batches: &Receiver<Vec<Flow>>, backlog: Arc<Backlog>) {
    let printer = sinks.show.take().and_then(|show| Printer::start(show, &backlog));
    let mut said_lost = 0;
    let clock = Clock::real();
    let mut flushed_ms = clock.now_ms();
    loop {
        match batches.recv_timeout(Duration::from_millis(FLUSH_MS)) {
            Ok(batch) => {
                for flow in batch {
                    backlog.bytes.fetch_sub(flow.cost(), Ordering::Relaxed);
                    deal_with(&mut sinks, printer.as_ref(), flow, &backlog);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if clock.now_ms() - flushed_ms >= FLUSH_MS {
            flush(&mut sinks, &backlog);
            flushed_ms = clock.now_ms();
        }
        let lost = backlog.lost.load(Ordering::Relaxed);
        if lost > said_lost {
            tracing::warn!("{} flows were lost: more came than could be recorded or kept", lost - said_lost);
            said_lost = lost;
        }
    }
    flush(&mut sinks, &backlog);
    if let Some(printer) = printer {
        printer.finish();
    }
}

fn deal_with(sinks: &mut Sinks, printer: Option<&Printer>, flow: Flow, backlog: &Backlog) {
    if let Some(recorder) = &mut sinks.recorder
        && sinks.record_only.as_ref().is_none_or(|filter| filter.matches(&flow))
    {
        backlog.recorder.flows.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = recorder.append(&flow) {
            backlog.recorder.errors.fetch_add(1, Ordering::Relaxed);
            backlog.recorder.failing.store(true, Ordering::Relaxed);
            tracing::error!(
                "recording: {error}; traffic goes on, recording is tried again with the next flow"
            );
        }
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

fn flush(sinks: &mut Sinks, backlog: &Backlog) {
    let Some(recorder) = &mut sinks.recorder else { return };
    let facts = &backlog.recorder;
    let result = recorder.flush();
    facts.failing.store(result.is_err(), Ordering::Relaxed);
    facts.bytes.store(recorder.written(), Ordering::Relaxed);
    facts.lost.store(recorder.lost(), Ordering::Relaxed);
    if let Err(error) = result {
        facts.errors.fetch_add(1, Ordering::Relaxed);
        tracing::error!("recording: {error}");
    }
}

/// Prints flows on a thread of its own.
struct Printer {
    flows: SyncSender<Flow>,
    thread: JoinHandle<()>,
    backlog: Arc<Backlog>,
}

impl Printer {
    fn start(mut show: Show, backlog: &Arc<Backlog>) -> Option<Self> {
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
            Ok(thread) => Some(Self { flows, thread, backlog: backlog.clone() }),
            Err(error) => {
                tracing::error!("flows cannot be printed: {error}");
                None
            }
        }
    }

    fn print(&self, flow: Flow) {
        // a full queue means that nobody reads: the flow is still recorded and kept
        if let Err(TrySendError::Full(_)) = self.flows.try_send(flow) {
            self.backlog.unprinted.fetch_add(1, Ordering::Relaxed);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Client, FlowMeta, Server, TcpFlow};

    fn flow() -> Flow {
        let meta = FlowMeta::new(Arc::new(Client::default()), Arc::new(Server::default()), 1.0);
        Flow::Tcp(Box::new(TcpFlow { meta, messages: Vec::new(), killed: false }))
    }

    #[test]
    fn what_became_of_a_recording_is_told() {
        let path = std::env::temp_dir().join(format!("ringtap-flows-{}", uuid::Uuid::new_v4()));
        let (events, _) = broadcast::channel(1);
        let recorder = RecorderFile::open(path.to_str().expect("a path in UTF-8")).expect("a file");
        let mut sinks =
            Sinks { recorder: Some(recorder), record_only: None, store: None, events, show: None };
        let backlog = Backlog::default();
        for _ in 0..3 {
            deal_with(&mut sinks, None, flow(), &backlog);
        }
        flush(&mut sinks, &backlog);
        let facts = &backlog.recorder;
        let length = std::fs::metadata(&path).expect("the file").len();
        assert_eq!((facts.flows.load(Ordering::Relaxed), facts.bytes.load(Ordering::Relaxed)), (3, length));
        assert!(length > 0 && !facts.failing.load(Ordering::Relaxed));
        std::fs::remove_file(&path).expect("cleaned up");
    }

    #[test]
    fn flows_that_nobody_reads_are_counted_as_not_printed() {
        let backlog = Arc::new(Backlog::default());
        let (reading, wait) = std::sync::mpsc::channel::<()>();
        // a terminal that takes nothing until the test is over
        let show: Show = Box::new(move |_| {
            let _ = wait.recv();
            Err(io::ErrorKind::BrokenPipe.into())
        });
        let printer = Printer::start(show, &backlog).expect("a thread");
        for _ in 0..PRINTED_MAX + 10 {
            printer.print(flow());
        }
        // one may be in the printer's hands
        let lost = backlog.unprinted.load(Ordering::Relaxed);
        assert!((9..=10).contains(&lost), "{lost} not printed");
        drop(reading);
        printer.finish();
    }
}
