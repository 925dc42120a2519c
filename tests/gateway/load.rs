//! Many requests: none fails, and the recording holds each of them once.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::client::connect;
use crate::lab::{Lab, Place, address, flows, text};

#[test]
fn ten_thousand_requests_leave_ten_thousand_flows() {
    let lab = Lab::alone();
    let recording = lab.dir().join("flows");
    let mut daemon =
        lab.start_ringtap(&["--mode", "transparent", "--listen-port", "8080", "-q", "-w", &text(&recording)]);
    lab.redirect("redirect");
    // h2load over TLS and our own sockets in the clear, 100 connections each, at the same time
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let argv = ["h2load", "--h1", "-n", "5000", "-c", "100", "-t", "1", "https://example.test/1k"];
            let said = lab.run(Place::Client, &argv, Duration::from_secs(60)).succeeded().stdout;
            assert!(said.contains("5000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
            assert!(said.contains("status codes: 5000 2xx"), "{said}");
        });
        lab.inside(Place::Client, || {
            std::thread::scope(|scope| {
                for _ in 0..100 {
                    scope.spawn(fifty_requests_on_one_connection);
                }
            });
        });
    });
    assert!(daemon.terminate().success());
    let flows = flows::read(&recording);
    assert_eq!(flows.len(), 10_000);
    assert_eq!(lab.requests_nginx_saw(), 10_000);
    for flow in &flows {
        assert_eq!(flow.at("type").text(), "http");
        assert_eq!(flow.at("response/status_code").text(), "200");
        assert!(flow.at("error").is_null(), "{:?}", flow.at("error"));
    }
    mitmproxy_reads_the_same(&recording, &flows, lab.files().sum("1k"));
}

/// mitmproxy's own reader finds as many flows, each with the body and the headers that we find in it.
fn mitmproxy_reads_the_same(recording: &Path, flows: &[flows::Value], body_sum: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = |program: &Path, argv: &[&str]| {
        let out = Command::new(program).args(argv).output().expect("started");
        assert!(out.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    };
    let python = run(&root.join("scripts/oracle-venv"), &[]);
    let python = root.join(python.trim());
    let said = run(&python, &[&text(&root.join("tests/oracle/read_flows.py")), &text(recording)]);
    let theirs: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    assert_eq!(theirs.len(), flows.len());
    for (ours, theirs) in flows.iter().zip(&theirs) {
        assert_eq!(theirs["id"], ours.at("id").text());
        assert_eq!(theirs["response"]["content"]["sha256"], body_sum, "{theirs}");
        for side in ["request", "response"] {
            let fields: Vec<Vec<String>> =
                ours.at(&format!("{side}/headers")).list().iter().map(pair).collect();
            assert_eq!(theirs[side]["headers"], serde_json::json!(fields), "{side}");
        }
    }
}

fn pair(field: &flows::Value) -> Vec<String> {
    field.list().iter().map(flows::Value::text).collect()
}

#[test]
fn wrk_sees_no_error_and_every_request_is_recorded() {
    let lab = Lab::alone();
    let recording = lab.dir().join("flows");
    let mut daemon =
        lab.start_ringtap(&["--mode", "transparent", "--listen-port", "8080", "-q", "-w", &text(&recording)]);
    lab.redirect("redirect");
    let mut answered = 0;
    for url in ["http://example.test/1k", "https://example.test/1k"] {
        let argv = ["wrk", "-t1", "-c100", "-d2s", "--timeout", "10s", url];
        let said = lab.run(Place::Client, &argv, Duration::from_secs(30)).succeeded().stdout;
        assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
        let line =
            said.lines().find(|line| line.contains(" requests in ")).unwrap_or_else(|| panic!("{said}"));
        let count = line.split_whitespace().next().and_then(|word| word.parse::<usize>().ok());
        answered += count.unwrap_or_else(|| panic!("{said}"));
    }
    assert!(daemon.terminate().success());
    // wrk ends by hanging up: on each of its 200 connections one more request may have been on its way
    let recorded = flows::read(&recording).len();
    assert!((answered..=answered + 200).contains(&recorded), "{answered} answered, {recorded} recorded");
}

fn fifty_requests_on_one_connection() {
    let socket = connect(&address("example.test", 4), 80, Duration::from_secs(20)).expect("connect");
    let mut writer = socket.try_clone().expect("a second handle");
    let mut reader = BufReader::new(socket);
    for _ in 0..50 {
        writer.write_all(b"GET /1k HTTP/1.1\r\nHost: example.test\r\n\r\n").expect("write");
        let mut line = String::new();
        reader.read_line(&mut line).expect("a status line");
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        while line != "\r\n" {
            line.clear();
            assert_ne!(reader.read_line(&mut line).expect("a field"), 0, "the head ends early");
        }
        reader.read_exact(&mut [0; 1024]).expect("the body");
    }
}
