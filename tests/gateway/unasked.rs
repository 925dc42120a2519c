//! What an origin says unasked, or leaves unsaid, is never passed off as an answer.

use std::io::{Read, Write};
use std::time::Duration;

use crate::lab::client::connect;
use crate::lab::{Lab, Place, address};

const REGULAR: [&str; 5] = ["--mode", "transparent@8080", "--mode", "regular@8081", "-q"];

#[test]
fn bytes_behind_a_response_do_not_answer_the_next_request() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&REGULAR);
    lab.redirect("redirect");
    for path in ["unasked", "unasked?after=0.2", "bodied-204"] {
        let said = lab.inside(Place::Client, || {
            let mut socket = connect(&address("odd.test", 4), 80, PATIENCE).expect("connect");
            let first = format!("GET /{path} HTTP/1.1\r\nHost: odd.test\r\n\r\n");
            socket.write_all(first.as_bytes()).expect("write");
            std::thread::sleep(Duration::from_millis(500));
            let second = b"GET /pattern?n=3 HTTP/1.1\r\nHost: odd.test\r\nConnection: close\r\n\r\n";
            socket.write_all(second).expect("write");
            let mut said = Vec::new();
            socket.read_to_end(&mut said).expect("both answers and a proper end");
            String::from_utf8_lossy(&said).into_owned()
        });
        assert!(!said.contains("unasked"), "{path}: {said}");
        assert_eq!(said.matches("HTTP/1.1 2").count(), 2, "{path}: {said}");
        assert!(said.to_lowercase().contains("x-sha256"), "{path}: the second answer is its own: {said}");
    }
    daemon.must_be_alive();
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_a_502() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&REGULAR);
    lab.redirect("redirect");
    let reply = lab.client().curl(["http://odd.test/switch"]).expect_status(502);
    assert!(reply.text().contains("did not ask"), "{}", reply.text());
    daemon.must_be_alive();
}

#[test]
fn a_reset_is_not_the_end_of_a_body_without_length() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&REGULAR);
    lab.redirect("redirect");
    for origin in ["http://odd.test", "https://odd.test"] {
        let reply = lab.client().curl([&format!("{origin}/close-reset?n=5000")]);
        assert_ne!(reply.exit, 0, "{origin}: the client must see that something is missing");
    }
    daemon.must_be_alive();
}

#[test]
fn a_reset_of_raw_tcp_reaches_the_other_side() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&REGULAR);
    lab.redirect("redirect");
    lab.inside(Place::Client, || {
        let mut socket = connect(&address("echo.test", 4), 80, PATIENCE).expect("connect");
        socket.write_all(b"\x00reset").expect("write");
        let mut back = [0; 6];
        socket.read_exact(&mut back).expect("the echo");
        let end = socket.read(&mut back).expect_err("a reset, and no proper end");
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    });
    daemon.must_be_alive();
}

const PATIENCE: Duration = Duration::from_secs(10);
