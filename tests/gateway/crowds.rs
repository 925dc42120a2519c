//! At the limits: out of descriptors, thousands of idle connections, a storm. Who is served goes on being served.
//!
//! `RINGTAP_IDLE_CONNECTIONS` and `RINGTAP_STORM_CONNECTIONS` set other sizes; `scripts/soak` runs 5,000 and 20,000.

use std::io::{ErrorKind, Read, Write};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::lab::client::{ORIGIN_ISSUER, connect};
use crate::lab::crowd::{Kept, Way};
use crate::lab::daemon::{Daemon, TRANSPARENT};
use crate::lab::report::Report;
use crate::lab::{Lab, Place, address, eventually, settled};

#[test]
fn without_descriptors_new_clients_are_told_and_those_there_are_served() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect_with("redirect", &["--on-failure", "closed"]);
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
    let way = Way::redirected(&lab.ringtap_ca());
    lab.inside(Place::Client, || {
        let mut live = [true, false].map(|secure| way.open(secure).expect("a connection"));
        let mut serve = |when: &str| {
            for kept in &mut live {
                assert!(kept.get("1k", 1024).unwrap_or_else(|error| panic!("{when}: {error}")));
            }
        };
        serve("before");
        settled(|| daemon.fd_count());
        let http = || connect(&address("example.test", 4), 80, WITHIN).expect("connected");
        let request = b"GET /1k HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n";

        // an accept that is under way goes by the limit it began with: there is room for the client, none for its server
        limit_files(&daemon, daemon.lowest_free_fd());
        let mut refused = http();
        refused.write_all(request).expect("written");
        let mut answer = String::new();
        refused.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("open files"), "{answer}");
        serve("while no server can be reached");
        limit_files(&daemon, 16_384);
        serve("after");
    });
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
    daemon.must_be_alive();
}

#[test]
fn a_storm_at_the_limit_is_refused_and_counted() {
    let size = size("RINGTAP_STORM_CONNECTIONS", 4_000);
    let lab = Lab::alone();
    // 128 are kept for other things, and a session takes two
    let limited = ["prlimit", &format!("--nofile={0}:{0}", 128 + 2 * SERVED)];
    let mut daemon = lab.start_ringtap_with(&limited, &TRANSPARENT);
    lab.redirect_with("redirect", &["--on-failure", "closed"]);
    let way = Way::redirected(&lab.ringtap_ca());
    lab.inside(Place::Client, || {
        let mut served = open(&way, SERVED);
        let before = Report::of(&lab).counter("connections_refused");
        let next = AtomicUsize::new(0);
        let knock = || -> std::io::Result<usize> {
            let mut socket = connect(&address("example.test", 4), 80, WITHIN)?;
            socket.write_all(b"GET /1k HTTP/1.1\r\nHost: example.test\r\n\r\n")?;
            socket.read(&mut [0])
        };
        std::thread::scope(|scope| {
            let knocks = || {
                while next.fetch_add(1, Ordering::Relaxed) < size {
                    // the reset may come as early as that
                    let error = knock().expect_err("nobody is served beyond the limit");
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
                }
            };
            let storm: Vec<_> = (0..16).map(|_| scope.spawn(knocks)).collect();
            while !storm.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                for kept in &mut served {
                    assert!(kept.get("1k", 1024).expect("those served go on"));
                }
            }
        });
        let refused = Report::of(&lab).counter("connections_refused") - before;
        assert_eq!(refused, size as u64, "each is counted");
        drop(served);
        eventually("there is room again", WITHIN, || {
            way.open(true).and_then(|mut kept| kept.get("1k", 1024)).ok()
        });
    });
    daemon.must_be_alive();
}

#[test]
fn thousands_of_idle_connections_are_there_when_needed_and_cost_nothing_afterwards() {
    let size = size("RINGTAP_IDLE_CONNECTIONS", 1_000);
    let lab = Lab::alone();
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect_with("redirect", &["--on-failure", "closed"]);
    let way = Way::redirected(&lab.ringtap_ca());
    let start_kb = daemon.rss_kb();
    let round = || {
        lab.inside(Place::Client, || {
            let mut kept = open(&way, size);
            let held_kb = daemon.rss_kb();
            for connection in kept.iter_mut().take(1_000) {
                assert!(connection.get("1k", 1024).expect("an idle connection serves"));
            }
            held_kb
        })
    };
    let gone = || {
        eventually("all are gone", WITHIN, || (Report::of(&lab).open == 0).then_some(()));
        std::thread::sleep(Duration::from_secs(10));
    };
    let warm_kb = round();
    gone();
    let base_kb = daemon.rss_kb();
    let held_kb = round();
    gone();
    let after_kb = daemon.rss_kb();
    println!(
        "RSS in KB: {start_kb} at the start; {warm_kb} with {size} idle TLS connections, {base_kb} without; \
         {held_kb} and {after_kb} in a second round: {} KB for each",
        (held_kb - base_kb.min(held_kb)) / size as u64
    );
    assert!(after_kb <= base_kb + base_kb / 10, "{base_kb} KB before, {after_kb} KB after");
    let reply = lab.client().curl(["https://example.test/1k"]).expect_status(200);
    assert!(!reply.issuer().contains(ORIGIN_ISSUER));
    daemon.must_be_alive();
}

/// TLS connections, each of which has been served once.
fn open(way: &Way, count: usize) -> Vec<Kept> {
    let (held, next) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let mut kept = way.open(true).expect("a connection");
                    assert!(kept.get("1k", 1024).expect("served"));
                    held.lock().expect("no panic elsewhere").push(kept);
                }
            });
        }
    });
    held.into_inner().expect("no panic elsewhere")
}

/// How many files ringtap may open from now on; those that are open stay.
fn limit_files(daemon: &Daemon, count: usize) {
    let argv = ["--pid", &daemon.pid().to_string(), &format!("--nofile={count}:")];
    let status = Command::new("prlimit").args(argv).status().expect("prlimit");
    assert!(status.success());
}

fn size(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number of connections"))
}

/// Connections at the limit.
const SERVED: usize = 500;
const WITHIN: Duration = Duration::from_secs(30);
