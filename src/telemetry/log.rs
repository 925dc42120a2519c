//! Logs to standard error, written by a thread of their own: a terminal or pipe that nobody reads never stops a
//! worker. Lines beyond the queue are dropped and counted.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::LogLevel;

/// Lines that may wait.
const LINES_MAX: usize = 4096;

/// Sets logging up, once.
pub fn start(level: LogLevel) {
    let filter = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let (lines, incoming) = sync_channel(LINES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let queue = Queue { lines, dropped: dropped.clone() };
    let writer =
        std::thread::Builder::new().name("ringtap-log".into()).spawn(move || write(&incoming, &dropped));
    let builder = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_timer(LocalTime)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    match writer {
        Ok(_) => {
            let _ = QUEUE.set(queue.clone());
            builder.with_writer(queue).init();
        }
        Err(_) => builder.with_writer(io::stderr).init(),
    }
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Waits, briefly, until what was logged is written: before the process ends.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        let (done, wait) = sync_channel(1);
        if queue.lines.try_send(Line::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(std::time::Duration::from_millis(500));
        }
    }
}

enum Line {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

fn write(lines: &Receiver<Line>, dropped: &AtomicU64) {
    let mut said = 0;
    for line in lines {
        let mut out = io::stderr().lock();
        match line {
            Line::Text(text) => drop(out.write_all(&text)),
            Line::Flush(done) => drop(done.send(())),
        }
        let now = dropped.load(Ordering::Relaxed);
        if now > said {
            let _ = writeln!(out, "({} log lines were lost: standard error is too slow)", now - said);
            said = now;
        }
    }
}

#[derive(Clone)]
struct Queue {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = LineWriter;
    fn make_writer(&'a self) -> LineWriter {
        LineWriter { queue: self.clone(), line: Vec::new() }
    }
}

/// Gathers one line.
struct LineWriter {
    queue: Queue,
    line: Vec<u8>,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        if !self.line.is_empty()
            && self.queue.lines.try_send(Line::Text(std::mem::take(&mut self.line))).is_err()
        {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct LocalTime;

impl FormatTime for LocalTime {
    fn format_time(&self, out: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(out, "{}", chrono::Local::now().format("%H:%M:%S%.3f"))
    }
}
