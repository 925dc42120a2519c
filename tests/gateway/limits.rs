//! What a busy gateway runs out of is named, counted, and can be mended.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::lab::client::connect;
use crate::lab::exposition::Exposition;
use crate::lab::{Lab, Place, settled};

const PATIENCE: Duration = Duration::from_secs(30);
const MODE: [&str; 5] = ["--mode", "regular@8081", "-q", "--set", "metrics_addr=127.0.0.1:9464"];

/// A client's connection to the proxy with one request answered: the server's connection behind it is kept.
fn held() -> (TcpStream, u16, String) {
    let mut socket = connect("10.78.1.1", 8081, PATIENCE).expect("the proxy takes us");
    let request = "GET http://10.78.2.2/1k HTTP/1.1\r\nHost: example.test\r\n\r\n";
    socket.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // a kilobyte, or a refusal that ends with the connection
    loop {
        match socket.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&piece[..n]),
        }
        let head = answer.windows(4).position(|found| found == b"\r\n\r\n");
        if head.is_some_and(|head| answer.starts_with(b"HTTP/1.1 200") && answer.len() >= head + 4 + 1024) {
            break;
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (socket, status, text)
}

fn scrape(lab: &Lab) -> Exposition {
    let argv = ["curl", "-qsSf", "-m", "20", "http://127.0.0.1:9464/metrics"];
    Exposition::read(&lab.run(Place::Gateway, &argv, Duration::from_secs(25)).succeeded().stdout)
}

#[test]
fn out_of_ports_is_said_and_more_addresses_mend_it() {
    let lab = Lab::new();
    lab.sysctl(Place::Gateway, "ipv4/ip_local_port_range", "20000 20003");
    let mut daemon = lab.start_ringtap(&MODE);
    let held_open = lab.inside(Place::Client, || (0..10).map(|_| held()).collect::<Vec<_>>());
    let refused: Vec<_> = held_open.iter().filter(|(_, status, _)| *status != 200).collect();
    assert_eq!(refused.len(), 6, "four ports serve four connections");
    for (_, status, text) in &refused {
        assert_eq!(*status, 502, "{text}");
        for part in ["no local port", "ip_local_port_range", "connect_addr"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let page = scrape(&lab);
    let counted = page.of("ringtap_upstream_connect_errors_total{reason=\"ports\"}");
    assert!((counted - 6.0).abs() < 1e-9, "{counted} counted");
    assert!(page.sum("ringtap_shard_connections_imbalance", "") >= 1.0, "connections are open");
    // as soon as ports are free again, all is well
    drop(held_open);
    assert!(daemon.terminate().success());

    // eight addresses more: eight times the ports. The range's other addresses are not ours, and not used.
    for number in 32..40 {
        let addr = format!("10.78.2.{number}/24");
        crate::lab::must(&["ip", "-n", &lab.netns(Place::Gateway), "addr", "add", &addr, "dev", "g1"]);
    }
    let daemon = lab.start_ringtap(&[&MODE[..], &["--set", "connect_addr=10.78.2.32/28"]].concat());
    let held_open = lab.inside(Place::Client, || (0..24).map(|_| held()).collect::<Vec<_>>());
    for (_, status, text) in &held_open {
        assert_eq!(*status, 200, "{text}\n{}", daemon.stderr());
    }
    let argv = ["ss", "-Htn", "dst", "10.78.2.2"];
    let sockets = lab.run(Place::Gateway, &argv, PATIENCE).succeeded().stdout;
    for number in 32..40 {
        let from = format!("10.78.2.{number}:");
        let count = sockets.lines().filter(|line| line.contains("ESTAB") && line.contains(&from)).count();
        assert!((2..=4).contains(&count), "{count} connections from {from} of 24 on eight:\n{sockets}");
    }
}

#[test]
fn addresses_that_are_not_ours_are_refused_at_the_start() {
    let lab = Lab::new();
    for (addr, parts) in [
        ("10.99.0.1", ["10.99.0.1 is no address of this machine", "ip_nonlocal_bind"]),
        ("10.99.0.0/28", ["no address in 10.99.0.0/28", "ip route add local"]),
        ("2001:db8:99::1", ["2001:db8:99::1 is no address", "ip addr add"]),
        ("10.0.0.0/8", ["more than 4096", "connect_addr"]),
        ("gateway", ["connect_addr", "no address range"]),
    ] {
        let option = format!("connect_addr={addr}");
        let said = lab.dump_to_its_end(&[], &["--mode", "regular@8081", "-q", "--set", &option]);
        assert_ne!(said.code(), 0, "{addr}");
        for part in parts {
            assert!(said.stderr.contains(part), "{addr}: {part}: {}", said.stderr);
        }
    }
    // a range that is routed to us whole is ours, and so are addresses that the operator allows
    let netns = lab.netns(Place::Gateway);
    crate::lab::must(&["ip", "-n", &netns, "route", "add", "local", "10.99.0.0/28", "dev", "lo"]);
    lab.sysctl(Place::Gateway, "ipv6/ip_nonlocal_bind", "1");
    let options = ["--set", "connect_addr=10.99.0.0/28,2001:db8:99::1"];
    let daemon = lab.start_ringtap(&[&["--mode", "regular@8081"][..], &options].concat());
    let said = || daemon.stderr().contains("from 16 IPv4 and 1 IPv6 addresses").then_some(());
    crate::lab::eventually("it says how many there are", PATIENCE, said);
}

#[test]
fn without_descriptors_left_the_reason_is_said_and_others_go_on() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&MODE);
    let (mut first, status, _) = lab.inside(Place::Client, held);
    assert_eq!(status, 200);
    // room for a client's connection, none for the server's
    settled(|| daemon.fd_count());
    let held_open = daemon.fds();
    let second_free = (0..).filter(|fd| !held_open.contains(fd)).nth(1).expect("numbers do not end");
    let limit = format!("--nofile={second_free}:4096");
    crate::lab::must(&["prlimit", "--pid", &daemon.pid().to_string(), &limit]);
    let (second, status, text) = lab.inside(Place::Client, held);
    assert_eq!(status, 502, "{text}");
    assert!(text.contains("no file descriptor is left") && text.contains("LimitNOFILE"), "{text}");
    drop(second);
    let request = "GET http://10.78.2.2/1k HTTP/1.1\r\nHost: example.test\r\n\r\n";
    first.write_all(request.as_bytes()).expect("sent");
    let mut answer = [0; 12];
    first.read_exact(&mut answer).expect("answered");
    assert_eq!(&answer, b"HTTP/1.1 200", "whoever is served goes on");
    crate::lab::must(&["prlimit", "--pid", &daemon.pid().to_string(), "--nofile=4096:4096"]);
    let (_, status, text) = lab.inside(Place::Client, held);
    assert_eq!(status, 200, "{text}");
    let counted = scrape(&lab).of("ringtap_upstream_connect_errors_total{reason=\"descriptors\"}");
    assert!((counted - 1.0).abs() < 1e-9, "{counted} counted");
    daemon.must_be_alive();
}

#[test]
fn a_full_table_of_tracked_connections_is_named_where_a_server_seems_silent() {
    let lab = Lab::new();
    // the real table is the whole machine's: ringtap is shown a full one
    let fakes = lab.fresh_path("netfilter");
    std::fs::create_dir(&fakes).expect("a directory");
    for name in ["nf_conntrack_count", "nf_conntrack_max"] {
        std::fs::write(fakes.join(name), "512\n").expect("a file");
    }
    let script = "mount --bind \"$1\" /proc/sys/net/netfilter; shift; exec \"$@\"";
    let before = ["sh", "-ec", script, "sh", &crate::lab::text(&fakes)];
    let daemon = lab.start_ringtap_with(&before, &[&MODE[..], &["--set", "connect_timeout=2"]].concat());
    let reply = lab.client().curl(["-x", "http://10.78.1.1:8081", "http://hang.test/"]).expect_status(502);
    for part in ["table of tracked connections is full (512 of 512)", "nf_conntrack_max"] {
        assert!(reply.text().contains(part), "{part}: {}\n{}", reply.text(), daemon.stderr());
    }
    let counted = scrape(&lab).of("ringtap_upstream_connect_errors_total{reason=\"conntrack\"}");
    assert!((counted - 1.0).abs() < 1e-9, "{counted} counted");
    // a server that answers is reached all the same
    lab.client().curl(["-x", "http://10.78.1.1:8081", "http://example.test/1k"]).expect_status(200);
}
