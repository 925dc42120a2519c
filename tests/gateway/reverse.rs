//! Reverse modes: ringtap stands where the server stood.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::lab::client::connect;
use crate::lab::origin::sha256;
use crate::lab::{Lab, Place};

#[test]
fn reverse_http_serves_the_origin() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&["--mode", "reverse:http://example.test:80@8082", "-q"]);
    for url in ["http://10.78.1.1:8082/100k", "http://[fd00:78:1::1]:8082/100k"] {
        let reply = lab.client().curl([url]).expect_status(200);
        assert_eq!(sha256(&reply.body), lab.files().sum("100k"), "{url}");
    }
}

#[test]
fn reverse_https_speaks_tls_to_the_origin() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&[
        "--mode",
        "reverse:https://example.test:443@8082",
        "--mode",
        "reverse:https://odd.test:443@8083",
        "-q",
    ]);
    let reply = lab.client().curl(["http://10.78.1.1:8082/100k"]).expect_status(200);
    assert_eq!(sha256(&reply.body), lab.files().sum("100k"));
    let over_tls = ["--connect-to", "example.test:443:10.78.1.1:8082", "https://example.test/100k"];
    let reply = lab.client().curl(over_tls).expect_status(200);
    assert_eq!(sha256(&reply.body), lab.files().sum("100k"));
    // the server is asked by its own name
    let head = lab.client().curl(["http://10.78.1.1:8083/head"]).expect_status(200).text().to_lowercase();
    assert!(head.contains("host: odd.test"), "{head}");
}

#[test]
fn reverse_tcp_passes_bytes() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&[
        "--mode",
        "reverse:tcp://echo.test:80@8084",
        "--mode",
        "reverse:tcp://banner.test:80@8085",
        "-q",
    ]);
    lab.inside(Place::Client, || {
        let patience = Duration::from_secs(10);
        let mut echo = connect("10.78.1.1", 8084, patience).expect("connect");
        echo.write_all(b"GET is no HTTP here").expect("write");
        echo.shutdown(Shutdown::Write).expect("half-close");
        let mut said = String::new();
        echo.read_to_string(&mut said).expect("read");
        assert_eq!(said, "GET is no HTTP here\nyou sent 19 bytes\n");

        let mut banner = connect("10.78.1.1", 8085, patience).expect("connect");
        let mut greeting = [0; 29];
        banner.read_exact(&mut greeting).expect("the greeting, before we say a word");
        assert_eq!(&greeting, b"220 the odd origin is ready\r\n");
    });
}
