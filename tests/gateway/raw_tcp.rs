//! What is no HTTP and no TLS passes as it is, in both directions, until each side has said its last word.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::lab::client::connect;
use crate::lab::{Lab, Place, address, flows, text};

#[test]
fn raw_tcp_passes_through_redirect() {
    raw_tcp("redirect");
}

#[test]
fn raw_tcp_passes_through_tproxy() {
    raw_tcp("tproxy");
}

fn raw_tcp(via: &str) {
    let lab = Lab::new();
    let recording = lab.dir().join("flows");
    let mut daemon =
        lab.start_ringtap(&["--mode", "transparent", "--listen-port", "8080", "-q", "-w", &text(&recording)]);
    lab.redirect(via);
    lab.inside(Place::Client, || {
        for family in [4, 6] {
            server_speaks_first(family);
            half_close_is_heard(family);
            a_megabyte_comes_back(family);
        }
    });
    assert!(daemon.terminate().success());
    let kinds = flows::read(&recording).iter().map(|flow| flow.at("type").text()).collect::<Vec<_>>();
    assert_eq!(kinds, ["tcp"; 6], "each connection is one recorded flow");
}

fn server_speaks_first(family: u8) {
    let mut socket = connect(&address("banner.test", family), 80, PATIENCE).expect("connect");
    let mut greeting = [0; 29];
    socket.read_exact(&mut greeting).expect("the greeting, before we say a word");
    assert_eq!(&greeting, b"220 the odd origin is ready\r\n");
    socket.write_all(b"NOOP\r\nQUIT\r\n").expect("write");
    let mut rest = String::new();
    socket.read_to_string(&mut rest).expect("read");
    assert_eq!(rest, "250 NOOP\r\n250 QUIT\r\n");
}

fn half_close_is_heard(family: u8) {
    let mut socket = connect(&address("echo.test", family), 80, PATIENCE).expect("connect");
    socket.write_all(b"\x01\x02\x03 no HTTP").expect("write");
    socket.shutdown(Shutdown::Write).expect("half-close");
    let mut said = String::new();
    socket.read_to_string(&mut said).expect("read");
    assert_eq!(said, "\x01\x02\x03 no HTTP\nyou sent 11 bytes\n");
}

fn a_megabyte_comes_back(family: u8) {
    let mut socket = connect(&address("echo.test", family), 80, PATIENCE).expect("connect");
    let sent = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
    let mut writer = socket.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).expect("write");
            writer.shutdown(Shutdown::Write).expect("half-close");
        });
        let mut back = Vec::new();
        socket.read_to_end(&mut back).expect("read");
        assert!(back.starts_with(&sent), "{} bytes came back", back.len());
        assert!(back.ends_with(b"\nyou sent 1048576 bytes\n"));
    });
}

const PATIENCE: Duration = Duration::from_secs(10);
