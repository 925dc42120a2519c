//! What the origin sends is what the client gets, however the packets were bent.

use std::time::Duration;

use crate::lab::daemon::TRANSPARENT;
use crate::lab::origin::sha256;
use crate::lab::{Lab, flows, now, text};

#[test]
fn redirect_brings_the_right_bytes() {
    right_bytes("redirect");
}

#[test]
fn tproxy_brings_the_right_bytes() {
    right_bytes("tproxy");
}

fn right_bytes(via: &str) {
    let lab = Lab::new();
    let recording = lab.dir().join("flows");
    let mut daemon =
        lab.start_ringtap(&["--mode", "transparent", "--listen-port", "8080", "-q", "-w", &text(&recording)]);
    lab.redirect(via);
    let mut asked = 0;
    for family in ["-4", "-6"] {
        for scheme in ["http", "https"] {
            for name in ["0", "1k", "100k", "10m"] {
                let url = format!("{scheme}://example.test/{name}");
                let reply = lab.client().curl([family, &url]).expect_status(200);
                assert_eq!(sha256(&reply.body), lab.files().sum(name), "{via} {family} {url}");
                asked += 1;
            }
        }
    }
    assert!(daemon.terminate().success());
    // and it was us who brought them
    let flows = flows::read(&recording);
    assert_eq!(flows.len(), asked);
    for flow in &flows {
        assert_eq!(flow.at("response/status_code").text(), "200");
        let client = flow.at("client_conn/peername").list()[0].text();
        assert!(["10.78.1.2", "fd00:78:1::2"].contains(&client.as_str()), "client {client}");
    }
}

#[test]
fn odd_framings_survive() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    let ones = vec!["1"; 500].join(",");
    for origin in ["http://odd.test", "https://odd.test"] {
        for sizes in ["1", "1,2,3,5,8,13,21", "16384,16385,1,65536,70000", "1000000", &ones] {
            let reply = lab.client().curl([&format!("{origin}/chunked?sizes={sizes}")]).expect_status(200);
            let sum = sha256(&reply.body);
            assert_eq!(Some(sum.as_str()), reply.header("x-sha256"), "{origin} {sizes}");
            assert!(reply.heads.contains(&format!("x-checked: {sum}")), "the trailer: {}", reply.heads);
        }
        for n in [0, 1, 12_345, 3_000_000] {
            let reply = lab.client().curl([&format!("{origin}/close?n={n}")]).expect_status(200);
            assert_eq!(Some(sha256(&reply.body).as_str()), reply.header("x-sha256"), "{origin} close {n}");
        }
        let reply = lab.client().curl(["--head", &format!("{origin}/pattern?n=777")]).expect_status(200);
        assert_eq!(reply.header("content-length"), Some("777"));
    }
}

#[test]
fn request_bodies_arrive_as_they_were_sent() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    for origin in ["http://odd.test", "https://odd.test"] {
        let url = format!("{origin}/echo");
        for name in ["0", "1k", "100k", "10m"] {
            let body = format!("@{}", lab.files().path(name).display());
            let sum = lab.files().sum(name);
            // above 1 MB curl asks `Expect: 100-continue` first
            let said = lab.client().curl(["--data-binary", &body, &url]).expect_status(200).json();
            assert_eq!(said["sha256"], sum, "{url} {name} {said}");
            let chunked = ["-H", "Transfer-Encoding: chunked", "--data-binary", &body, &url];
            let said = lab.client().curl(chunked).expect_status(200).json();
            assert_eq!(said["sha256"], sum, "{url} {name} chunked {said}");
        }
    }
}

#[test]
fn events_are_not_held_back() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    for url in ["http://odd.test/sse?n=8&every=0.5", "https://odd.test/sse?n=8&every=0.5"] {
        let start = now();
        let mut curl = lab.client().curl_piped(&["-N", url]);
        let mut first = [0; 1];
        std::io::Read::read_exact(&mut curl.take_stdout(), &mut first).expect("the first event");
        // the last event is due after 3.5 s, the end after 4 s
        assert!(start.elapsed() < Duration::from_secs(3), "{url}: first event after {:?}", start.elapsed());
    }
}
