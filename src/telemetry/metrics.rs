//! The one table of metrics, and their text: Prometheus' exposition format 0.0.4. What is not in the table is not
//! shown; `docs/metrics.md` is written from it.

use std::collections::HashMap;
use std::fmt::Write;

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many lie at or below each of some bounds, and their sum.
    Histogram,
}

impl Kind {
    /// As the exposition names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// What one of it is.
    pub unit: &'static str,
    /// Its labels' names. `shard` is a worker's number; what has it is not added up over workers.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help }
}

const fn seconds(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: "seconds", labels, help }
}

/// Every metric, in the order of the exposition.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    counter("ringtap_connections_total", "connections", &["mode", "listener"],
        "Client connections taken, by the mode and the address they came to."),
    gauge("ringtap_connections_open", "connections", &[],
        "Client connections open now."),
    gauge("ringtap_connections_limit", "connections", &[],
        "Client connections that may be open at once: 'connections_max', or what the limit of open files allows."),
    counter("ringtap_connections_refused_total", "connections", &["reason"],
        "Client connections closed at once: 'limit' (too many are open), 'client' (it may not use an explicit mode), 'not_redirected' (a direct hit on a transparent listener)."),
    counter("ringtap_loop_refused_total", "connections", &[],
        "Connections refused because they would come back to ringtap, or have: more than a few say that the redirect rules catch our own traffic."),
    counter("ringtap_destinations_refused_total", "connections", &[],
        "Connections to servers refused because clients may not reach the address ('allow_destinations')."),
    counter("ringtap_accept_errors_total", "errors", &["reason"],
        "Connections that could not be accepted: 'descriptors' (the limit of open files), 'other'."),
    gauge("ringtap_shard_up", "0 or 1", &["shard"],
        "Whether the worker answered when it was asked for these numbers; if not, they are its last ones."),
    gauge("ringtap_shard_connections_open", "connections", &["shard"],
        "Client connections open now, by worker."),
    counter("ringtap_shard_connections_total", "connections", &["shard"],
        "Client connections taken, by worker."),
    gauge("ringtap_shard_connections_imbalance", "ratio", &[],
        "Open connections of the worker with the most, divided by the mean of all workers: 1 is even, the number of workers means that one has them all. 0 without connections."),
    gauge("ringtap_shard_busy_ratio", "ratio", &["shard"],
        "Part of the last ten seconds in which the worker's thread did not wait: 1 is a full core."),
    counter("ringtap_shard_busy_seconds_total", "seconds", &["shard"],
        "Time in which the worker's thread did not wait."),
    gauge("ringtap_ring_ops_in_flight", "operations", &["shard"],
        "Operations the kernel has not finished."),
    counter("ringtap_ring_sq_full_total", "submissions", &["shard"],
        "Submissions ahead of their turn because the ring's queue was full."),
    counter("ringtap_ring_cq_overflows_total", "turns", &["shard"],
        "Turns in which the kernel kept completions aside because their queue was full."),
    counter("ringtap_ring_enobufs_total", "receives", &["shard"],
        "Receives that found no buffer lent to the kernel; they are repeated with another kind of buffer."),
    counter("ringtap_spliced_bytes_total", "bytes", &["shard"],
        "Bytes of raw conversations that the kernel moved by itself (tcp_splice)."),
    gauge("ringtap_pool_buffers_in_use", "buffers", &["shard", "pool"],
        "Buffers out of the pool, those lent to the kernel included: 'small' of 18 KB, 'bulk' of 256 KB."),
    gauge("ringtap_pool_buffers_idle", "buffers", &["shard", "pool"],
        "Buffers kept for the next user."),
    gauge("ringtap_pool_buffers_limit", "buffers", &["shard", "pool"],
        "Buffers that may be out at once."),
    counter("ringtap_pool_starved_total", "requests for a buffer", &["shard", "pool"],
        "How often a buffer was wanted at the limit: a smaller one, or one of the heap, took its place."),
    counter("ringtap_bytes_total", "bytes", &["leg", "dir"],
        "Bytes on connections with clients and with servers (leg 'client', 'server'), received and sent (dir 'in', 'out'), as they are on the wire: TLS records, not what is in them."),
    counter("ringtap_tls_handshakes_total", "handshakes", &["side", "result", "reason", "version", "alpn"],
        "TLS handshakes with clients and with servers: result 'full', 'resumed' (both with version and alpn: 'none', 'http/1.1', 'h2', 'other') or 'failed' (with reason: 'untrusted', 'alert', 'closed', 'timeout', 'incompatible', 'malformed', 'internal')."),
    seconds("ringtap_tls_handshake_seconds", &["side"],
        "How long handshakes that were done took."),
    counter("ringtap_decisions_total", "connections", &["action"],
        "What became of TLS connections: 'bump' (intercepted), 'splice' (relayed untouched)."),
    gauge("ringtap_cert_cache_entries", "certificates", &[],
        "Forged certificates kept."),
    gauge("ringtap_cert_cache_bytes", "bytes", &[],
        "What they take."),
    gauge("ringtap_cert_cache_limit_bytes", "bytes", &[],
        "What they may take ('leaf_cache_max')."),
    counter("ringtap_cert_cache_hits_total", "look-ups", &[],
        "Certificates that were there."),
    counter("ringtap_cert_cache_misses_total", "look-ups", &[],
        "Certificates that had to be signed."),
    counter("ringtap_cert_cache_evictions_total", "certificates", &[],
        "Certificates dropped to make room."),
    counter("ringtap_http_requests_total", "requests", &["proto", "method", "code_class"],
        "HTTP requests that are over: proto 'http/1' or 'http/2'; methods of no standard are 'other'; code_class '2xx' and so on is what the client was answered, by the server, an addon or us, 'none' if nothing."),
    seconds("ringtap_request_duration_seconds", &[],
        "How long HTTP requests took, from the request's head to the end of the response."),
    gauge("ringtap_flows_under_way", "flows", &["type"],
        "HTTP exchanges ('http') and raw conversations ('tcp') under way."),
    counter("ringtap_tcp_conversations_total", "conversations", &[],
        "Conversations relayed as raw TCP, those relayed untouched included."),
    counter("ringtap_upstream_connections_total", "connections", &[],
        "Connections made to servers."),
    counter("ringtap_upstream_connect_errors_total", "errors", &["reason"],
        "Connections to servers that failed: 'refused', 'timeout', 'unreachable', 'resolve' (the name has no address), 'ports' (no local port is left), 'conntrack' (the kernel's table of tracked connections is full), 'descriptors' (no file descriptor is left), 'memory', 'source' (an address of 'connect_addr' is gone), 'forbidden' (by a rule of this machine), 'other'."),
    seconds("ringtap_upstream_connect_seconds", &[],
        "How long it took to connect to a server: the name's look-up and TCP."),
    gauge("ringtap_flows_in_memory", "flows", &[],
        "Finished flows kept in memory."),
    gauge("ringtap_flow_store_bytes", "bytes", &[],
        "What they take."),
    gauge("ringtap_flow_store_limit_bytes", "bytes", &[],
        "What they may take ('flow_store_max')."),
    counter("ringtap_flow_store_evicted_total", "flows", &[],
        "Flows dropped from memory to make room, which is how the store works."),
    gauge("ringtap_flow_queue_bytes", "bytes", &[],
        "Finished flows on their way to the recorder, the store and the terminal."),
    gauge("ringtap_flow_queue_limit_bytes", "bytes", &[],
        "What they may take ('recorder_queue_max'); past it flows are lost."),
    counter("ringtap_flows_dropped_total", "flows", &["sink", "reason"],
        "Flows lost: to all, because the queue was full; to the recorder, because its file could not be written; to the terminal, because nobody read it fast enough."),
    counter("ringtap_events_lost_total", "events", &[],
        "Events that a reader of 'ringtap ctl events' was too slow for."),
    gauge("ringtap_recorder_up", "0 or 1", &[],
        "Whether the last write of the recording ('save_stream_file') went well. Absent without a recording."),
    counter("ringtap_recorder_flows_total", "flows", &[],
        "Flows given to the recording."),
    counter("ringtap_recorder_errors_total", "errors", &[],
        "Writes of the recording that failed; they are tried again."),
    gauge("ringtap_recorder_file_bytes", "bytes", &[],
        "Size of the recording."),
    gauge("process_start_time_seconds", "Unix seconds", &[],
        "When the process started."),
    counter("process_cpu_seconds_total", "seconds", &[],
        "Processor time of all threads, the kernel's for them included."),
    gauge("process_resident_memory_bytes", "bytes", &[],
        "Memory that is in use (RSS)."),
    gauge("process_virtual_memory_bytes", "bytes", &[],
        "Address space."),
    gauge("process_open_fds", "descriptors", &[],
        "Open file descriptors."),
    gauge("process_max_fds", "descriptors", &[],
        "The limit of open file descriptors."),
    gauge("ringtap_build_info", "1", &["version"],
        "The version that runs; the value is always 1."),
];

/// The metric of that name.
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// One number of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name.
    pub metric: &'static str,
    /// Of a histogram: `_bucket`, `_sum` or `_count`.
    pub suffix: &'static str,
    /// Names and values. An empty value is as good as no label, and not shown.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

impl Sample {
    /// A number without labels.
    pub fn plain(metric: &'static str, value: f64) -> Self {
        Self { metric, suffix: "", labels: Vec::new(), value }
    }

    /// A number with labels.
    pub fn with(metric: &'static str, labels: &[(&'static str, &str)], value: f64) -> Self {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { metric, suffix: "", labels, value }
    }

    /// A histogram's numbers: `counts` are cumulated, the last of them is all there are and has no bound.
    pub fn histogram(
        metric: &'static str,
        labels: &[(&'static str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) -> Vec<Self> {
        let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut samples: Vec<Self> = bounds
            .zip(counts)
            .map(|(bound, count)| {
                let mut sample = Self::with(metric, labels, *count as f64);
                sample.labels.push(("le", bound));
                Self { suffix: "_bucket", ..sample }
            })
            .collect();
        let all = counts.last().copied().unwrap_or_default() as f64;
        samples.push(Self { suffix: "_sum", ..Self::with(metric, labels, sum) });
        samples.push(Self { suffix: "_count", ..Self::with(metric, labels, all) });
        samples
    }
}

/// Numbers on their way to text. Those of the same series are added up.
#[derive(Debug, Default)]
pub struct Exposition {
    samples: Vec<Sample>,
    /// Where each series is.
    places: HashMap<Series, usize>,
}

type Series = (&'static str, &'static str, Vec<(&'static str, String)>);

impl Exposition {
    /// Adds a number to its series.
    pub fn add(&mut self, sample: Sample) {
        let series = (sample.metric, sample.suffix, sample.labels.clone());
        let place = *self.places.entry(series).or_insert(self.samples.len());
        match self.samples.get_mut(place) {
            Some(held) => held.value += sample.value,
            None => self.samples.push(sample),
        }
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut by_metric: HashMap<&str, Vec<&Sample>> = HashMap::new();
        for sample in &self.samples {
            by_metric.entry(sample.metric).or_default().push(sample);
        }
        for metric in METRICS {
            let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(text, "# HELP {} {help}", metric.name);
            let _ = writeln!(text, "# TYPE {} {}", metric.name, metric.kind.as_str());
            for sample in by_metric.get(metric.name).into_iter().flatten() {
                write_sample(&mut text, sample);
            }
        }
        text
    }
}

fn write_sample(text: &mut String, sample: &Sample) {
    let _ = write!(text, "{}{}", sample.metric, sample.suffix);
    let mut before = '{';
    for (name, value) in sample.labels.iter().filter(|(_, value)| !value.is_empty()) {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{before}{name}=\"{value}\"");
        before = ',';
    }
    if before == ',' {
        text.push('}');
    }
    let _ = writeln!(text, " {}", sample.value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_as_the_format_wants_them() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(plain(metric.name) && metric.labels.iter().all(|label| plain(label)), "{}", metric.name);
            assert!(
                metric.name.starts_with("ringtap_") || metric.name.starts_with("process_"),
                "{}",
                metric.name
            );
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.unit.is_empty(), "{}", metric.name);
            if metric.kind == Kind::Histogram {
                assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
            }
        }
    }

    #[test]
    fn numbers_of_one_series_are_added_up_and_grouped_by_metric() {
        let mut exposition = Exposition::default();
        for value in [2.0, 3.0] {
            exposition.add(Sample::with("ringtap_accept_errors_total", &[("reason", "other")], value));
            exposition.add(Sample::plain("ringtap_connections_open", value));
        }
        exposition.add(Sample::with("ringtap_accept_errors_total", &[("reason", "descriptors")], 1.0));
        let text = exposition.render();
        let after = text.split("# TYPE ringtap_accept_errors_total counter\n").nth(1).expect("it is there");
        assert!(
            after.starts_with(
                "ringtap_accept_errors_total{reason=\"other\"} 5\nringtap_accept_errors_total{reason=\"descriptors\"} 1\n# HELP"
            ),
            "{after}"
        );
        assert!(text.contains("\nringtap_connections_open 5\n"), "{text}");
    }

    #[test]
    fn hostile_labels_stay_in_their_quotes() {
        let mut exposition = Exposition::default();
        let evil = "a\"b\\c\nringtap_build_info 7";
        exposition.add(Sample::with("ringtap_build_info", &[("version", evil), ("empty", "")], 1.0));
        let text = exposition.render();
        let expected = "ringtap_build_info{version=\"a\\\"b\\\\c\\nringtap_build_info 7\"} 1\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_histogram_ends_with_all_there_are() {
        let samples = Sample::histogram(
            "ringtap_tls_handshake_seconds",
            &[("side", "client")],
            &[0.001, 0.5],
            &[1, 4, 6],
            2.5,
        );
        let mut exposition = Exposition::default();
        samples.into_iter().for_each(|sample| exposition.add(sample));
        let text = exposition.render();
        let lines: Vec<_> =
            text.lines().filter(|line| line.starts_with("ringtap_tls_handshake_seconds")).collect();
        assert_eq!(
            lines,
            [
                "ringtap_tls_handshake_seconds_bucket{side=\"client\",le=\"0.001\"} 1",
                "ringtap_tls_handshake_seconds_bucket{side=\"client\",le=\"0.5\"} 4",
                "ringtap_tls_handshake_seconds_bucket{side=\"client\",le=\"+Inf\"} 6",
                "ringtap_tls_handshake_seconds_sum{side=\"client\"} 2.5",
                "ringtap_tls_handshake_seconds_count{side=\"client\"} 6",
            ]
        );
    }
}
