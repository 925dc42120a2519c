//! Peers that vanish at every bad moment leave nothing behind.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::lab::client::{connect, reset, tls, tls_config};
use crate::lab::daemon::TRANSPARENT;
use crate::lab::{Lab, Place, address, eventually, settled, text};

#[test]
fn two_thousand_broken_connections_leave_no_file_open() {
    let lab = Lab::alone();
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
    let ca = lab.ringtap_ca();
    // what is opened once and kept (pools, caches) is opened now
    lab.inside(Place::Client, || storm(200, &ca));
    let base = settled(|| daemon.fd_count());
    lab.inside(Place::Client, || storm(2_000, &ca));
    daemon.must_be_alive();
    eventually("the number of open files is back at its base", Duration::from_secs(30), || {
        (daemon.fd_count() <= base).then_some(())
    });
    nothing_is_held(&lab);
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
}

/// No session is open, no buffer is out, and the ring waits only for new connections.
fn nothing_is_held(lab: &Lab) {
    let socket = text(&lab.confdir().join("control.sock"));
    eventually("every buffer is back in its pool", Duration::from_secs(15), || {
        let said = lab.ringtap(&["ctl", "workers", "--json", "--socket", &socket]).succeeded().stdout;
        let workers: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let mut workers = workers.iter().filter(|line| line["kind"] == "worker").peekable();
        assert!(workers.peek().is_some(), "{said}");
        workers
            .all(|worker| {
                // two listeners, IPv4 and IPv6, each with its accept
                worker["connections_open"] == 0 && worker["buffers_in_use"] == 0 && worker["ring_ops"] == 2
            })
            .then_some(())
    });
}

#[test]
fn an_origin_that_dies_takes_nobody_with_it() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
    let base = settled(|| daemon.fd_count());
    let mut downloads = Vec::new();
    for _ in 0..20 {
        let mut curl = lab.client().curl_piped(&["--limit-rate", "4M", "https://example.test/1g"]);
        let mut output = curl.take_stdout();
        output.read_exact(&mut [0; 1000]).expect("the beginning of a download");
        downloads.push((curl, output));
    }
    lab.kill_nginx();
    lab.client().curl(["http://odd.test/pattern"]).expect_status(200);
    lab.client().curl(["https://example.test/1k"]).expect_status(502);
    for (mut curl, mut output) in downloads {
        io::copy(&mut output, &mut io::sink()).expect("what had already come");
        let status = curl.wait(Duration::from_secs(20));
        assert!(!status.success(), "a cut download must not look whole");
        assert_ne!(status.code(), Some(28), "the client is told, not left waiting");
    }
    eventually("the number of open files is back at its base", Duration::from_secs(30), || {
        (daemon.fd_count() <= base).then_some(())
    });
    lab.start_nginx();
    eventually("nginx is back", Duration::from_secs(10), || {
        (lab.client().curl(["https://example.test/1k"]).status == 200).then_some(())
    });
    daemon.must_be_alive();
}

/// `count` connections, twenty at a time, each broken in the next of the ways.
fn storm(count: usize, ca: &Path) {
    let next = AtomicUsize::new(0);
    let config = tls_config(ca);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    // an error is what this is about; only that it ends matters
                    let _ = break_one(number, &config);
                }
            });
        }
    });
}

/// One connection that is broken, in one of ten ways.
pub(crate) fn break_one(number: usize, config: &std::sync::Arc<rustls::ClientConfig>) -> io::Result<()> {
    let open =
        |name: &str, port| connect(&address(name, 4 + 2 * u8::from(number % 20 >= 10)), port, PATIENCE);
    let secure = |name: &str| tls(config, name, open(name, 443)?);
    match number % 10 {
        0 => reset(open("example.test", 80)?),
        1 => open("example.test", 80)?.write_all(b"GET /1k HTTP/1.1\r\nHo")?,
        2 => say_and_reset(open("example.test", 80)?, b"GET /1k HTTP/1.1\r\nHost: example.test\r\n\r\n")?,
        3 => say_and_reset(
            open("example.test", 443)?,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half a hello",
        )?,
        // TLS that ends without a word of goodbye
        4 => drop(secure("example.test")?),
        5 => {
            let mut stream = secure("example.test")?;
            stream.write_all(b"GET /10m HTTP/1.1\r\nHost: example.test\r\n\r\n")?;
            stream.read_exact(&mut [0])?;
            reset(stream.sock);
        }
        6 => {
            let mut socket = open("odd.test", 80)?;
            socket.write_all(b"GET /reset-mid?n=100000 HTTP/1.1\r\nHost: odd.test\r\n\r\n")?;
            io::copy(&mut socket, &mut io::sink())?;
        }
        7 => {
            let mut stream = secure("odd.test")?;
            stream.write_all(b"GET /truncated HTTP/1.1\r\nHost: odd.test\r\n\r\n")?;
            io::copy(&mut stream, &mut io::sink())?;
        }
        8 => {
            let head =
                b"POST /echo HTTP/1.1\r\nHost: odd.test\r\nContent-Length: 1000000\r\n\r\nonly the beginning";
            say_and_reset(open("odd.test", 80)?, head)?;
        }
        _ => open("refuse.test", 80)?.write_all(b"GET / HTTP/1.1\r\nHost: refuse.test\r\n\r\n")?,
    }
    Ok(())
}

fn say_and_reset(mut socket: TcpStream, bytes: &[u8]) -> io::Result<()> {
    socket.write_all(bytes)?;
    reset(socket);
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(10);
