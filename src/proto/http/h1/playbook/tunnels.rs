//! CONNECT, and protocols that are switched to.

use std::io::ErrorKind;

use super::*;
use crate::flow::Response;
use crate::hooks::Hook;
use crate::testing::Playbook;

const CONNECT: &str = "CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n";
const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_tunnel_carries_http() {
    Playbook::regular()
        .client_sends(CONNECT)
        .hook(Hook::HttpConnect)
        .connects(ORIGIN)
        .client_gets(ESTABLISHED)
        .hook(Hook::HttpConnected)
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .http_flow(|flow| assert_eq!(flow.request.url(), "http://example.com/"))
        .play();
}

#[test]
fn a_lazy_tunnel_is_answered_before_its_server_is_needed() {
    let lazy = || Playbook::regular().option("connection_strategy", "lazy").client_sends(CONNECT);
    lazy()
        .client_gets(ESTABLISHED)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
    lazy()
        .client_gets(ESTABLISHED)
        .passes(1_000)
        .client_sends("\x00\x01binary")
        .connects(ORIGIN)
        .server_gets("\x00\x01binary")
        .server_sends("\x02answer")
        .client_gets("\x02answer")
        .play();
    lazy()
        .client_gets(ESTABLISHED)
        .client_sends(GET)
        .connect_fails(ORIGIN, ErrorKind::ConnectionRefused)
        .client_gets_page(502, "connection refused")
        .client_sees_end()
        .play();
}

#[test]
fn a_tunnel_in_a_tunnel_belongs_to_the_proxy_behind_us() {
    let inner = "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n";
    let tunnel = || {
        Playbook::regular()
            .client_sends(CONNECT)
            .connects(ORIGIN)
            .client_gets(ESTABLISHED)
            .client_sends(inner)
            .server_gets(inner)
    };
    tunnel()
        .server_sends("HTTP/1.1 200 OK\r\n\r\n")
        .client_gets("HTTP/1.1 200 OK\r\n\r\n")
        .client_sends("\x16not ours")
        .server_gets("\x16not ours")
        .server_sends("nor this")
        .client_gets("nor this")
        .client_closes()
        .server_sees_end()
        .server_closes()
        .client_sees_end()
        .http_flow(|flow| assert_eq!(flow.request.method, "CONNECT"))
        .tcp_flow(|flow| assert_eq!(flow.messages.len().min(2), 2))
        .play();
    tunnel()
        .server_sends("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        .client_gets("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        .client_sends(GET)
        .server_gets(GET)
        .play();
}

#[test]
fn a_tunnel_carries_what_nobody_knows() {
    Playbook::regular()
        .client_sends(CONNECT)
        .connects(ORIGIN)
        .client_gets(ESTABLISHED)
        .client_sends("\x00\x01binary")
        .server_gets("\x00\x01binary")
        .server_sends("\x02answer")
        .client_gets("\x02answer")
        .client_closes()
        .server_sees_end()
        .server_closes()
        .client_sees_end()
        .tcp_flow(|flow| assert!(flow.messages.len() >= 2))
        .play();
}

#[test]
fn a_tunnel_whose_server_speaks_first_is_raw() {
    Playbook::regular()
        .client_sends(CONNECT)
        .connects(ORIGIN)
        .client_gets(ESTABLISHED)
        .server_sends("220 mail\r\n")
        .passes(500)
        .client_gets("220 mail\r\n")
        .client_sends("QUIT\r\n")
        .server_gets("QUIT\r\n")
        .play();
}

#[test]
fn a_tunnel_to_nowhere_is_refused_with_the_reason() {
    Playbook::regular()
        .client_sends(CONNECT)
        .connect_fails(ORIGIN, ErrorKind::ConnectionRefused)
        .hook(Hook::HttpConnectError)
        .client_gets_page(502, "connection refused")
        .client_sees_end()
        .no_flow()
        .play();
}

#[test]
fn an_addon_may_refuse_a_tunnel() {
    Playbook::regular()
        .edits_http(Hook::HttpConnect, |flow| {
            flow.response = Some(Response {
                http_version: "HTTP/1.1".into(),
                status_code: 407,
                reason: "Who are you".into(),
                headers: crate::flow::Headers::from_pairs([("Proxy-Authenticate", "Basic")]),
                content: None,
                trailers: None,
                timestamp_start: 0.0,
                timestamp_end: None,
                stream: crate::flow::BodyStream::Auto,
            });
        })
        .client_sends(CONNECT)
        .client_gets("HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
        .client_sees_end()
        .no_flow()
        .play();
}

#[test]
fn an_addon_may_kill_a_tunnel() {
    Playbook::regular()
        .edits_http(Hook::HttpConnect, |flow| flow.killed = true)
        .client_sends(CONNECT)
        .client_sees_end()
        .no_flow()
        .play();
}

#[test]
fn a_tunnel_needs_a_port() {
    Playbook::regular()
        .client_sends("CONNECT example.com HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .client_gets_page(400, "")
        .client_sees_end()
        .play();
}

#[test]
fn an_unknown_protocol_that_is_switched_to_is_raw_with_a_flow_of_its_own() {
    let request =
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: teleport/2\r\nConnection: keep-alive, Upgrade\r\n\r\n";
    let switched = "HTTP/1.1 101 Beam\r\nUpgrade: teleport/2\r\nConnection: upgrade\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .client_sends(request)
        .connects(ORIGIN)
        .server_gets(request)
        .server_sends(switched)
        .client_gets(switched)
        .client_sends("up")
        .server_gets("up")
        .client_closes()
        .server_sees_end()
        .server_sends("down")
        .client_gets("down")
        .server_closes()
        .client_sees_end()
        .http_flow(|flow| assert_eq!(flow.response.as_ref().unwrap().status_code, 101))
        .tcp_flow(|flow| assert_eq!(flow.messages.iter().map(|m| m.content.len()).sum::<usize>(), 6))
        .play();
}

#[test]
fn a_switched_protocol_is_raw_both_ways() {
    Playbook::transparent(ORIGIN)
        .client_sends(UPGRADE)
        .connects(ORIGIN)
        .server_gets(UPGRADE)
        .server_sends(SWITCHED)
        .client_gets(SWITCHED)
        .client_sends("\u{1}ping")
        .server_gets("\u{1}ping")
        .server_sends("\u{2}pong")
        .client_gets("\u{2}pong")
        .server_closes()
        .client_sees_end()
        .client_closes()
        .server_sees_end()
        .http_flow(|flow| assert_eq!(flow.response.as_ref().unwrap().status_code, 101))
        .tcp_flow(|flow| assert!(flow.meta.error.is_none()))
        .play();
}

#[test]
fn bytes_right_behind_the_switch_are_not_lost() {
    Playbook::transparent(ORIGIN)
        .client_sends(UPGRADE)
        .connects(ORIGIN)
        .server_gets(UPGRADE)
        .server_sends([SWITCHED, "early"].concat())
        .client_gets([SWITCHED, "early"].concat())
        .play();
}

#[test]
fn a_switch_that_addons_listen_to_is_raw_too() {
    Playbook::transparent(ORIGIN)
        .client_sends(UPGRADE)
        .hook(Hook::Request)
        .connects(ORIGIN)
        .server_gets(UPGRADE)
        .server_sends([SWITCHED, "early"].concat())
        .hook(Hook::Response)
        .client_gets([SWITCHED, "early"].concat())
        .client_sends("\u{1}ping")
        .server_gets("\u{1}ping")
        .play();
}

#[test]
fn a_switch_that_was_not_asked_for_is_not_made() {
    Playbook::transparent(ORIGIN)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(SWITCHED)
        .client_gets_page(502, "switched protocols, which the client did not ask for")
        .client_sees_end()
        .play();
}

#[test]
fn a_server_may_decline_to_switch() {
    Playbook::transparent(ORIGIN)
        .client_sends(UPGRADE)
        .connects(ORIGIN)
        .server_gets(UPGRADE)
        .server_sends(OK)
        .client_gets(OK)
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}
