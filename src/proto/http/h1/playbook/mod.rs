//! Dialogues of HTTP/1.

use crate::hooks::Hook::{Request, Requestheaders, Response, Responseheaders};
use crate::testing::Playbook;

const ORIGIN: &str = "93.184.216.34:80";
const GET: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn large_response_is_streamed_past_the_addons() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .option("stream_large_bodies", "1k")
        .client_sends(GET)
        .hook(Requestheaders)
        .hook(Request)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(head)
        .hook(Responseheaders)
        .client_gets(head)
        .server_sends("A".repeat(4096))
        .client_gets("A".repeat(4096))
        .hook(Response)
        .play();
}

#[test]
fn exchanges_follow_each_other_on_kept_connections() {
    Playbook::transparent(ORIGIN)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .client_closes()
        .client_sees_end()
        .server_sees_end()
        .play();
}
