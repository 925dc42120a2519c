//! The numbers of the whole: workers' added up on demand, and those of everything they share. No worker is asked for
//! them while nobody wants to know.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::control::{self, Control};
use super::outbox::Backlog;
use super::{GatewayReport, PoolReport, WorkerReport};
use crate::ca::LeafCache;
use crate::clock::Clock;
use crate::config::Config;
use crate::proto::Counters;
use crate::proto::counters::BOUNDS;
use crate::ring::runtime::Busy;
use crate::ring::{Ring, process};
use crate::telemetry::metrics::{Exposition, Sample};

/// The time that a busy ratio looks back, in milliseconds.
const BUSY_WINDOW_MS: u64 = 10_000;

/// How busy workers were lately, looked at with every heartbeat.
pub(super) struct Pulse {
    workers: Vec<Busy>,
    clock: Clock,
    /// Moments, and each worker's busy time until then.
    seen: RefCell<VecDeque<(u64, Vec<Duration>)>>,
}

impl Pulse {
    pub(super) fn new(workers: Vec<Busy>, clock: Clock) -> Self {
        let pulse = Self { workers, clock, seen: RefCell::default() };
        pulse.look();
        pulse
    }

    /// Remembers this moment.
    pub(super) fn look(&self) {
        let now = self.clock.now_ms();
        let mut seen = self.seen.borrow_mut();
        // one look from before the window stays: the ratio is over all of it
        while seen.get(1).is_some_and(|(at, _)| *at + BUSY_WINDOW_MS <= now) {
            seen.pop_front();
        }
        seen.push_back((now, self.workers.iter().map(|busy| busy.total()).collect()));
    }

    /// A worker's busy time so far, in seconds, and the part of the last seconds that it was busy.
    fn of(&self, worker: usize) -> (f64, f64) {
        let Some(busy) = self.workers.get(worker) else { return (0.0, 0.0) };
        let total = busy.total();
        let seen = self.seen.borrow();
        let Some((at, before)) = seen.front() else { return (total.as_secs_f64(), 0.0) };
        let wall_ms = self.clock.now_ms().saturating_sub(*at).max(1);
        let since = total.saturating_sub(before.get(worker).copied().unwrap_or_default());
        (total.as_secs_f64(), (since.as_secs_f64() * 1000.0 / wall_ms as f64).min(1.0))
    }
}

/// What is shared by all workers, and the process's own facts.
pub(super) struct Gauge {
    pub(super) config: Arc<Config>,
    pub(super) leaves: Arc<LeafCache>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) pulse: Pulse,
    pub(super) sessions_max: usize,
    /// Unix seconds.
    pub(super) started: f64,
    /// Workers' last answers: one that hangs does not make counters go back.
    pub(super) last: RefCell<Vec<WorkerReport>>,
}

impl Gauge {
    /// Fills in what a worker cannot say of itself.
    pub(super) fn complete(&self, report: &mut WorkerReport) {
        (report.busy_seconds, report.busy_ratio) = self.pulse.of(report.worker);
    }

    /// What all workers share.
    pub(super) fn gateway(&self, control: &Control, workers: &[WorkerReport]) -> GatewayReport {
        let leaves = self.leaves.counters();
        let usage = process::usage();
        let store = control.store.as_ref().and_then(|store| store.lock().ok().map(|store| store.counters()));
        let sinks = &self.backlog;
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let open: Vec<usize> = workers.iter().map(|worker| worker.connections_open).collect();
        GatewayReport {
            version: env!("CARGO_PKG_VERSION").into(),
            started: self.started,
            uptime: self.pulse.clock.now_ms() / 1000,
            connections_limit: self.sessions_max,
            imbalance: imbalance(&open),
            open,
            resident_bytes: usage.resident_bytes,
            virtual_bytes: usage.virtual_bytes,
            cpu_seconds: usage.cpu_seconds,
            open_fds: usage.open_fds,
            max_fds: usage.max_fds,
            leaves: leaves.entries,
            leaf_bytes: leaves.bytes,
            leaf_limit_bytes: self.config.leaf_cache_max,
            leaf_hits: leaves.hits,
            leaf_misses: leaves.misses,
            leaf_evictions: leaves.evictions,
            flows_in_memory: store.map_or(0, |store| store.held),
            flow_store_bytes: store.map_or(0, |store| store.bytes),
            flow_store_limit_bytes: self.config.flow_store_max,
            flow_store_evicted: store.map_or(0, |store| store.evicted),
            flow_queue_bytes: sinks.bytes.load(Ordering::Relaxed),
            flow_queue_limit_bytes: self.config.recorder_queue_max,
            flows_lost: load(&sinks.lost),
            flows_unprinted: load(&sinks.unprinted),
            events_lost: control.events_lost.get(),
            recording: self.config.save_stream_file.is_some() && self.config.server,
            recorder_failing: sinks.recorder.failing.load(Ordering::Relaxed),
            recorder_flows: load(&sinks.recorder.flows),
            recorder_errors: load(&sinks.recorder.errors),
            recorder_lost: load(&sinks.recorder.lost),
            recorder_bytes: load(&sinks.recorder.bytes),
        }
    }
}

/// The most, divided by the mean; 0 where there is nothing.
fn imbalance(open: &[usize]) -> f64 {
    let all: usize = open.iter().sum();
    let most = open.iter().max().copied().unwrap_or_default();
    if all == 0 { 0.0 } else { most as f64 * open.len() as f64 / all as f64 }
}

/// All metrics as text.
pub(super) async fn exposition(control: &Rc<Control>) -> String {
    let mut exposition = Exposition::default();
    let fresh = control::report(control, false).await;
    let gauge = &control.gauge;
    let mut reports = gauge.last.borrow().clone();
    for held in &mut reports {
        held.up = false;
    }
    for report in fresh {
        match reports.iter_mut().find(|held| held.worker == report.worker) {
            Some(held) => *held = report,
            None => reports.push(report),
        }
    }
    reports.sort_by_key(|report| report.worker);
    for report in &reports {
        shard(report, &mut exposition);
    }
    whole(&gauge.gateway(control, &reports), &mut exposition);
    gauge.last.replace(reports);
    exposition.render()
}

fn shard(report: &WorkerReport, exposition: &mut Exposition) {
    let number = report.worker.to_string();
    let shard = [("shard", number.as_str())];
    let taken: u64 = report.listeners.iter().map(|listener| listener.taken).sum();
    for (metric, value) in [
        ("ringtap_shard_up", f64::from(u8::from(report.up))),
        ("ringtap_shard_connections_open", report.connections_open as f64),
        ("ringtap_shard_connections_total", taken as f64),
        ("ringtap_shard_busy_ratio", report.busy_ratio),
        ("ringtap_shard_busy_seconds_total", report.busy_seconds),
        ("ringtap_ring_ops_in_flight", report.ring_ops as f64),
        ("ringtap_ring_sq_full_total", report.ring_sq_full as f64),
        ("ringtap_ring_cq_overflows_total", report.ring_overflows as f64),
        ("ringtap_ring_enobufs_total", report.ring_enobufs as f64),
        ("ringtap_spliced_bytes_total", report.spliced_bytes as f64),
    ] {
        exposition.add(Sample::with(metric, &shard, value));
    }
    exposition.add(Sample::plain("ringtap_connections_open", report.connections_open as f64));
    for listener in &report.listeners {
        let labels = [("mode", listener.mode.as_str()), ("listener", listener.listener.as_str())];
        exposition.add(Sample::with("ringtap_connections_total", &labels, listener.taken as f64));
    }
    for pool in &report.pools {
        let labels = [("shard", number.as_str()), ("pool", pool.pool.as_str())];
        for (metric, value) in [
            ("ringtap_pool_buffers_in_use", pool.in_use as f64),
            ("ringtap_pool_buffers_idle", pool.idle as f64),
            ("ringtap_pool_buffers_limit", pool.limit as f64),
            ("ringtap_pool_starved_total", pool.starved as f64),
        ] {
            exposition.add(Sample::with(metric, &labels, value));
        }
    }
    for sample in &report.samples {
        exposition.add(sample.clone());
    }
}

fn whole(report: &GatewayReport, exposition: &mut Exposition) {
    for (metric, value) in [
        ("ringtap_connections_limit", report.connections_limit as f64),
        ("ringtap_shard_connections_imbalance", report.imbalance),
        ("ringtap_cert_cache_entries", report.leaves as f64),
        ("ringtap_cert_cache_bytes", report.leaf_bytes as f64),
        ("ringtap_cert_cache_limit_bytes", report.leaf_limit_bytes as f64),
        ("ringtap_cert_cache_hits_total", report.leaf_hits as f64),
        ("ringtap_cert_cache_misses_total", report.leaf_misses as f64),
        ("ringtap_cert_cache_evictions_total", report.leaf_evictions as f64),
        ("ringtap_flows_in_memory", report.flows_in_memory as f64),
        ("ringtap_flow_store_bytes", report.flow_store_bytes as f64),
        ("ringtap_flow_store_limit_bytes", report.flow_store_limit_bytes as f64),
        ("ringtap_flow_store_evicted_total", report.flow_store_evicted as f64),
        ("ringtap_flow_queue_bytes", report.flow_queue_bytes as f64),
        ("ringtap_flow_queue_limit_bytes", report.flow_queue_limit_bytes as f64),
        ("ringtap_events_lost_total", report.events_lost as f64),
        ("ringtap_recorder_flows_total", report.recorder_flows as f64),
        ("ringtap_recorder_errors_total", report.recorder_errors as f64),
        ("ringtap_recorder_file_bytes", report.recorder_bytes as f64),
        ("process_start_time_seconds", report.started),
        ("process_cpu_seconds_total", report.cpu_seconds),
        ("process_resident_memory_bytes", report.resident_bytes as f64),
        ("process_virtual_memory_bytes", report.virtual_bytes as f64),
        ("process_open_fds", report.open_fds as f64),
        ("process_max_fds", report.max_fds as f64),
    ] {
        exposition.add(Sample::plain(metric, value));
    }
    if report.recording {
        let up = f64::from(u8::from(!report.recorder_failing));
        exposition.add(Sample::plain("ringtap_recorder_up", up));
    }
    for (sink, reason, value) in [
        ("all", "queue_full", report.flows_lost),
        ("recorder", "write_failed", report.recorder_lost),
        ("terminal", "reader_slow", report.flows_unprinted),
    ] {
        let labels = [("sink", sink), ("reason", reason)];
        exposition.add(Sample::with("ringtap_flows_dropped_total", &labels, value as f64));
    }
    exposition.add(Sample::with("ringtap_build_info", &[("version", &report.version)], 1.0));
}

/// A worker's numbers that are added up over workers.
pub(super) fn samples(counters: &Counters, ring: &Ring) -> Vec<Sample> {
    let mut samples = Vec::new();
    counters.each(&mut |metric, labels, value| samples.push(Sample::with(metric, labels, value as f64)));
    for (metric, labels, histogram) in counters.histograms() {
        let (counts, sum) = histogram.cumulated();
        samples.extend(Sample::histogram(metric, labels, &BOUNDS, &counts, sum));
    }
    let facts = ring.facts();
    for (leg, dir, bytes) in [
        ("client", "in", &facts.client.received),
        ("client", "out", &facts.client.sent),
        ("server", "in", &facts.server.received),
        ("server", "out", &facts.server.sent),
    ] {
        let labels = [("leg", leg), ("dir", dir)];
        samples.push(Sample::with("ringtap_bytes_total", &labels, bytes.get() as f64));
    }
    samples
}

/// A worker's pools.
pub(super) fn pools(ring: &Ring) -> Vec<PoolReport> {
    [("small", ring.pool()), ("bulk", ring.bulk_pool())]
        .map(|(name, pool)| PoolReport {
            pool: name.to_owned(),
            in_use: pool.in_use(),
            idle: pool.idle(),
            limit: pool.limit(),
            starved: pool.starved(),
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{Kind, METRICS, find};

    #[test]
    fn every_series_of_a_worker_is_in_the_table_with_its_labels() {
        let counters = Counters::default();
        let mut known = 0;
        counters.each(&mut |name, labels, _| {
            let metric = find(name).unwrap_or_else(|| panic!("{name} is not in the table"));
            let names: Vec<_> = labels.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, metric.labels, "{name}");
            known += 1;
        });
        assert!(known > 20, "only {known} series");
        for (name, labels, _) in counters.histograms() {
            let metric = find(name).unwrap_or_else(|| panic!("{name} is not in the table"));
            assert_eq!(metric.kind, Kind::Histogram, "{name}");
            assert_eq!(labels.iter().map(|(name, _)| *name).collect::<Vec<_>>(), metric.labels, "{name}");
        }
    }

    #[test]
    fn every_metric_of_the_table_has_a_number_and_every_number_a_metric() {
        let report = WorkerReport {
            listeners: vec![super::super::ListenerReport::default()],
            pools: vec![PoolReport::default()],
            samples: full_samples(),
            ..WorkerReport::default()
        };
        let mut exposition = Exposition::default();
        shard(&report, &mut exposition);
        whole(&GatewayReport { recording: true, ..GatewayReport::default() }, &mut exposition);
        let text = exposition.render();
        for metric in METRICS {
            let starts = |line: &&str| {
                let rest = line.strip_prefix(metric.name).unwrap_or("x");
                rest.starts_with([' ', '{', '_'])
            };
            assert!(
                text.lines().filter(|line| !line.starts_with('#')).any(|line| starts(&line)),
                "{}",
                metric.name
            );
        }
        let shown = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(shown, exposition.len(), "a number that no metric of the table has is not shown");
    }

    /// As a worker has them that has seen everything once.
    fn full_samples() -> Vec<Sample> {
        let counters = Counters::default();
        let method = crate::proto::counters::MethodLabel::of(b"GET");
        counters.answered.count(crate::proto::counters::HttpProto::Http1, method, 200);
        let mut samples = Vec::new();
        counters.each(&mut |metric, labels, value| samples.push(Sample::with(metric, labels, value as f64)));
        for (metric, labels, histogram) in counters.histograms() {
            let (counts, sum) = histogram.cumulated();
            samples.extend(Sample::histogram(metric, labels, &BOUNDS, &counts, sum));
        }
        samples.push(Sample::with("ringtap_bytes_total", &[("leg", "client"), ("dir", "in")], 1.0));
        samples
    }

    #[test]
    fn the_imbalance_is_one_if_even_and_the_number_of_workers_if_one_has_all() {
        let close =
            |open: &[usize], expected: f64| assert!((imbalance(open) - expected).abs() < 1e-9, "{open:?}");
        close(&[], 0.0);
        close(&[0, 0], 0.0);
        close(&[5, 5, 5], 1.0);
        close(&[0, 3, 0, 0], 4.0);
        close(&[3, 1], 1.5);
    }
}
