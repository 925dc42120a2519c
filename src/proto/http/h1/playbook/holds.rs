//! Addons that need time.

use super::*;
use crate::hooks::{Hook, Hooks, Subject};
use crate::testing::Playbook;

#[test]
fn what_comes_behind_a_hold_sees_its_change() {
    Playbook::transparent(ORIGIN)
        .holds(&[Hook::Request])
        .edits_http(Hook::Request, |flow| {
            let seen = flow.request.headers.get("x").unwrap_or_default();
            flow.request.headers.set("X", format!("{seen}, seen"));
        })
        .client_sends(GET)
        .passes(1_000)
        .answer_hold(|subject| match subject {
            Subject::Http(flow) => flow.request.headers.set("X", "held"),
            other => panic!("{other:?}"),
        })
        .connects(ORIGIN)
        .server_gets("GET / HTTP/1.1\r\nHost: example.com\r\nX: held, seen\r\n\r\n")
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_hold_that_nobody_answers_goes_on_unchanged() {
    Playbook::transparent(ORIGIN)
        .option("hook_timeout", "60")
        .holds(&[Hook::Requestheaders])
        .client_sends(GET)
        .passes(59_900)
        .passes(200)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_hold_may_answer_in_the_server_s_place_or_kill() {
    Playbook::transparent(ORIGIN)
        .holds(&[Hook::Requestheaders])
        .client_sends(GET)
        .answer_hold(|subject| match subject {
            Subject::Http(flow) => flow.killed = true,
            other => panic!("{other:?}"),
        })
        .client_sees_end()
        .play();
}

#[test]
fn every_hook_of_an_exchange_may_be_held() {
    for hook in [
        Hook::ClientConnected,
        Hook::NextLayer,
        Hook::Requestheaders,
        Hook::Request,
        Hook::ServerConnect,
        Hook::ServerConnected,
        Hook::Responseheaders,
        Hook::Response,
        Hook::ServerDisconnected,
        Hook::ClientDisconnected,
    ] {
        held_at(hook);
    }
}

/// The exchange waits where the hook is and comes to its end behind it.
fn held_at(hook: Hook) {
    let pause = |book: Playbook, at: &[Hook]| match at.contains(&hook) {
        true => book.hook(hook).passes(1_000).hold_goes_on(),
        false => book,
    };
    let book = Playbook::transparent(ORIGIN).holds(&[hook]);
    let book = pause(book, &[Hook::ClientConnected]).client_sends(GET);
    let book = pause(book, &[Hook::NextLayer, Hook::Requestheaders, Hook::Request, Hook::ServerConnect]);
    let book = pause(book.connects(ORIGIN), &[Hook::ServerConnected]);
    let book = book.server_gets(GET).server_sends(OK);
    let book = pause(book, &[Hook::Responseheaders, Hook::Response]);
    let book = book.client_gets(OK).client_closes().client_sees_end().server_sees_end();
    pause(book, &[Hook::ServerDisconnected, Hook::ClientDisconnected]).play();
}

#[test]
fn a_client_that_leaves_during_a_hold_leaves_nothing_behind() {
    for hook in [Hook::Requestheaders, Hook::Request] {
        Playbook::transparent(ORIGIN)
            .wants(Hooks::NONE)
            .holds(&[hook])
            .client_sends(GET)
            .client_resets()
            .http_flow(|flow| assert!(flow.meta.error.is_some()))
            .play();
    }
}

#[test]
fn a_client_that_leaves_while_its_response_is_held_ends_the_exchange() {
    for hook in [Hook::Responseheaders, Hook::Response] {
        Playbook::transparent(ORIGIN)
            .wants(Hooks::NONE)
            .holds(&[hook])
            .client_sends(GET)
            .connects(ORIGIN)
            .server_gets(GET)
            .server_sends(OK)
            .client_resets()
            .server_sees_end()
            .http_flow(|flow| assert!(flow.meta.error.is_some()))
            .play();
    }
}

#[test]
fn a_session_killed_during_a_hold_delivers_its_flow() {
    Playbook::transparent(ORIGIN)
        .wants(Hooks::NONE)
        .holds(&[Hook::Request])
        .client_sends(GET)
        .session_is_killed()
        .client_sees_end()
        .http_flow(|flow| assert!(flow.meta.error.is_some()))
        .play();
}

#[test]
fn holds_in_tunnels_wait_too() {
    let connect = "CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n";
    let done = "HTTP/1.1 200 Connection established\r\n\r\n";
    Playbook::regular()
        .holds(&[Hook::HttpConnect])
        .client_sends(connect)
        .hook(Hook::HttpConnect)
        .passes(1_000)
        .hold_goes_on()
        .connects(ORIGIN)
        .client_gets(done)
        .play();
    Playbook::regular()
        .holds(&[Hook::HttpConnected])
        .client_sends(connect)
        .connects(ORIGIN)
        .client_gets(done)
        .hook(Hook::HttpConnected)
        .passes(100)
        .hold_goes_on()
        .client_sends(GET)
        .server_gets(GET)
        .play();
    for hook in [Hook::HttpConnectError, Hook::ServerConnectError] {
        Playbook::regular()
            .holds(&[hook])
            .client_sends(connect)
            .connect_fails(ORIGIN, std::io::ErrorKind::ConnectionRefused)
            .hook(hook)
            .passes(1_000)
            .hold_goes_on()
            .client_gets_page(502, "connection refused")
            .play();
    }
}

#[test]
fn a_held_error_waits_too() {
    Playbook::transparent(ORIGIN)
        .holds(&[Hook::Error])
        .client_sends(GET)
        .connect_fails(ORIGIN, std::io::ErrorKind::ConnectionRefused)
        .client_gets_page(502, "connection refused")
        .hook(Hook::Error)
        .passes(1_000)
        .no_flow()
        .hold_goes_on()
        .http_flow(|flow| assert!(flow.meta.error.is_some()))
        .play();
}
