//! Dialogues in which another process takes over: clients are asked to come back on a new connection.

use crate::hooks::Hook;
use crate::testing::Playbook;

const ORIGIN: &str = "93.184.216.34:80";
const GET: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

#[test]
fn the_next_response_asks_the_client_to_come_back() {
    Playbook::transparent(ORIGIN)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .leaving_is_announced()
        .passes(100_000)
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(LAST)
        .client_closes()
        .client_sees_end()
        .server_sees_end()
        .play();
}

#[test]
fn a_client_that_stays_all_the_same_is_served_until_the_drain() {
    Playbook::transparent(ORIGIN)
        .leaving_is_announced()
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(LAST)
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(LAST)
        .draining_starts()
        .client_sees_end()
        .play();
}

#[test]
fn what_the_server_said_of_its_connection_stays_but_for_keep_alive() {
    let said = "Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n";
    Playbook::transparent(ORIGIN)
        .leaving_is_announced()
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(format!("HTTP/1.1 200 OK\r\n{said}Content-Length: 2\r\n\r\nok"))
        .client_gets("HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok")
        .client_closes()
        .client_sees_end()
        .play();
}

#[test]
fn a_response_that_addons_see_whole_asks_as_well() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Response, |_| {})
        .leaving_is_announced()
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        .client_gets(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        )
        .client_closes()
        .client_sees_end()
        .play();
}
