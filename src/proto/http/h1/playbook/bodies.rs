//! Every framing, both ways.

use super::*;
use crate::hooks::Hook;
use crate::testing::Playbook;

fn exchange(request: &str, response: &str) -> Playbook {
    Playbook::transparent(ORIGIN)
        .client_sends(request)
        .connects(ORIGIN)
        .server_gets(request)
        .server_sends(response)
        .client_gets(response)
}

/// The same with addons that may change bodies.
fn collected(request: &str, response: &str) -> Playbook {
    Playbook::transparent(ORIGIN)
        .client_sends(request)
        .hook(Hook::Request)
        .connects(ORIGIN)
        .server_gets(request)
        .server_sends(response)
        .hook(Hook::Response)
        .client_gets(response)
}

fn again(book: Playbook) -> Playbook {
    let next = "HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    book.client_sends(next).server_gets(next)
}

const CHUNKED_POST: &str = "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n";

#[test]
fn bodies_of_known_length_pass_both_ways() {
    again(exchange(&post("hello"), OK))
        .http_flow(|flow| {
            assert_eq!(flow.request.content.as_deref(), Some(&b"hello"[..]));
            assert_eq!(flow.response.as_ref().unwrap().content.as_deref(), Some(&b"ok"[..]));
        })
        .play();
}

#[test]
fn chunks_pass_as_they_are() {
    again(exchange(CHUNKED_POST, CHUNKED))
        .http_flow(|flow| {
            assert_eq!(flow.request.content.as_deref(), Some(&b"hello world"[..]));
            assert_eq!(flow.response.as_ref().unwrap().content.as_deref(), Some(&b"hello world"[..]));
        })
        .play();
}

#[test]
fn a_response_that_ends_with_its_connection_ends_the_client_s() {
    let response = "HTTP/1.1 200 OK\r\n\r\nuntil the end";
    exchange(GET, response)
        .server_closes()
        .client_sees_end()
        .http_flow(|flow| {
            assert_eq!(flow.response.as_ref().unwrap().content.as_deref(), Some(&b"until the end"[..]));
        })
        .play();
}

#[test]
fn a_collected_response_that_ends_with_its_connection_ends_the_client_s() {
    Playbook::transparent(ORIGIN)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends("HTTP/1.1 200 OK\r\n\r\nuntil ")
        .server_sends("the end")
        .server_closes()
        .hook(Hook::Response)
        .client_gets("HTTP/1.1 200 OK\r\n\r\nuntil the end")
        .client_sees_end()
        .play();
}

#[test]
fn responses_without_body_are_not_waited_for() {
    let head = "HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    for (request, response) in [
        (head, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"),
        (head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n"),
    ] {
        again(exchange(request, response)).play();
        collected(request, response).play();
    }
}

#[test]
fn empty_bodies_keep_their_headers() {
    let empty = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n";
    let nothing = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    again(exchange(empty, nothing)).play();
    collected(empty, nothing).play();
}

#[test]
fn interim_responses_pass_to_the_client() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(early)
        .client_gets(early)
        .server_sends("HTTP/1.1 102 Processing\r\n\r\n")
        .client_gets("HTTP/1.1 102 Processing\r\n\r\n")
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn an_old_client_gets_no_interim_responses() {
    let request = "GET / HTTP/1.0\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .client_sends(request)
        .connects(ORIGIN)
        .server_gets(request)
        .server_sends("HTTP/1.1 103 Early Hints\r\n\r\n")
        .server_sends(OK)
        .client_gets(OK)
        .client_sees_end()
        .play();
}

const EXPECTS: &str =
    "POST / HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn an_expectation_of_a_streamed_body_is_the_server_s_to_meet() {
    again(
        Playbook::transparent(ORIGIN)
            .client_sends(EXPECTS)
            .connects(ORIGIN)
            .server_gets(EXPECTS)
            .server_sends(CONTINUE)
            .client_gets(CONTINUE)
            .client_sends("hello")
            .server_gets("hello")
            .server_sends(OK)
            .client_gets(OK),
    )
    .play();
}

#[test]
fn an_expectation_that_the_server_refuses_ends_without_the_body() {
    let refusal = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .client_sends(EXPECTS)
        .connects(ORIGIN)
        .server_gets(EXPECTS)
        .server_sends(refusal)
        .client_gets(refusal)
        .client_sees_end()
        .play();
}

#[test]
fn an_expectation_of_a_collected_body_is_met_by_us() {
    Playbook::transparent(ORIGIN)
        .client_sends(EXPECTS)
        .client_gets(CONTINUE)
        .client_sends("hello")
        .hook(Hook::Request)
        .connects(ORIGIN)
        .server_gets(post("hello"))
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn trailers_pass_both_ways() {
    let request = "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n";
    let check = |flow: &crate::flow::HttpFlow| {
        let sum = |trailers: &Option<crate::flow::Headers>| trailers.as_ref().unwrap().get("x-sum");
        assert_eq!(sum(&flow.request.trailers).as_deref(), Some("1"));
        assert_eq!(sum(&flow.response.as_ref().unwrap().trailers).as_deref(), Some("2"));
    };
    again(exchange(request, response)).http_flow(check).play();
    collected(request, response).http_flow(check).play();
}

#[test]
fn a_final_response_may_come_while_the_client_still_uploads() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100\r\n\r\n";
    let early = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    again(
        Playbook::transparent(ORIGIN)
            .client_sends(head)
            .connects(ORIGIN)
            .server_gets(head)
            .client_sends("x".repeat(40))
            .server_gets("x".repeat(40))
            .server_sends(early)
            .client_gets(early)
            .client_sends("x".repeat(60))
            .server_gets("x".repeat(60)),
    )
    .play();
}

#[test]
fn a_final_response_that_closes_ends_the_upload() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100\r\n\r\n";
    let early = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    Playbook::transparent(ORIGIN)
        .client_sends(head)
        .connects(ORIGIN)
        .server_gets(head)
        .client_sends("x".repeat(40))
        .server_gets("x".repeat(40))
        .server_sends(early)
        .client_gets(early)
        .client_sees_end()
        .server_sees_end()
        .play();
}

#[test]
fn an_early_response_streams_beside_the_rest_of_the_upload() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\n";
    let echo = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    again(
        Playbook::transparent(ORIGIN)
            .client_sends(head)
            .connects(ORIGIN)
            .server_gets(head)
            .server_sends(echo)
            .client_gets(echo)
            .client_sends("hello")
            .server_gets("hello")
            .server_sends("hello")
            .client_gets("hello")
            .client_sends("world")
            .server_gets("world")
            .server_sends("world")
            .client_gets("world")
            .http_flow(|flow| {
                assert_eq!(flow.request.content.as_deref(), Some(&b"helloworld"[..]));
                assert!(flow.meta.error.is_none());
            }),
    )
    .play();
}

#[test]
fn a_response_that_is_collected_does_not_stop_the_upload() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\n";
    again(
        Playbook::transparent(ORIGIN)
            .client_sends(head)
            .connects(ORIGIN)
            .server_gets(head)
            .server_sends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
            .client_sends("hello")
            .server_gets("hello")
            .server_sends("world")
            .hook(Hook::Response)
            .client_gets(ok("world")),
    )
    .play();
}
