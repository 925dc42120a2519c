//! Whatever passes us is read by a second, strict parser at the origin (Python's h11), and as many requests arrive
//! there as the client gets answers: nothing is smuggled.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::client::connect;
use crate::lab::daemon::TRANSPARENT;
use crate::lab::{Lab, Place, address, eventually, text};

#[test]
fn a_strict_origin_reads_what_passes_and_no_request_more() {
    compare(&[]);
}

#[test]
fn a_strict_origin_reads_what_is_written_anew() {
    compare(&["--set", "validate_inbound_headers=false"]);
}

fn compare(options: &[&str]) {
    let lab = Lab::new();
    // what does not look like HTTP is none of our business here: closed, not relayed
    let _daemon = lab.start_ringtap(&[&TRANSPARENT[..], &["--set", "rawtcp=false"], options].concat());
    lab.redirect_with("redirect", &["--ports", &PORT.to_string(), "--on-failure", "closed"]);
    let (host, log) = (address("odd.test", 4), lab.fresh_path("strict"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/strict_origin.py");
    let listen = format!("{host}:{PORT}");
    let _origin = lab.spawn(Place::Origin, &[h11_python(), text(&script), listen, text(&log)]);
    lab.inside(Place::Client, || {
        eventually("the strict origin listens", PATIENCE, || {
            ask(&host, PLAIN).filter(|said| said.contains("x-strict"))
        });
    });
    let (mut dice, mut strict, mut refused) = (Dice(0x2545_f491_4f6c_dd1d), 1, 0);
    for round in 0..ROUNDS {
        let request = dice.request(SAMPLES[round % SAMPLES.len()]);
        let said = lab.inside(Place::Client, || ask(&host, &request)).expect("an answer, or an end");
        strict += said.matches("x-strict").count();
        refused += usize::from(said.contains("Server: ringtap"));
        let seen = || -> Vec<serde_json::Value> {
            let lines = fs::read_to_string(&log).unwrap_or_default();
            lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        let answered = || seen().iter().filter_map(|line| line["answered"].as_u64()).sum::<u64>();
        let shown = request.escape_ascii();
        eventually(&format!("as many requests as answers: {shown}\n{said}"), PATIENCE, || {
            (answered() == strict as u64).then_some(())
        });
        for line in seen() {
            let error = line["refused"].as_str().unwrap_or_default();
            // a body that broke off was refused by us, and what had passed of it is cut
            let harmless = error.is_empty()
                || error.contains("peer closed connection without")
                || error.contains("peer unexpectedly closed")
                || error.contains("Host:");
            assert!(harmless, "the strict origin refuses what passed: {error}\n{shown}\n{said}");
        }
    }
    assert!(
        strict > ROUNDS / 5 && refused > ROUNDS / 10,
        "{strict} answers, {refused} refusals: not much was tried"
    );
}

/// Sends bytes, ends, and tells all that came back.
fn ask(host: &str, request: &[u8]) -> Option<String> {
    let mut socket = connect(host, PORT, PATIENCE).ok()?;
    // a refusal may come before all is sent
    let _ = socket.write_all(request);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let mut said = Vec::new();
    let _ = socket.read_to_end(&mut said);
    Some(String::from_utf8_lossy(&said).into_owned())
}

/// A Python that has h11: the one with mitmproxy in it, which depends on it.
fn h11_python() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/oracle-venv");
    let made = Command::new(&script).output().expect("run scripts/oracle-venv");
    assert!(made.status.success(), "scripts/oracle-venv: {}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8_lossy(&made.stdout).trim().to_owned()
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }

    /// A sample with a few changes, and often an ordinary request behind it.
    fn request(&mut self, sample: &str) -> Vec<u8> {
        let mut bytes = sample.as_bytes().to_vec();
        for _ in 0..self.roll(4) {
            let at = self.roll(bytes.len());
            let piece: &[u8] = PIECES[self.roll(PIECES.len())].as_bytes();
            match self.roll(3) {
                0 => drop(bytes.splice(at..at, piece.iter().copied())),
                1 => drop(bytes.remove(at)),
                _ => {
                    let line =
                        bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |end| at + end + 1);
                    bytes.splice(line..line, piece.iter().copied());
                }
            }
        }
        if self.roll(2) == 0 {
            bytes.extend_from_slice(PLAIN);
        }
        bytes
    }
}

const PLAIN: &[u8] = b"GET /plain HTTP/1.1\r\nHost: odd.test\r\n\r\n";

const SAMPLES: [&str; 6] = [
    "GET /a HTTP/1.1\r\nHost: odd.test\r\nUser-Agent: x\r\n\r\n",
    "POST /b HTTP/1.1\r\nHost: odd.test\r\nContent-Length: 11\r\n\r\nhello world",
    "POST /c HTTP/1.1\r\nHost: odd.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
    "POST /d HTTP/1.1\r\nHost: odd.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: odd.test\r\n\r\n",
    "POST /e HTTP/1.1\r\nHost: odd.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
    "PUT /f HTTP/1.1\r\nHost: odd.test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
];

/// What is put in between.
const PIECES: [&str; 16] = [
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    "0",
    "1",
    ",",
    ":",
    "Content-Length: 3\r\n",
    "Content-Length: +5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding : chunked\r\n",
    "X: y\r\n z\r\n",
    "0\r\n\r\n",
];

const PORT: u16 = 8088;
const ROUNDS: usize = 300;
const PATIENCE: Duration = Duration::from_secs(30);
