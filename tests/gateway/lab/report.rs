//! What ringtap says of itself: `ringtap ctl workers`, all workers added up.

use std::time::Duration;

use super::daemon::ringtap_binary;
use super::{Lab, Place, text};

pub(crate) struct Report {
    pub(crate) pid: u32,
    pub(crate) workers: usize,
    /// Open client connections.
    pub(crate) open: u64,
    pub(crate) buffers: u64,
    pub(crate) ring_ops: u64,
    pub(crate) overflows: u64,
    pub(crate) counters: Vec<(String, u64)>,
    /// Connections taken by each worker.
    pub(crate) taken: Vec<u64>,
}

impl Report {
    pub(crate) fn of(lab: &Lab) -> Report {
        let socket = text(&lab.confdir().join("control.sock"));
        let argv = [&text(&ringtap_binary()), "ctl", "workers", "--json", "--socket", &socket];
        // beside a load that leaves it little of the machine
        let said = lab.run(Place::Gateway, &argv, Duration::from_secs(60)).succeeded().stdout;
        let lines = said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let workers: Vec<_> = lines.filter(|line| line["kind"] == "worker").collect();
        let sum = |name: &str| workers.iter().filter_map(|worker| worker[name].as_u64()).sum();
        let mut report = Report {
            pid: u32::try_from(workers[0]["pid"].as_u64().expect("a process")).expect("a process"),
            workers: workers.len(),
            open: sum("connections_open"),
            buffers: sum("buffers_in_use"),
            ring_ops: sum("ring_ops"),
            overflows: sum("ring_overflows"),
            counters: Vec::new(),
            taken: Vec::new(),
        };
        for counter in workers.iter().flat_map(|worker| worker["counters"].as_array().expect("counters")) {
            let (name, value) =
                (counter[0].as_str().expect("a name"), counter[1].as_u64().expect("a number"));
            if name == "connections" {
                report.taken.push(value);
            }
            match report.counters.iter_mut().find(|(held, _)| held == name) {
                Some((_, sum)) => *sum += value,
                None => report.counters.push((name.to_owned(), value)),
            }
        }
        report
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        let found = self.counters.iter().find(|(held, _)| held == name);
        found.unwrap_or_else(|| panic!("no counter {name}: {:?}", self.counters)).1
    }
}
