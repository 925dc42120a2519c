//! The gateway's numbers: as Prometheus wants them, adding up, and out of clients' reach.

use std::time::Duration;

use crate::lab::daemon::Daemon;
use crate::lab::exposition::Exposition;
use crate::lab::{Lab, Place, eventually, text};

const MODES: [&str; 8] = [
    "--mode",
    "transparent@8080",
    "--mode",
    "regular@8081",
    "-q",
    "--set",
    "metrics_addr=127.0.0.1:9464",
    "--set=allow_destinations=127.0.0.0/8",
];

#[test]
fn what_happened_is_counted_and_adds_up() {
    let lab = Lab::new();
    let recording = text(&lab.fresh_path("flows"));
    let mut daemon = lab.start_ringtap(&[&MODES[..], &["-w", &recording]].concat());
    lab.redirect("redirect");
    let client = lab.client();
    client.curl(["-4", "https://example.test/1k", "https://example.test/1k"]).expect_status(200);
    client.curl(["-4", "http://example.test/no-such-thing"]).expect_status(404);
    client.curl(["-x", "http://10.78.1.1:8081", "http://refuse.test/"]).expect_status(502);
    let stranger = client.within(Duration::from_secs(5)).curl(["http://10.78.1.1:8080/"]);
    assert_ne!(stranger.exit, 0, "a direct hit on the transparent listener");

    let page = eventually("everything has been counted", Duration::from_secs(30), || {
        let page = scrape(&lab);
        (page.of("ringtap_connections_open") < 0.5 && page.of("ringtap_recorder_flows_total") > 2.5)
            .then_some(page)
    });
    for (series, value) in [
        ("ringtap_connections_total{listener=\"0.0.0.0:8081\",mode=\"regular\"}", 1.0),
        ("ringtap_connections_total{listener=\"0.0.0.0:8080\",mode=\"transparent\"}", 3.0),
        ("ringtap_connections_refused_total{reason=\"not_redirected\"}", 1.0),
        ("ringtap_http_requests_total{code_class=\"2xx\",method=\"GET\",proto=\"http/1\"}", 2.0),
        ("ringtap_http_requests_total{code_class=\"4xx\",method=\"GET\",proto=\"http/1\"}", 1.0),
        ("ringtap_http_requests_total{code_class=\"5xx\",method=\"GET\",proto=\"http/1\"}", 1.0),
        ("ringtap_upstream_connect_errors_total{reason=\"refused\"}", 1.0),
        ("ringtap_decisions_total{action=\"bump\"}", 1.0),
        ("ringtap_cert_cache_entries", 1.0),
        ("ringtap_cert_cache_misses_total", 1.0),
        ("ringtap_recorder_up", 1.0),
        ("ringtap_request_duration_seconds_count", 4.0),
        ("ringtap_tls_handshake_seconds_count{side=\"client\"}", 1.0),
        ("ringtap_shard_up{shard=\"0\"}", 1.0),
        ("ringtap_shard_up{shard=\"1\"}", 1.0),
        ("ringtap_flows_under_way{type=\"http\"}", 0.0),
    ] {
        assert!((page.of(series) - value).abs() < 1e-9, "{series} is {}, not {value}", page.of(series));
    }
    for side in ["client", "server"] {
        let done = page.sum("ringtap_tls_handshakes_total", &format!("result=\"full\",side=\"{side}\""));
        assert!((done - 1.0).abs() < 1e-9, "{side}: {done} handshakes");
    }
    let connections = |metric| page.sum(metric, "");
    let (taken, by_worker) =
        (connections("ringtap_connections_total"), connections("ringtap_shard_connections_total"));
    assert!((taken - by_worker).abs() < 1e-9, "{taken} connections, {by_worker} by worker");
    assert!(page.of("ringtap_bytes_total{dir=\"in\",leg=\"server\"}") > 2048.0);
    assert!(page.of("ringtap_bytes_total{dir=\"out\",leg=\"client\"}") > 2048.0);
    assert!(page.of("process_resident_memory_bytes") > 1e6 && page.of("process_open_fds") > 5.0);
    let busy = page.sum("ringtap_shard_busy_seconds_total", "");
    assert!(busy > 0.0 && page.sum("ringtap_shard_busy_ratio", "") <= 2.0, "{busy} s busy");
    said_in_words(&lab);
    daemon.must_be_alive();
}

fn said_in_words(lab: &Lab) {
    let socket = text(&lab.confdir().join("control.sock"));
    let said = lab.ringtap(&["ctl", "workers", "--socket", &socket]).succeeded().stdout;
    for part in [
        "worker 1: ",
        "direct connections to a transparent listener refused",
        "open connections per worker: 0, 0",
        "certificates: 1 kept",
        "recording: well",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

fn scrape(lab: &Lab) -> Exposition {
    Exposition::read(&ask(lab, &["http://127.0.0.1:9464/metrics"]))
}

/// curl in the gateway itself.
fn ask(lab: &Lab, args: &[&str]) -> String {
    let argv = [&["curl", "-qsS", "-m", "20"], args].concat();
    lab.run(Place::Gateway, &argv, Duration::from_secs(25)).succeeded().stdout
}

#[test]
fn only_those_on_the_gateway_read_the_metrics_and_only_as_they_should() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&MODES);
    let url = "http://127.0.0.1:9464/metrics";
    // the options open loopback to clients, but never this
    let client = lab.client().within(Duration::from_secs(10));
    for proxied in [url, "http://127.0.0.1:9464/metrics?", "http://0.0.0.0:9464/metrics"] {
        let reply = client.curl(["--noproxy", "", "-x", "http://10.78.1.1:8081", proxied]).expect_status(403);
        assert!(reply.text().contains("metrics_addr"), "{proxied}: {}", reply.text());
    }
    let own = ask(&lab, &["--noproxy", "", "-x", "http://127.0.0.1:8081", url]);
    assert!(own.contains("metrics_addr"), "not even from the gateway itself: {own}");
    assert_ne!(client.curl(["http://10.78.1.1:9464/metrics"]).exit, 0, "it is on loopback only");

    assert!(ask(&lab, &["-I", url]).contains("200 OK"));
    let refused = |args: &[&str], status: &str| {
        let said = ask(&lab, &[&["-i"], args].concat());
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{args:?}: {said}");
    };
    refused(&["-X", "POST", url], "405");
    refused(&["http://127.0.0.1:9464/"], "404");
    refused(&["-H", &format!("X: {}", "x".repeat(20_000)), url], "431");
    // those who say nothing keep others out only for a while
    many_silent_peers(&lab);
    daemon.must_be_alive();
}

fn many_silent_peers(lab: &Lab) {
    let connect = || std::net::TcpStream::connect("127.0.0.1:9464").expect("connected");
    let silent: Vec<_> = lab.inside(Place::Gateway, || (0..40).map(|_| connect()).collect());
    eventually("metrics are served again", Duration::from_secs(60), || {
        let argv = ["curl", "-qsf", "-m", "10", "http://127.0.0.1:9464/metrics"];
        lab.run(Place::Gateway, &argv, Duration::from_secs(15)).status.success().then_some(())
    });
    drop(silent);
}

#[test]
fn an_address_that_cannot_be_had_is_named_and_an_open_one_is_warned_of() {
    let lab = Lab::new();
    let said =
        lab.dump_to_its_end(&[], &["--mode", "regular@8081", "-q", "--set", "metrics_addr=192.0.2.1:9464"]);
    assert_ne!(said.code(), 0);
    assert!(
        said.stderr.contains("metrics_addr") && said.stderr.contains("192.0.2.1:9464"),
        "{}",
        said.stderr
    );
    let daemon: Daemon = lab.start_ringtap(&["--mode", "regular@8081", "--set", "metrics_addr=0.0.0.0:9464"]);
    let warned = || daemon.stderr().contains("not a loopback address").then_some(());
    eventually("the warning", Duration::from_secs(10), warned);
}
