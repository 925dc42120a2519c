//! One gigabyte each way: every byte, and hardly any memory.

use std::io::{Read, Write};
use std::time::Duration;

use crate::lab::daemon::TRANSPARENT;
use crate::lab::origin::Sum;
use crate::lab::{Lab, text};

#[test]
fn a_gigabyte_comes_down_through_tls() {
    let lab = Lab::alone();
    let daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    let growth_kb = growth_during(&lab, &daemon, || {
        assert_eq!(download(&lab, None), lab.files().sum("1g"));
    });
    assert!(growth_kb < GROWTH_MAX_KB, "grew by {growth_kb} KB");
}

#[test]
fn a_gigabyte_comes_down_to_a_client_that_stalls() {
    let lab = Lab::new();
    let daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    let growth_kb = growth_during(&lab, &daemon, || {
        let stall = Some((100 << 20, Duration::from_secs(20)));
        assert_eq!(download(&lab, stall), lab.files().sum("1g"));
    });
    assert!(growth_kb < GROWTH_MAX_KB, "grew by {growth_kb} KB");
}

#[test]
fn a_gigabyte_goes_up_through_tls() {
    let lab = Lab::alone();
    let daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    let growth_kb = growth_during(&lab, &daemon, || {
        let file = text(&lab.files().path("1g"));
        let client = lab.client().within(Duration::from_secs(90));
        let said = client.curl(["-T", &file, "https://odd.test/sink"]).expect_status(200).json();
        assert_eq!(
            (&said["length"], &said["sha256"]),
            (&(1_u64 << 30).into(), &lab.files().sum("1g").into())
        );
    });
    assert!(growth_kb < GROWTH_MAX_KB, "grew by {growth_kb} KB");
}

#[test]
fn an_upload_waits_for_an_origin_that_stalls_and_a_client_that_stalls() {
    let lab = Lab::new();
    let daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    let growth_kb = growth_during(&lab, &daemon, || {
        let client = lab.client().within(Duration::from_secs(90));
        let mut curl = client.curl_piped(&["--http1.1", "-T", "-", "https://odd.test/sink?stall=10"]);
        let mut input = curl.take_stdin();
        let mut sum = Sum::new();
        for megabyte in 0..200_u32 {
            let block = vec![megabyte as u8; 1 << 20];
            sum.add(&block);
            input.write_all(&block).expect("curl takes the upload");
            if megabyte == 100 {
                std::thread::sleep(Duration::from_secs(20)); // the stall is what this is about
            }
        }
        drop(input);
        let mut said = String::new();
        curl.take_stdout().read_to_string(&mut said).expect("the origin's answer");
        assert!(said.contains(&sum.hex()), "{said} {}", curl.stderr());
    });
    assert!(growth_kb < GROWTH_MAX_KB, "grew by {growth_kb} KB");
}

/// Downloads a gigabyte and tells its hash; after so many bytes it may stop reading for a while.
fn download(lab: &Lab, stall: Option<(usize, Duration)>) -> String {
    let client = lab.client().within(Duration::from_secs(90));
    let mut curl = client.curl_piped(&["https://example.test/1g"]);
    let mut output = curl.take_stdout();
    let mut buffer = vec![0; 256 << 10];
    let (mut sum, mut total) = (Sum::new(), 0);
    loop {
        let length = output.read(&mut buffer).expect("read from curl");
        if length == 0 {
            break;
        }
        sum.add(&buffer[..length]);
        if let Some((after, pause)) = stall
            && (after..after + length).contains(&(total + length))
        {
            std::thread::sleep(pause); // the stall is what this is about
        }
        total += length;
    }
    assert!(curl.wait(Duration::from_secs(10)).success(), "{total} bytes, then {}", curl.stderr());
    sum.hex()
}

/// By how much the resident size rose above what a warm ringtap has.
fn growth_during(lab: &Lab, daemon: &crate::lab::daemon::Daemon, work: impl FnOnce()) -> u64 {
    for _ in 0..3 {
        lab.client().curl(["https://example.test/10m"]).expect_status(200);
        let body = format!("@{}", lab.files().path("10m").display());
        lab.client().curl(["--data-binary", &body, "https://odd.test/echo"]).expect_status(200);
    }
    daemon.forget_peak();
    let base = daemon.rss_kb();
    work();
    daemon.peak_rss_kb().saturating_sub(base)
}

const GROWTH_MAX_KB: u64 = 16 << 10;
