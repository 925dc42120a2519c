//! The explicit proxy: CONNECT, absolute-form, and what leaves towards the origin.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::lab::client::{ORIGIN_ISSUER, connect};
use crate::lab::origin::sha256;
use crate::lab::{Lab, Place};

#[test]
fn connect_and_absolute_form_bring_the_right_bytes() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&["--mode", "regular@8081", "-q"]);
    for proxy in ["http://10.78.1.1:8081", "http://[fd00:78:1::1]:8081"] {
        for url in ["http://example.test/100k", "https://example.test/100k", "https://a.wild.test/100k"] {
            let reply = lab.client().curl(["-x", proxy, url]).expect_status(200);
            assert_eq!(sha256(&reply.body), lab.files().sum("100k"), "{proxy} {url}");
            if url.starts_with("https") {
                assert!(!reply.issuer().contains(ORIGIN_ISSUER), "{url} was not intercepted");
            }
        }
        let tunnelled = lab.client().curl(["-x", proxy, "--proxytunnel", "http://example.test/1k"]);
        assert_eq!(sha256(&tunnelled.expect_status(200).body), lab.files().sum("1k"));
    }
}

#[test]
fn the_origin_gets_origin_form_and_no_hop_by_hop_fields() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&["--mode", "regular@8081", "-q"]);
    let proxy = "http://10.78.1.1:8081";
    let reply =
        lab.client().curl(["-x", proxy, "-H", "X-Case: KePt", "http://odd.test/head?a=b"]).expect_status(200);
    let head = reply.text();
    assert!(head.starts_with("GET /head?a=b HTTP/1.1"), "{head}");
    assert!(head.contains("X-Case: KePt"), "{head}");
    assert!(head.to_lowercase().contains("host: odd.test"), "{head}");
    assert!(!head.to_lowercase().contains("proxy-connection"), "{head}");
}

#[test]
fn a_tunnel_may_carry_something_else() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&["--mode", "regular@8081", "-q"]);
    lab.inside(Place::Client, || {
        let mut socket = connect("10.78.1.1", 8081, Duration::from_secs(10)).expect("connect");
        socket.write_all(b"CONNECT echo.test:80 HTTP/1.1\r\nHost: echo.test:80\r\n\r\n").expect("write");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("the answer to CONNECT");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        socket.write_all(b"\x00\x01raw").expect("write");
        socket.shutdown(Shutdown::Write).expect("half-close");
        let mut said = String::new();
        socket.read_to_string(&mut said).expect("read");
        assert_eq!(said, "\x00\x01raw\nyou sent 5 bytes\n");
    });
}

#[test]
fn unknown_names_are_a_502_with_the_reason() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&["--mode", "regular@8081", "-q"]);
    let reply = lab.client().curl(["-x", "http://10.78.1.1:8081", "http://nowhere.test/"]).expect_status(502);
    assert!(reply.text().contains("nowhere.test"), "{}", reply.text());
}
