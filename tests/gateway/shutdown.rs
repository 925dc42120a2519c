//! SIGTERM: what has begun is finished, what is new is refused, and the exit code is 0.

use std::io::Read;
use std::time::Duration;

use crate::lab::daemon::TRANSPARENT;
use crate::lab::origin::Sum;
use crate::lab::{Lab, eventually, flows, now, text};

#[test]
fn sigterm_drains_and_exits_0() {
    let lab = Lab::new();
    let recording = lab.dir().join("flows");
    let mut daemon = lab.start_ringtap(&["--mode", "regular@8081", "-q", "-w", &text(&recording)]);
    let proxy = ["-x", "http://10.78.1.1:8081"];
    let url = "https://odd.test/slow?n=300000&parts=50&seconds=5";
    let expected =
        lab.client().curl(["-x", proxy[1], "https://odd.test/pattern?n=300000"]).expect_status(200);
    let expected = expected.header("x-sha256").expect("a sum").to_owned();

    let mut curl = lab.client().curl_piped(&[proxy[0], proxy[1], url]);
    let mut output = curl.take_stdout();
    let mut begun = [0; 5000];
    output.read_exact(&mut begun).expect("the beginning of a slow download");
    daemon.ask_to_end();
    let asked = now();

    eventually("new connections are refused", Duration::from_secs(2), || {
        (lab.client().curl([proxy[0], proxy[1], "http://example.test/1k"]).exit == 7).then_some(())
    });
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("the rest of the download");
    let mut sum = Sum::new();
    sum.add(&begun);
    sum.add(&rest);
    assert_eq!(sum.hex(), expected, "{} bytes {}", begun.len() + rest.len(), curl.stderr());

    let status = daemon.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", daemon.stderr());
    assert!(asked.elapsed() < Duration::from_secs(10), "drained for {:?}", asked.elapsed());
    let recorded = flows::read(&recording);
    let paths = recorded.iter().map(|flow| flow.at("request/path").text());
    // the probes above may be in it as well
    let finished = paths.filter(|path| path.starts_with("/pattern") || path.starts_with("/slow")).count();
    assert_eq!(finished, 2, "the recording is complete");
}

#[test]
fn an_idle_ringtap_ends_at_once() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
    let asked = now();
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(3), "took {:?}", asked.elapsed());
}

#[test]
fn ctl_drain_ends_it_too() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&["--mode", "regular@8081", "-q"]);
    let socket = text(&lab.confdir().join("control.sock"));
    lab.ringtap(&["ctl", "drain", "--socket", &socket]).succeeded();
    assert_eq!(daemon.wait(Duration::from_secs(15)).code(), Some(0));
}
