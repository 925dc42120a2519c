//! The lab without ringtap: what the other stories rely on, proved by plain forwarding.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::lab::client::{ORIGIN_ISSUER, Trust, connect};
use crate::lab::origin::sha256;
use crate::lab::{Lab, Place, address};

#[test]
fn plain_forwarding_serves_every_file_over_both_families() {
    let lab = Lab::new();
    let client = lab.client().trusting(Trust::Origin);
    for family in ["-4", "-6"] {
        for scheme in ["http", "https"] {
            for name in ["0", "1k", "100k", "10m"] {
                let reply =
                    client.curl([family, &format!("{scheme}://example.test/{name}")]).expect_status(200);
                assert_eq!(sha256(&reply.body), lab.files().sum(name), "{family} {scheme} {name}");
            }
        }
    }
    let reply = client.curl(["https://a.wild.test/1k"]).expect_status(200);
    assert!(reply.issuer().contains(ORIGIN_ISSUER), "{}", reply.issuer());
    let certificate = reply.certificate.expect("a certificate");
    assert_eq!(certificate.names, ["DNS:*.wild.test"]);
    assert_eq!(certificate.subject, "O=Lab, CN=*.wild.test");
    let reply = client.curl(["https://10.78.2.2/1k"]).expect_status(200);
    assert!(reply.certificate.expect("a certificate").names.contains(&"IP:fd00:78:2::2".to_owned()));
}

#[test]
fn the_odd_origin_is_odd_in_the_ways_it_promises() {
    let lab = Lab::new();
    let client = lab.client().trusting(Trust::Origin);
    for url in ["http://odd.test/chunked?sizes=1,2,3,70000,1", "https://odd.test/close?n=12345"] {
        let reply = client.curl([url]).expect_status(200);
        assert_eq!(Some(sha256(&reply.body).as_str()), reply.header("x-sha256"), "{url}");
    }
    let upload = lab.files().path("100k");
    let upload = format!("@{}", upload.display());
    let echoed = client.curl(["--data-binary", &upload, "https://odd.test/echo"]).expect_status(200).json();
    assert_eq!(echoed["sha256"], lab.files().sum("100k"));
    let chunked = ["-H", "transfer-encoding: chunked", "--data-binary", &upload, "http://odd.test/echo"];
    let echoed = client.curl(chunked).expect_status(200).json();
    assert_eq!((&echoed["sha256"], &echoed["length"]), (&lab.files().sum("100k").into(), &102_400.into()));

    assert_eq!(client.curl(["http://refuse.test/"]).exit, 7, "refused");
    let hung = lab.client().within(Duration::from_millis(1500)).curl(["http://hang.test/"]);
    assert_eq!(hung.exit, 28, "{}", hung.error);
    assert_eq!(client.curl(["http://odd.test/reset"]).exit, 56);
    assert_eq!(client.curl(["http://odd.test/truncated"]).exit, 18);
}

#[test]
fn raw_servers_greet_echo_and_hear_a_half_close() {
    let lab = Lab::new();
    lab.inside(Place::Client, || {
        let patience = Duration::from_secs(5);
        for family in [4, 6] {
            let mut banner = connect(&address("banner.test", family), 80, patience).expect("connect");
            banner.write_all(b"QUIT\r\n").expect("write");
            let mut said = String::new();
            banner.read_to_string(&mut said).expect("read");
            assert_eq!(said, "220 the odd origin is ready\r\n250 QUIT\r\n");

            let mut echo = connect(&address("echo.test", family), 80, patience).expect("connect");
            echo.write_all(b"\x01abc").expect("write");
            echo.shutdown(Shutdown::Write).expect("half-close");
            let mut said = String::new();
            echo.read_to_string(&mut said).expect("read");
            assert_eq!(said, "\x01abc\nyou sent 4 bytes\n");
        }
    });
}

#[test]
fn nothing_of_a_lab_remains() {
    let (name, dir) = {
        let lab = Lab::new();
        (lab.netns(Place::Gateway), lab.dir().to_owned())
    };
    assert!(!std::path::Path::new("/run/netns").join(name).exists());
    assert!(!dir.exists());
}
