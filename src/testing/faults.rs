//! Connections that fail at every byte, reading or sending, on either side; and peers that take no more: the session
//! ends, each flow ends once, no buffer stays out.

use std::io::ErrorKind;

use super::playbook::Peer;
use super::{ClientHandshake, Playbook, ServerHandshake};
use crate::hooks::Hook;
use crate::stream::Fault;

const ORIGIN: &str = "93.184.216.34:80";
const SECURE: &str = "93.184.216.34:443";
const POST: &str =
    "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world";

/// Two exchanges on one connection.
fn exchanges() -> Playbook {
    Playbook::transparent(ORIGIN)
        .client_sends(POST)
        .connects(ORIGIN)
        .server_sends(OK)
        .client_sends(POST)
        .server_sends(OK)
        .client_closes()
}

fn raw() -> Playbook {
    Playbook::transparent(ORIGIN)
        .client_sends("\x00\x01 what is neither")
        .connects(ORIGIN)
        .server_sends("\x02 an answer")
        .client_sends("more")
        .server_closes()
        .client_closes()
}

fn secure() -> Playbook {
    Playbook::transparent(SECURE)
        .client_starts_tls(ClientHandshake::to("example.com"))
        .connects_tls(SECURE, ServerHandshake::of("example.com"))
        .client_sends(POST)
        .server_sends(OK)
        .client_closes()
}

fn collected() -> Playbook {
    exchanges().edits_http(Hook::Request, |_| {}).edits_http(Hook::Response, |_| {})
}

/// Every fault of one kind, after every so many bytes up to the dialogue's end.
fn at_every(step: usize, end: usize, book: impl Fn() -> Playbook, fault: impl Fn(usize) -> Fault) {
    for after in (0..end).step_by(step) {
        for peer in [Peer::Client, Peer::Server] {
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                book().with_fault(peer, fault(after)).play();
            }));
            assert!(played.is_ok(), "{peer:?}, {:?}", fault(after));
        }
    }
}

/// Every dialogue, from its first byte to its last.
fn everywhere(fault: impl Fn(usize) -> Fault) {
    at_every(1, 160, exchanges, &fault);
    at_every(1, 160, collected, &fault);
    at_every(1, 50, raw, &fault);
    // most of it is handshake
    at_every(197, 4_000, secure, &fault);
}

/// One kind after the other.
fn of(kinds: [ErrorKind; 2], after: usize) -> Option<(usize, ErrorKind)> {
    Some((after, kinds[after % 2]))
}

#[test]
fn a_connection_may_fail_at_every_byte_that_is_read() {
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::TimedOut];
    everywhere(|after| Fault { read: of(kinds, after), ..Fault::default() });
}

#[test]
fn a_connection_may_fail_at_every_byte_that_is_sent() {
    let kinds = [ErrorKind::BrokenPipe, ErrorKind::OutOfMemory];
    everywhere(|after| Fault { write: of(kinds, after), ..Fault::default() });
}

#[test]
fn a_peer_may_stop_taking_at_every_byte() {
    everywhere(|after| Fault { stalls: Some(after), ..Fault::default() });
}
