//! Bodies that stream past an addon or through its function, and those that it sees whole: ringtap embedded in a
//! program with an addon (`examples/embed.rs`), which does what the paths of requests ask for.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use crate::lab::client::connect;
use crate::lab::daemon::{Daemon, TRANSPARENT};
use crate::lab::origin::{Sum, sha256};
use crate::lab::{Lab, Place, address, now, text};

#[test]
fn a_gigabyte_streams_each_way_with_and_without_a_function() {
    let lab = Lab::alone();
    let daemon = lab.start_embedded();
    lab.redirect("redirect");
    for (url, upload) in [
        ("https://example.test/1g", false),
        ("https://example.test/1g?addon=copy", false),
        ("https://odd.test/echo", true),
        ("https://odd.test/echo?addon=copy", true),
    ] {
        let growth_kb = growth_during(&lab, &daemon, || match upload {
            false => assert_eq!(download(&lab, url), lab.files().sum("1g"), "{url}"),
            true => {
                let file = text(&lab.files().path("1g"));
                let client = lab.client().within(Duration::from_secs(240));
                let said = client.curl(["-T", &file, url]).expect_status(200).json();
                assert_eq!(said["sha256"], lab.files().sum("1g"), "{url} {said}");
                let framed = if url.contains("copy") { "transfer_encoding" } else { "content_length" };
                assert!(said[framed].is_string(), "{url} {said}");
            }
        });
        assert!(growth_kb < GROWTH_MAX_KB, "{url}: grew by {growth_kb} KB");
    }
}

#[test]
fn a_function_changes_what_passes() {
    let lab = Lab::new();
    let _daemon = lab.start_embedded();
    lab.redirect("redirect");
    for origin in ["http://odd.test", "https://odd.test"] {
        let body = "hello ".repeat(50_000);
        let url = format!("{origin}/echo?addon=shout");
        let said =
            lab.client().curl(["-H", "Expect:", "--data-binary", &body[..100_000], &url]).expect_status(200);
        let sum = sha256(body[..100_000].to_uppercase().as_bytes()).to_uppercase();
        assert!(said.text().contains(&sum), "{url}: {}", said.text());
        assert_eq!(said.header("transfer-encoding"), Some("chunked"), "{}", said.heads);
        let old = lab.client().curl(["--http1.0", &format!("{origin}/head?addon=shout")]).expect_status(200);
        assert!(old.text().starts_with("GET /HEAD?ADDON=SHOUT HTTP/1.0"), "{}", old.text());
        assert_eq!((old.header("transfer-encoding"), old.header("connection")), (None, Some("close")));
    }
}

#[test]
fn the_first_bytes_do_not_wait_for_the_rest() {
    let lab = Lab::new();
    let _daemon = lab.start_embedded();
    lab.redirect("redirect");
    for wish in ["", "&addon=copy"] {
        // the origin has sent a megabyte after half of the time
        let url = format!("https://odd.test/slow?n=2000000&parts=20&seconds=10{wish}");
        let start = now();
        let mut curl = lab.client().curl_piped(&["-N", &url]);
        let mut first = [0; 1];
        curl.take_stdout().read_exact(&mut first).expect("the first byte");
        assert!(start.elapsed() < Duration::from_secs(4), "{url}: first byte after {:?}", start.elapsed());
    }
}

#[test]
fn events_come_one_by_one_though_an_addon_wants_responses() {
    let lab = Lab::new();
    let _daemon = lab.start_embedded();
    lab.redirect("redirect");
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://odd.test/sse?n=5&every=1&addon=append");
        let mut curl = lab.client().curl_piped(&["-N", &url]);
        let lines = BufReader::new(curl.take_stdout()).lines();
        let mut first = None;
        let mut count = 0;
        for line in lines.map(|line| line.expect("a line")).filter(|line| line.starts_with("data: ")) {
            assert_eq!(line, format!("data: {count}"));
            let since = first.get_or_insert_with(now).elapsed();
            // each is here before the next one is sent
            assert!(since < Duration::from_millis(count * 1000 + 900), "{url}: {line} after {since:?}");
            count += 1;
        }
        assert_eq!(count, 5, "{url}");
    }
}

#[test]
fn five_megabytes_are_edited_and_an_answer_of_our_own_leaves_the_origin_alone() {
    let lab = Lab::new();
    let _daemon = lab.start_embedded();
    lab.redirect("redirect");
    for origin in ["http://odd.test", "https://odd.test"] {
        let url = format!("{origin}/pattern?n=5000000&addon=append");
        let reply = lab.client().curl([&url]).expect_status(200);
        let body = reply.body.strip_suffix(b"appended\n").expect("what the addon appended");
        assert_eq!(Some(sha256(body).as_str()), reply.header("x-sha256"), "{url}");
        assert_eq!(reply.header("content-length"), Some("5000009"), "{url}");
    }
    let file = format!("@{}", lab.files().path("10m").display());
    for origin in ["http://example.test", "https://example.test"] {
        let url = format!("{origin}/?addon=answer");
        let reply = lab.client().curl(["--data-binary", &file, &url]).expect_status(200);
        assert_eq!(reply.text(), "10485760 bytes stayed here\n");
    }
    assert_eq!(lab.requests_nginx_saw(), 0, "no byte of them has reached the origin");
}

#[test]
fn a_client_that_stalls_for_half_a_minute_costs_less_than_a_megabyte() {
    let lab = Lab::alone();
    for place in [Place::Client, Place::Gateway, Place::Origin] {
        lab.sysctl(place, "ipv4/tcp_rmem", "4096 16384 65536");
        lab.sysctl(place, "ipv4/tcp_wmem", "4096 16384 65536");
    }
    let daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    // what is opened once and kept (pools, caches, the allocator's pages) is opened now
    for _ in 0..5 {
        lab.client().curl(["https://example.test/10m"]).expect_status(200);
        lab.client().curl(["http://example.test/10m"]).expect_status(200);
    }
    // several: memory comes from the kernel in steps of two megabytes, which one connection would be blamed for
    let base = daemon.rss_kb();
    let held = lab.inside(Place::Client, || {
        let mut held = Vec::new();
        for _ in 0..STALLED {
            let mut socket = connect(&address("example.test", 4), 80, PATIENCE).expect("connect");
            let request = b"GET /1g HTTP/1.1\r\nHost: example.test\r\n\r\n";
            std::io::Write::write_all(&mut socket, request).expect("write");
            let mut some = vec![0; 4 << 20];
            socket.read_exact(&mut some).expect("the first megabytes");
            held.push(socket);
        }
        held
    });
    let mut most = 0;
    for _ in 0..30 {
        // nobody else connects meanwhile: their connections' memory is not what is measured
        std::thread::sleep(Duration::from_secs(1));
        most = most.max(daemon.rss_kb().saturating_sub(base));
    }
    for url in ["https://example.test/1k", "http://example.test/100k"] {
        lab.client().within(Duration::from_secs(5)).curl([url]).expect_status(200);
    }
    drop(held);
    assert!(most < STALLED * STALLED_MAX_KB, "grew by {most} KB");
}

/// Downloads and tells the hash of what came.
fn download(lab: &Lab, url: &str) -> String {
    let client = lab.client().within(Duration::from_secs(240));
    let mut curl = client.curl_piped(&[url]);
    let mut output = curl.take_stdout();
    let (mut buffer, mut sum) = (vec![0; 256 << 10], Sum::new());
    loop {
        let length = output.read(&mut buffer).expect("read from curl");
        if length == 0 {
            break;
        }
        sum.add(&buffer[..length]);
    }
    assert!(curl.wait(Duration::from_secs(10)).success(), "{}", curl.stderr());
    sum.hex()
}

/// By how much the resident size rose above what a warm ringtap has.
fn growth_during(lab: &Lab, daemon: &Daemon, work: impl FnOnce()) -> u64 {
    for _ in 0..3 {
        lab.client().curl(["https://example.test/10m?addon=copy"]).expect_status(200);
        let body = format!("@{}", lab.files().path("10m").display());
        lab.client().curl(["--data-binary", &body, "https://odd.test/echo?addon=copy"]).expect_status(200);
    }
    daemon.forget_peak();
    let base = daemon.rss_kb();
    work();
    daemon.peak_rss_kb().saturating_sub(base)
}

const PATIENCE: Duration = Duration::from_secs(30);
const GROWTH_MAX_KB: u64 = 8 << 10;
const STALLED: u64 = 10;
const STALLED_MAX_KB: u64 = 1 << 10;
