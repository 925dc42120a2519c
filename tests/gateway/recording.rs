//! What was seen can be read again: on the terminal, from the file, and through the control socket.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::lab::daemon::TRANSPARENT;
use crate::lab::origin::sha256;
use crate::lab::{Lab, Place, eventually, flows, text};

#[test]
fn a_recording_reads_back_what_passed() {
    let lab = Lab::new();
    let recording = lab.dir().join("flows");
    let mut daemon =
        lab.start_ringtap(&["--mode", "transparent", "--listen-port", "8080", "-w", &text(&recording)]);
    lab.redirect("redirect");
    lab.client().curl(["https://example.test/100k"]).expect_status(200);
    lab.client().curl(["--data-binary", "ping", "http://odd.test/echo"]).expect_status(200);
    eventually("ringtap prints the flows as they end", Duration::from_secs(5), || {
        let said = daemon.stdout();
        (said.contains("/100k") && said.contains("/echo") && said.contains("<< 200")).then_some(())
    });
    assert!(daemon.terminate().success());

    let mode = std::fs::metadata(&recording).expect("a recording").permissions().mode();
    assert_eq!(mode & 0o077, 0, "a recording holds secrets: mode {mode:o}");
    // our own reader knows nothing of ringtap's writer
    let read = flows::read(&recording);
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].at("request/path").text(), "/100k");
    let flows::Value::Bytes(body) = read[0].at("response/content") else { panic!("no body") };
    assert_eq!(sha256(body), lab.files().sum("100k"));
    assert_eq!(read[1].at("request/content").text(), "ping");

    let said = lab.ringtap(&["dump", "-n", "-r", &text(&recording)]).succeeded().stdout;
    assert!(said.contains("/100k") && said.contains("POST") && said.contains("<< 200"), "{said}");
    let detailed = ["dump", "-n", "-r", &text(&recording), "--flow-detail", "3"];
    let said = lab.ringtap(&detailed).succeeded().stdout;
    assert!(said.contains("content-length") && said.contains("ping"), "{said}");
}

#[test]
fn filters_say_what_is_printed_and_what_is_recorded() {
    let lab = Lab::new();
    let recording = lab.dir().join("flows");
    let file = text(&recording);
    let only_posts = "save_stream_filter=~m POST";
    let only_found = "dumper_filter=~c 200 & ~u 1k";
    let mut daemon = lab.start_ringtap(&[
        "--mode",
        "transparent",
        "--listen-port",
        "8080",
        "-w",
        &file,
        "--set",
        only_posts,
        "--set",
        only_found,
    ]);
    lab.redirect("redirect");
    lab.client().curl(["--data-binary", "ping", "http://odd.test/echo"]).expect_status(200);
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
    eventually("ringtap prints the flow that matches", Duration::from_secs(30), || {
        daemon.stdout().contains("/1k").then_some(())
    });
    assert!(daemon.terminate().success());
    assert!(!daemon.stdout().contains("/echo"), "{}", daemon.stdout());
    let paths: Vec<_> = flows::read(&recording).iter().map(|flow| flow.at("request/path").text()).collect();
    assert_eq!(paths, ["/echo"]);
}

#[test]
fn the_control_socket_shows_and_ends_what_is_under_way() {
    let lab = Lab::new();
    let daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    let socket = text(&lab.confdir().join("control.sock"));
    let ringtap = text(&crate::lab::daemon::ringtap_binary());
    // before anybody asks for flows: what is under way is known all the same
    let mut slow = lab.client().curl_piped(&["http://odd.test/slow?n=1000&parts=100&seconds=15"]);
    eventually("the flow under way is listed", Duration::from_secs(12), || {
        let said = lab.ringtap(&["ctl", "flows", "--socket", &socket]).succeeded().stdout;
        said.contains("GET http://odd.test/slow").then_some(())
    });
    let events = lab.spawn(Place::Gateway, &[&ringtap, "ctl", "events", "--socket", &socket]);
    eventually("events tell of a flow that ended", Duration::from_secs(12), || {
        lab.client().curl(["https://example.test/1k"]).expect_status(200);
        events.stdout().contains("/1k").then_some(())
    });
    assert!(slow.ended().is_none(), "still under way");
    drop(daemon);
}
