//! What goes wrong is said to whom it concerns: a status with a reason, and the next request is served.

use std::io::{Read, Write};
use std::time::Duration;

use crate::lab::client::connect;
use crate::lab::daemon::TRANSPARENT;
use crate::lab::{Lab, Place, address};

#[test]
fn an_origin_that_refuses_is_a_502_with_the_reason() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&["--mode", "transparent@8080", "--mode", "regular@8081", "-q"]);
    lab.redirect("redirect");
    for args in [
        ["-4", "http://refuse.test/"],
        ["-6", "http://refuse.test/"],
        ["-4", "https://refuse.test/"],
        ["-xhttp://10.78.1.1:8081", "http://refuse.test/"],
    ] {
        let reply = lab.client().curl(args).expect_status(502);
        assert!(reply.text().to_lowercase().contains("refused"), "{args:?}: {}", reply.text());
    }
    // through CONNECT the refusal may be the answer to CONNECT, or to the request inside
    let reply = lab.client().curl(["-x", "http://10.78.1.1:8081", "https://refuse.test/"]);
    assert!(reply.heads.contains(" 502 "), "{} {}", reply.heads, reply.error);
    lab.client().curl(["http://example.test/1k"]).expect_status(200);
    daemon.must_be_alive();
}

#[test]
fn an_origin_that_hangs_is_a_504() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&["--mode", "transparent@8080", "--mode", "regular@8081", "-q"]);
    lab.redirect("redirect");
    let patient = lab.client().within(Duration::from_secs(75));
    std::thread::scope(|scope| {
        scope.spawn(|| patient.curl(["http://hang.test/"]).expect_status(504));
        scope.spawn(|| patient.curl(["-x", "http://10.78.1.1:8081", "http://hang.test/"]).expect_status(504));
        // others do not wait for it
        lab.client().curl(["http://example.test/1k"]).expect_status(200);
    });
}

#[test]
fn a_broken_response_is_a_502_or_visibly_cut_short() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    for origin in ["http://odd.test", "https://odd.test"] {
        for path in ["reset", "garbage", "hugehead"] {
            let reply = lab.client().curl([&format!("{origin}/{path}")]).expect_status(502);
            assert!(!reply.body.is_empty(), "{origin}/{path}: a 502 says why");
        }
        // streamed bodies have been promised already: the client must see that the end is missing
        for path in ["truncated?n=4000000", "reset-mid?n=4000000"] {
            let reply = lab.client().curl(["--http1.1", &format!("{origin}/{path}")]);
            assert!(
                reply.exit != 0 || reply.status == 502,
                "{origin}/{path}: {} {}",
                reply.exit,
                reply.heads
            );
        }
    }
    lab.client().curl(["https://odd.test/pattern"]).expect_status(200);
    daemon.must_be_alive();
}

#[test]
fn a_garbled_request_is_a_400() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&["--mode", "transparent@8080", "--mode", "regular@8081", "-q"]);
    lab.redirect("redirect");
    let origin = address("example.test", 4);
    for (host, port, request) in [
        (origin.as_str(), 80, "GET / HTTP/1.1\r\nHost: example.test\r\nno colon here\r\n\r\n"),
        (
            &origin,
            80,
            "GET / HTTP/1.1\r\nHost: example.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        ),
        (&origin, 80, "POST / HTTP/1.1\r\nHost: example.test\r\nContent-Length: -1\r\n\r\n"),
        ("10.78.1.1", 8081, "GARBAGE\r\n\r\n"),
        ("10.78.1.1", 8081, "GET / HTTP/1.1\r\nHost: example.test\r\nno colon here\r\n\r\n"),
        ("10.78.1.1", 8081, "CONNECT no-port HTTP/1.1\r\n\r\n"),
    ] {
        let answer = lab.inside(Place::Client, || say(host, port, request.as_bytes()));
        assert!(answer.starts_with("HTTP/1.1 400"), "{request:?} to {host}:{port} was answered {answer:?}");
    }
    assert_eq!(lab.requests_nginx_saw(), 0, "nothing of it reached the origin");
    lab.client().curl(["http://example.test/1k"]).expect_status(200);
    daemon.must_be_alive();
}

#[test]
fn a_huge_header_is_a_431() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&["--mode", "transparent@8080", "--mode", "regular@8081", "-q"]);
    lab.redirect("redirect");
    for (host, port, target) in
        [(address("example.test", 4), 80, "/1k"), ("10.78.1.1".to_owned(), 8081, "http://example.test/1k")]
    {
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: example.test\r\nX-Huge: {}\r\n\r\n", "h".repeat(4 << 20));
        let answer = lab.inside(Place::Client, || say(&host, port, head.as_bytes()));
        assert!(answer.starts_with("HTTP/1.1 431"), "{host}:{port} answered {answer:?}");
    }
    lab.client().curl(["http://example.test/1k"]).expect_status(200);
    daemon.must_be_alive();
}

/// Sends bytes until an answer comes, and tells the answer (its beginning).
fn say(host: &str, port: u16, bytes: &[u8]) -> String {
    let mut socket = connect(host, port, Duration::from_secs(10)).expect("connect");
    for piece in bytes.chunks(16 << 10) {
        let answered = {
            socket.set_nonblocking(true).expect("ask without waiting");
            let answered = matches!(socket.peek(&mut [0]), Ok(1));
            socket.set_nonblocking(false).expect("wait again");
            answered
        };
        // a server that has heard enough may answer before the end
        if answered || socket.write_all(piece).is_err() {
            break;
        }
    }
    let mut answer = [0; 4096];
    let mut length = 0;
    while length < 15 {
        match socket.read(&mut answer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) => return format!("{}, then {error}", String::from_utf8_lossy(&answer[..length])),
        }
    }
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
