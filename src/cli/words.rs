//! What `ringtap ctl workers` says, in words.

use std::fmt::Write;

use crate::engine::{GatewayReport, WorkerReport};

/// A worker's state.
pub(super) fn worker(report: &WorkerReport) -> String {
    let taken: u64 = report.listeners.iter().map(|listener| listener.taken).sum();
    let mut text = format!(
        "worker {}: {} connections open, {taken} taken; busy {:.1} % of the last 10 s",
        report.worker,
        report.connections_open,
        report.busy_ratio * 100.0
    );
    let value =
        |wanted: &str| report.counters.iter().find(|(name, _)| name == wanted).map_or(0, |(_, value)| *value);
    for listener in report.listeners.iter().filter(|listener| listener.taken > 0) {
        let _ = write!(text, "\n  {} on {}: {} taken", listener.mode, listener.listener, listener.taken);
    }
    let _ = write!(text, "\n  HTTP: {} requests", value("requests"));
    let words = ["without an answer", "with 1xx", "with 2xx", "with 3xx", "with 4xx", "with 5xx"];
    let answered: Vec<_> = words
        .iter()
        .zip(report.answers)
        .filter(|(_, count)| *count > 0)
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    if !answered.is_empty() {
        let _ = write!(text, " ({})", answered.join(", "));
    }
    let _ = write!(text, "; raw TCP: {} conversations", value("tcp_conversations"));
    let _ = write!(
        text,
        "\n  TLS with clients: {} handshakes, of them {} resumed, {} failed; with servers: {}, of them {} resumed, {} failed",
        value("tls_client_established"),
        value("tls_client_resumed"),
        value("tls_client_failed"),
        value("tls_server_established"),
        value("tls_server_resumed"),
        value("tls_server_failed")
    );
    let _ = write!(
        text,
        "\n  servers: {} connections, {} failed",
        value("server_connections"),
        value("server_connect_errors")
    );
    traffic(report, &mut text);
    for pool in &report.pools {
        let _ = write!(
            text,
            "\n  {} buffers: {} in use, {} idle, at most {}",
            pool.pool, pool.in_use, pool.idle, pool.limit
        );
        if pool.starved > 0 {
            let _ = write!(text, "; wanted {} times at the limit", pool.starved);
        }
    }
    let _ = write!(
        text,
        "\n  ring: {} operations under way, {} overflows, {} times full, {} receives without a buffer",
        report.ring_ops, report.ring_overflows, report.ring_sq_full, report.ring_enobufs
    );
    for (name, words) in TROUBLES {
        if value(name) > 0 {
            let _ = write!(text, "\n  {} {words}", value(name));
        }
    }
    for session in &report.sessions {
        let _ = write!(text, "\n  session {}  {}  {}", session.id, session.client, session.mode);
    }
    text
}

fn traffic(report: &WorkerReport, text: &mut String) {
    let [from_clients, to_clients, from_servers, to_servers] = report.bytes.map(size);
    let _ = write!(
        text,
        "\n  bytes: {from_clients} from clients, {to_clients} to them; {from_servers} from servers, {to_servers} to them"
    );
    if report.spliced_bytes > 0 {
        let _ = write!(text, "; {} moved by the kernel alone", size(report.spliced_bytes));
    }
}

/// Counters that are shown if there is something to count.
const TROUBLES: [(&str, &str); 7] = [
    ("connections_refused", "connections refused: too many were open"),
    ("clients_refused", "clients refused: they may not use an explicit mode"),
    ("direct_refused", "direct connections to a transparent listener refused"),
    ("loops_refused", "connections refused: they would come back to us"),
    ("destinations_refused", "destinations refused: clients may not reach them"),
    ("accept_no_descriptors", "connections not accepted: no file descriptor was left"),
    ("accept_errors", "connections not accepted, for other reasons"),
];

/// What all workers share.
pub(super) fn gateway(report: &GatewayReport) -> String {
    let mut text = format!(
        "gateway: ringtap {}, up {}; {} of memory, {:.1} s of processor time, {} of {} files open",
        report.version,
        duration(report.uptime),
        size(report.resident_bytes),
        report.cpu_seconds,
        report.open_fds,
        report.max_fds
    );
    let open: Vec<_> = report.open.iter().map(usize::to_string).collect();
    let _ = write!(text, "\n  open connections per worker: {}", open.join(", "));
    if report.open.len() > 1 && report.imbalance > 0.0 {
        let _ = write!(text, " (the fullest has {:.1} times the mean)", report.imbalance);
    }
    let _ = write!(text, "; at most {} in all", report.connections_limit);
    let _ = write!(
        text,
        "\n  certificates: {} kept ({} of {}), {} found, {} signed, {} dropped",
        report.leaves,
        bytes(report.leaf_bytes),
        bytes(report.leaf_limit_bytes),
        report.leaf_hits,
        report.leaf_misses,
        report.leaf_evictions
    );
    let _ = write!(
        text,
        "\n  flows: {} in memory ({} of {}), {} waiting (of {}), {} lost, {} not printed; {} events lost",
        report.flows_in_memory,
        bytes(report.flow_store_bytes),
        bytes(report.flow_store_limit_bytes),
        bytes(report.flow_queue_bytes),
        bytes(report.flow_queue_limit_bytes),
        report.flows_lost,
        report.flows_unprinted,
        report.events_lost
    );
    if report.recording {
        let state = if report.recorder_failing { "failing" } else { "well" };
        let _ = write!(
            text,
            "\n  recording: {state}; {} flows, {} on disk, {} failed writes, {} flows lost",
            report.recorder_flows,
            size(report.recorder_bytes),
            report.recorder_errors,
            report.recorder_lost
        );
    }
    text
}

fn bytes(count: usize) -> String {
    size(count as u64)
}

/// A number of bytes, short.
fn size(count: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A number of seconds, in its two greatest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{ListenerReport, PoolReport};

    #[test]
    fn a_worker_is_told_in_words_and_troubles_only_if_there_are_any() {
        let mut report = WorkerReport {
            worker: 1,
            connections_open: 3,
            busy_ratio: 0.125,
            answers: [1, 0, 7, 0, 0, 2],
            bytes: [100, 2048, 3 << 20, 0],
            listeners: vec![ListenerReport {
                mode: "transparent".into(),
                listener: "0.0.0.0:8080".into(),
                taken: 9,
            }],
            pools: vec![PoolReport { pool: "small".into(), in_use: 64, idle: 2, limit: 320, starved: 0 }],
            counters: vec![("requests".into(), 10), ("tls_server_resumed".into(), 4)],
            ..WorkerReport::default()
        };
        let text = worker(&report);
        for part in [
            "worker 1: 3 connections open, 9 taken; busy 12.5 % of the last 10 s",
            "transparent on 0.0.0.0:8080: 9 taken",
            "HTTP: 10 requests (1 without an answer, 7 with 2xx, 2 with 5xx)",
            "of them 4 resumed",
            "100 B from clients, 2.0 KB to them; 3.0 MB from servers, 0 B to them",
            "small buffers: 64 in use, 2 idle, at most 320\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("refused") && !text.contains("at the limit"), "{text}");
        report.counters.push(("loops_refused".into(), 5));
        report.pools[0].starved = 2;
        let text = worker(&report);
        assert!(text.contains("5 connections refused: they would come back to us"), "{text}");
        assert!(text.contains("wanted 2 times at the limit"), "{text}");
    }

    #[test]
    fn the_gateway_says_how_unevenly_its_workers_are_used() {
        let report = GatewayReport { open: vec![0, 6], imbalance: 2.0, uptime: 7_384, ..Default::default() };
        let text = gateway(&report);
        assert!(
            text.contains("open connections per worker: 0, 6 (the fullest has 2.0 times the mean)"),
            "{text}"
        );
        assert!(text.contains("up 2 h 3 min") && !text.contains("recording"), "{text}");
        let failing = gateway(&GatewayReport { recording: true, recorder_failing: true, ..report });
        assert!(failing.contains("recording: failing"), "{failing}");
    }

    #[test]
    fn sizes_and_durations_are_short() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (5 << 40, "5.0 TB")];
        assert!(sizes.iter().all(|(count, text)| size(*count) == *text));
        let durations = [(59, "59 s"), (61, "1 min 1 s"), (90_000, "1 d 1 h")];
        assert!(durations.iter().all(|(seconds, text)| duration(*seconds) == *text));
    }
}
