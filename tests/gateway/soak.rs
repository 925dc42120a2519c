//! Everything at once, for as long as is asked: new and kept connections, bulk, aborts, garbage. What was taken is
//! given back, what was counted adds up, and memory does not grow with time.
//!
//! `RINGTAP_SOAK_SECONDS` says how long (20 unless set); `scripts/soak` runs ten minutes.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::broken_peers::break_one;
use crate::lab::client::{connect, reset, tls_config};
use crate::lab::crowd::{Deeds, Way, crowd};
use crate::lab::daemon::TRANSPARENT;
use crate::lab::report::Report;
use crate::lab::{Lab, Place, address, eventually, now};

#[test]
fn mixed_load_leaves_nothing_behind() {
    let seconds =
        std::env::var("RINGTAP_SOAK_SECONDS").map_or(20, |text| text.parse().expect("whole seconds"));
    let length = Duration::from_secs(seconds);
    let lab = Lab::alone();
    // a client that has closed its half and is gone cannot be told from one that waits for a silent server
    let patience =
        ["--set", "tcp_timeout=15", "--set", "response_timeout=15", "--set", "keepalive_timeout=15"];
    let mut daemon = lab.start_ringtap(&[&TRANSPARENT[..], &patience].concat());
    lab.redirect_with("redirect", &["--on-failure", "closed"]);
    let load = Load::new(&lab);
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| lab.inside(Place::Client, || load.run()));
        // set when we leave, by a panic too: else the traffic would never end
        let _traffic = StopOnDrop(&load.deeds);
        let began = now();
        while began.elapsed() < length {
            std::thread::sleep((length / 100).max(Duration::from_millis(200)));
            daemon.must_be_alive();
            samples.push(daemon.rss_kb());
        }
    });
    let failures = load.deeds.failures.lock().expect("no panic elsewhere");
    assert!(failures.is_empty(), "{} failures, the first: {:?}", failures.len(), failures.first());

    // the first quarter warms caches up; of the last half, its two halves are compared
    let quarter = samples.len() / 4;
    let (third, last) = (median(&samples[2 * quarter..3 * quarter]), median(&samples[3 * quarter..]));
    let peak = samples.iter().max().copied().unwrap_or_default();
    println!(
        "RSS in KB: {} after a quarter, {third} and {last} in the two halves of the last half, at most {peak}",
        samples[quarter]
    );
    let report = eventually("nothing is held", Duration::from_secs(120), || {
        let report = Report::of(&lab);
        (report.open == 0 && report.buffers == 0 && report.ring_ops == LISTENERS).then_some(report)
    });
    let count = |name: &str| report.counter(name);
    let said: Vec<String> = report.counters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    println!("after {seconds} s: {}", said.join(", "));
    assert_eq!(count("requests"), count("responses") + count("request_errors"), "{said:?}");
    assert!(count("responses") >= load.deeds.answered() as u64, "{said:?}");
    assert_eq!(count("connections_refused"), 0, "{said:?}");
    assert_eq!(report.overflows, 0, "the completion queue was always long enough");
    let allowed = third + third / 10 + SLACK_KB;
    assert!(last <= allowed, "RSS grows: {third} KB, then {last} KB\n{samples:?}");
}

struct Load {
    deeds: Deeds,
    way: Way,
    config: std::sync::Arc<rustls::ClientConfig>,
    number: AtomicUsize,
}

impl Load {
    fn new(lab: &Lab) -> Load {
        // minted at the first connection at the latest
        let ca = lab.ringtap_ca();
        Load {
            deeds: Deeds::default(),
            way: Way::redirected(&ca),
            config: tls_config(&ca),
            number: AtomicUsize::new(0),
        }
    }

    fn run(&self) {
        std::thread::scope(|scope| {
            scope.spawn(|| crowd(100, &self.way, &self.deeds));
            scope.spawn(|| self.until_the_end(|| self.bulk(true)));
            scope.spawn(|| self.until_the_end(|| self.bulk(false)));
            for _ in 0..4 {
                // errors are what these are about; only that they end matters
                scope.spawn(|| self.until_the_end(|| drop(break_one(self.next(), &self.config))));
                scope.spawn(|| self.until_the_end(|| drop(self.garbage(self.next()))));
            }
        });
    }

    fn until_the_end(&self, work: impl Fn()) {
        while !self.deeds.stop.load(Ordering::Relaxed) {
            work();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn next(&self) -> usize {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    fn bulk(&self, secure: bool) {
        let got = self.way.open(secure).and_then(|mut kept| kept.get("10m", 10 << 20));
        self.deeds.note("bulk", got);
    }

    /// Bytes that are no protocol at all, or the wrong one.
    fn garbage(&self, number: usize) -> std::io::Result<()> {
        let port = if number.is_multiple_of(2) { 80 } else { 443 };
        let mut socket = connect(&address("odd.test", 4), port, Duration::from_secs(10))?;
        let mut seed = number as u64 | 1;
        let noise = std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()[3]
        });
        let mut bytes: Vec<u8> = noise.take(number % 3000).collect();
        match number % 4 {
            0 => bytes.splice(0..0, *b"\x16\x03\x01\x00\xf0\x01\x00\x00\xec").for_each(drop),
            1 => bytes.splice(0..0, *b"GET / HTTP/1.1\r\n").for_each(drop),
            _ => {}
        }
        socket.write_all(&bytes)?;
        if number.is_multiple_of(3) {
            reset(socket);
            return Ok(());
        }
        socket.shutdown(std::net::Shutdown::Write)?;
        let mut sink = Vec::new();
        socket.take(1 << 20).read_to_end(&mut sink).map(drop)
    }
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

struct StopOnDrop<'a>(&'a Deeds);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Two workers, each with an accept for IPv4 and one for IPv6.
const LISTENERS: u64 = 4;
/// What one more bulk transfer at the moment of a sample makes of difference.
const SLACK_KB: u64 = 2_000;
