//! What addons do to an exchange.

use super::*;
use crate::flow::{Headers, HttpFlow, KILLED_MESSAGE, Response};
use crate::hooks::{Hook, Hooks};
use crate::testing::Playbook;

fn teapot(flow: &mut HttpFlow) {
    flow.response = Some(Response {
        http_version: "HTTP/1.1".into(),
        status_code: 418,
        reason: "Teapot".into(),
        headers: Headers::from_pairs([("X", "y")]),
        content: Some("short".into()),
        trailers: None,
        timestamp_start: 0.0,
        timestamp_end: None,
        stream: crate::flow::BodyStream::Auto,
    });
}

const TEAPOT: &str = "HTTP/1.1 418 Teapot\r\nX: y\r\nContent-Length: 5\r\n\r\nshort";

fn is_killed(flow: &HttpFlow) {
    assert_eq!(flow.meta.error.as_ref().map(|error| &*error.msg), Some(KILLED_MESSAGE));
}

#[test]
fn an_addon_answers_before_the_server_is_asked() {
    for hook in [Hook::Requestheaders, Hook::Request] {
        Playbook::transparent(ORIGIN)
            .edits_http(hook, teapot)
            .client_sends(GET)
            .hook(Hook::Responseheaders)
            .hook(Hook::Response)
            .client_gets(TEAPOT)
            .http_flow(|flow| assert!(flow.meta.error.is_none()))
            .client_sends(GET)
            .hook(Hook::Responseheaders)
            .hook(Hook::Response)
            .client_gets(TEAPOT)
            .play();
    }
}

#[test]
fn an_answer_ahead_of_an_unread_body_closes_the_connection() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Requestheaders, teapot)
        .client_sends(post("hello"))
        .client_gets(TEAPOT)
        .client_sees_end()
        .play();
}

#[test]
fn an_answer_to_a_whole_body_keeps_the_connection() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Request, teapot)
        .client_sends(post("hello"))
        .client_gets(TEAPOT)
        .client_sends(GET)
        .client_gets(TEAPOT)
        .play();
}

#[test]
fn a_head_request_is_answered_without_a_body() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Request, teapot)
        .client_sends("HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .client_gets("HTTP/1.1 418 Teapot\r\nX: y\r\n\r\n")
        .play();
}

#[test]
fn a_killed_request_ends_the_connection_without_an_answer() {
    for hook in [Hook::Requestheaders, Hook::Request] {
        Playbook::transparent(ORIGIN)
            .wants(Hooks::of(&[Hook::Error, Hook::Response]))
            .edits_http(hook, |flow| flow.killed = true)
            .client_sends(GET)
            .hook(Hook::Error)
            .client_sees_end()
            .http_flow(is_killed)
            .play();
    }
}

#[test]
fn a_killed_response_never_reaches_the_client() {
    Playbook::transparent(ORIGIN)
        .wants(Hooks::of(&[Hook::Error, Hook::Response]))
        .edits_http(Hook::Responseheaders, |flow| flow.killed = true)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .hook(Hook::Error)
        .client_sees_end()
        .server_sees_end()
        .http_flow(is_killed)
        .play();
}

#[test]
fn a_response_that_is_killed_at_its_end_gets_no_second_ending() {
    Playbook::transparent(ORIGIN)
        .wants(Hooks::of(&[Hook::Error, Hook::Response]))
        .edits_http(Hook::Response, |flow| flow.killed = true)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .hook(Hook::Response)
        .client_sees_end()
        .server_sees_end()
        .http_flow(is_killed)
        .play();
}

#[test]
fn a_client_that_is_gone_when_its_collected_response_comes_gives_the_flow_one_ending() {
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .wants(Hooks::of(&[Hook::Error, Hook::Response]))
        .holds(&[Hook::Response])
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .hook(Hook::Response)
        .client_resets()
        .hold_goes_on()
        .server_sees_end()
        .play();
}

#[test]
fn an_answer_of_an_addon_that_is_killed_is_not_sent() {
    for hook in [Hook::Responseheaders, Hook::Response] {
        Playbook::transparent(ORIGIN)
            .edits_http(Hook::Request, teapot)
            .edits_http(hook, |flow| flow.killed = true)
            .client_sends(GET)
            .client_sees_end()
            .http_flow(is_killed)
            .play();
    }
}

#[test]
fn headers_are_edited_both_ways() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Requestheaders, |flow| {
            flow.request.path = "/other".into();
            flow.request.headers.set("X-Added", "1");
        })
        .edits_http(Hook::Responseheaders, |flow| {
            let response = flow.response.as_mut().unwrap();
            response.status_code = 203;
            response.headers.set("X-Added", "2");
        })
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets("GET /other HTTP/1.1\r\nHost: example.com\r\nX-Added: 1\r\n\r\n")
        .server_sends(OK)
        .client_gets("HTTP/1.1 203 OK\r\nContent-Length: 2\r\nX-Added: 2\r\n\r\nok")
        .play();
}

#[test]
fn edited_bodies_get_their_right_lengths() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Request, |flow| flow.request.content = Some("longer than before".into()))
        .edits_http(Hook::Response, |flow| {
            flow.response.as_mut().unwrap().content = Some("changed".into());
        })
        .client_sends(post("hello"))
        .connects(ORIGIN)
        .server_gets(post("longer than before"))
        .server_sends(OK)
        .client_gets(ok("changed"))
        .client_sends(post("again"))
        .server_gets(post("longer than before"))
        .server_sends(OK)
        .client_gets(ok("changed"))
        .play();
}

#[test]
fn edited_chunked_bodies_stay_chunked() {
    let request = "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Request, |flow| flow.request.content = Some("up".into()))
        .edits_http(Hook::Response, |flow| {
            flow.response.as_mut().unwrap().content = Some("down".into());
        })
        .client_sends(format!("{request}5\r\nhello\r\n0\r\n\r\n"))
        .connects(ORIGIN)
        .server_gets(format!("{request}2\r\nup\r\n0\r\n\r\n"))
        .server_sends(format!("{response}3\r\nabc\r\n0\r\n\r\n"))
        .client_gets(format!("{response}4\r\ndown\r\n0\r\n\r\n"))
        .play();
}

#[test]
fn a_chunked_body_that_is_emptied_ends_at_once() {
    let request = "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Request, |flow| flow.request.content = Some(bytes::Bytes::new()))
        .client_sends(format!("{request}5\r\nhello\r\n0\r\n\r\n"))
        .connects(ORIGIN)
        .server_gets(format!("{request}0\r\n\r\n"))
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_body_is_given_to_a_request_that_had_none() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Request, |flow| flow.request.content = Some("new".into()))
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets("GET / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nnew")
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_response_without_a_body_stays_without_one() {
    for (request, response) in [
        (GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        ("HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"),
    ] {
        Playbook::transparent(ORIGIN)
            .edits_http(Hook::Response, |flow| {
                flow.response.as_mut().unwrap().content = Some("smuggled".into());
            })
            .client_sends(request)
            .connects(ORIGIN)
            .server_gets(request)
            .server_sends(response)
            .client_gets(response)
            .client_sends(request)
            .server_gets(request)
            .play();
    }
}

#[test]
fn a_header_that_would_split_the_message_is_not_written() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Request, |flow| flow.request.headers.set("X", "a\r\nEvil: b"))
        .client_sends(GET)
        .client_gets_page(502, "header value")
        .client_sees_end()
        .play();
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Responseheaders, |flow| {
            flow.response.as_mut().unwrap().headers.set("X", "a\r\nEvil: b");
        })
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets_page(502, "header value")
        .client_sees_end()
        .play();
}

#[test]
fn a_header_edit_that_lies_about_the_length_does_not_reach_the_wire() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Request, |flow| flow.request.headers.set("Content-Length", "3"))
        .client_sends(post("hello"))
        .connects(ORIGIN)
        .server_gets(post("hello"))
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_streamed_body_keeps_the_framing_it_has() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2048\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .option("stream_large_bodies", "1k")
        .edits_http(Hook::Requestheaders, |flow| flow.request.headers.set("Content-Length", "3"))
        .client_sends(format!("{head}{}", "x".repeat(2048)))
        .client_gets_page(502, "")
        .client_sees_end()
        .play();
}

#[test]
fn a_refused_server_is_a_forbidden() {
    Playbook::transparent(ORIGIN)
        .edits(Hook::ServerConnect, |subject| {
            if let crate::hooks::Subject::Server(data) = subject {
                data.server.error = Some("not from here".into());
            }
        })
        .client_sends(GET)
        .client_gets_page(403, "not from here")
        .client_sees_end()
        .play();
}

#[test]
fn an_addon_sends_the_connection_elsewhere() {
    Playbook::transparent(ORIGIN)
        .edits(Hook::ServerConnect, |subject| {
            if let crate::hooks::Subject::Server(data) = subject {
                data.server.address = Some(("203.0.113.5".into(), 80));
            }
        })
        .client_sends(GET)
        .connects("203.0.113.5:80")
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn every_hook_of_an_exchange_runs_in_order() {
    Playbook::transparent(ORIGIN)
        .hook(Hook::ClientConnected)
        .client_sends(GET)
        .hook(Hook::NextLayer)
        .hook(Hook::Requestheaders)
        .hook(Hook::Request)
        .hook(Hook::ServerConnect)
        .connects(ORIGIN)
        .hook(Hook::ServerConnected)
        .server_gets(GET)
        .server_sends(OK)
        .hook(Hook::Responseheaders)
        .hook(Hook::Response)
        .client_gets(OK)
        .client_closes()
        .client_sees_end()
        .server_sees_end()
        .hook(Hook::ServerDisconnected)
        .hook(Hook::ClientDisconnected)
        .play();
}
