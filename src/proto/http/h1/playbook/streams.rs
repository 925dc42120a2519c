//! Body plans: what is collected, what streams, and what streams through an addon's function.

use super::*;
use crate::flow::{BodyStream, Headers, HttpFlow, MetaValue, Pieces};
use crate::hooks::{Hook, Hooks};
use crate::testing::Playbook;

const CHUNKED_POST: &str = "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNKED_OK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Upper case, and a mark at the end.
fn shout() -> BodyStream {
    BodyStream::through(|piece: &[u8]| match piece {
        [] => b"!".to_vec(),
        _ => piece.to_ascii_uppercase(),
    })
}

fn shout_requests(flow: &mut HttpFlow) {
    flow.request.stream = shout();
}

fn shout_responses(flow: &mut HttpFlow) {
    flow.response.as_mut().unwrap().stream = shout();
}

/// Data of a chunked body, whatever its chunks.
fn streamed(flow: &HttpFlow) -> Option<&MetaValue> {
    flow.meta.noted("streamed")
}

#[test]
fn a_body_with_a_length_goes_through_a_function_and_leaves_in_chunks() {
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .edits_http(Hook::Requestheaders, shout_requests)
        .edits_http(Hook::Responseheaders, shout_responses)
        .client_sends("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\nhello")
        .connects(ORIGIN)
        .server_gets(format!("{CHUNKED_POST}5\r\nHELLO\r\n"))
        .client_sends("world")
        .server_gets("5\r\nWORLD\r\n1\r\n!\r\n0\r\n\r\n")
        .server_sends("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi")
        .client_gets(format!("{CHUNKED_OK}2\r\nFI\r\n"))
        .server_sends("ne")
        .client_gets("2\r\nNE\r\n1\r\n!\r\n0\r\n\r\n")
        .http_flow(|flow| {
            assert_eq!((&flow.request.content, &flow.response.as_ref().unwrap().content), (&None, &None));
            assert_eq!(streamed(flow), None, "nobody was passed by against their will");
        })
        .client_sends(GET)
        .server_gets(GET)
        .server_sends("HTTP/1.1 204 No Content\r\n\r\n")
        .client_gets("HTTP/1.1 204 No Content\r\n\r\n")
        .play();
}

#[test]
fn a_chunked_body_goes_through_a_function_however_it_comes() {
    let total = |_: &mut HttpFlow| {
        let mut sum = 0_u32;
        BodyStream::through(move |piece: &[u8]| {
            sum += piece.iter().map(|b| u32::from(*b)).sum::<u32>();
            if piece.is_empty() { sum.to_string().into_bytes() } else { Vec::new() }
        })
    };
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Requestheaders, move |flow| flow.request.stream = total(flow))
        .edits_http(Hook::Responseheaders, move |flow| {
            flow.response.as_mut().unwrap().stream = total(flow);
        })
        .client_sends(format!("{CHUNKED_POST}2;x=y\r\nab\r\n1\r\nc\r\n0\r\nX-Sum: 1\r\n\r\n"))
        .connects(ORIGIN)
        .server_gets(format!("{CHUNKED_POST}3\r\n294\r\n0\r\nX-Sum: 1\r\n\r\n"))
        .server_sends(format!("{CHUNKED_OK}1\r\na\r\n1\r\nb\r\n0\r\nX-Sum: 2\r\n\r\n"))
        .client_gets(format!("{CHUNKED_OK}3\r\n195\r\n0\r\nX-Sum: 2\r\n\r\n"))
        .play();
}

#[test]
fn a_function_that_gives_several_pieces_or_takes_its_time_keeps_the_order() {
    let later = || {
        BodyStream::through(|piece: &[u8]| {
            let piece = bytes::Bytes::copy_from_slice(piece);
            Pieces::Later(Box::pin(async move { Ok(vec![piece.clone(), bytes::Bytes::new(), piece]) }))
        })
    };
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .edits_http(Hook::Requestheaders, move |flow| flow.request.stream = later())
        .client_sends(post("abc"))
        .connects(ORIGIN)
        .server_gets(format!("{CHUNKED_POST}3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"))
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_message_without_a_body_does_not_come_by_a_function() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Requestheaders, shout_requests)
        .edits_http(Hook::Responseheaders, shout_responses)
        .client_sends("HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .connects(ORIGIN)
        .server_gets("HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .server_sends("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        .client_gets("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        .play();
}

#[test]
fn a_response_that_ends_with_its_connection_still_does_behind_a_function() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Responseheaders, shout_responses)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends("HTTP/1.1 200 OK\r\n\r\nuntil")
        .client_gets("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nUNTIL")
        .server_closes()
        .client_gets("!")
        .client_sees_end()
        .play();
}

#[test]
fn an_old_client_gets_no_chunks() {
    let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let asked = || Playbook::transparent(ORIGIN).client_sends(request).connects(ORIGIN).server_gets(request);
    let bare = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    asked()
        .server_sends(format!("{CHUNKED_OK}3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"))
        .client_gets(format!("{bare}abcde"))
        .client_sees_end()
        .play();
    asked()
        .edits_http(Hook::Responseheaders, shout_responses)
        .server_sends(ok("abc"))
        .client_gets(format!("{bare}ABC!"))
        .client_sees_end()
        .play();
    asked()
        .server_sends(format!("{CHUNKED_OK}3\r\nabc\r\n0\r\n\r\n"))
        .hook(Hook::Response)
        .client_gets(ok("abc"))
        .play();
}

#[test]
fn an_old_client_s_request_leaves_as_a_newer_one_behind_a_function() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Requestheaders, |flow| {
            flow.request.stream = BodyStream::through(|_: &[u8]| Vec::<u8>::new());
        })
        .client_sends("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc")
        .connects(ORIGIN)
        .server_gets("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n")
        .server_sends(OK)
        .client_gets(OK)
        .client_sees_end()
        .play();
}

#[test]
fn a_function_that_fails_ends_the_exchange_and_says_so() {
    let fails = || BodyStream::through(|_: &[u8]| Err::<Vec<u8>, _>("no such codec".to_owned()));
    let said = |flow: &HttpFlow| assert!(flow.meta.error.as_ref().unwrap().msg.contains("no such codec"));
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Requestheaders, move |flow| flow.request.stream = fails())
        .client_sends(post("hello"))
        .connects(ORIGIN)
        .server_gets(CHUNKED_POST)
        .server_sees_end()
        .client_gets_page(502, "no such codec")
        .client_sees_end()
        .http_flow(said)
        .play();
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Responseheaders, move |flow| flow.response.as_mut().unwrap().stream = fails())
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(CHUNKED_OK)
        .client_sees_end()
        .server_sees_end()
        .http_flow(said)
        .play();
}

#[test]
fn what_an_addon_streams_is_not_waited_for_and_its_chunks_stay() {
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .edits_http(Hook::Requestheaders, |flow| flow.request.stream = BodyStream::Pass)
        .edits_http(Hook::Responseheaders, |flow| {
            flow.response.as_mut().unwrap().stream = BodyStream::Pass;
        })
        .client_sends(format!("{CHUNKED_POST}2;x=y\r\nab\r\n"))
        .connects(ORIGIN)
        .server_gets(format!("{CHUNKED_POST}2;x=y\r\nab\r\n"))
        .client_sends("0\r\n\r\n")
        .hook(Hook::Request)
        .server_gets("0\r\n\r\n")
        .server_sends(format!("{CHUNKED_OK}1;z\r\na\r\n"))
        .client_gets(format!("{CHUNKED_OK}1;z\r\na\r\n"))
        .server_sends("0;last\r\n\r\n")
        .hook(Hook::Response)
        .client_gets("0;last\r\n\r\n")
        .http_flow(|flow| {
            assert_eq!((&flow.request.content, &flow.response.as_ref().unwrap().content), (&None, &None));
        })
        .play();
}

#[test]
fn an_early_answer_ends_before_the_rest_of_the_upload_is_waited_for() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\n";
    let early = format!("{CHUNKED_OK}2\r\nno\r\n0\r\n\r\n");
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .wants(Hooks::of(&[Hook::Response, Hook::Request]))
        .edits_http(Hook::Requestheaders, |flow| flow.request.stream = BodyStream::Pass)
        .edits_http(Hook::Responseheaders, |flow| {
            flow.response.as_mut().unwrap().stream = BodyStream::Pass;
        })
        .client_sends(head)
        .connects(ORIGIN)
        .server_gets(head)
        .client_sends("hello")
        .server_gets("hello")
        .server_sends(&early)
        .client_gets(&early)
        .client_sends("world")
        .server_gets("world")
        .hook(Hook::Request)
        .hook(Hook::Response)
        .client_sends(GET)
        .server_gets(GET)
        .hook(Hook::Request)
        .play();
}

#[test]
fn streamed_trailers_are_edited_at_the_end() {
    Playbook::transparent(ORIGIN)
        .option("stream_large_bodies", "1")
        .edits_http(Hook::Request, |flow| flow.request.trailers.as_mut().unwrap().set("X-Sum", "one"))
        .edits_http(Hook::Response, |flow| {
            flow.response.as_mut().unwrap().trailers = Some(Headers::from_pairs([("X-New", "two")]));
        })
        .edits_http(Hook::Requestheaders, |flow| flow.request.stream = BodyStream::Pass)
        .edits_http(Hook::Responseheaders, |flow| {
            flow.response.as_mut().unwrap().stream = BodyStream::Pass;
        })
        .client_sends(format!("{CHUNKED_POST}2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n"))
        .connects(ORIGIN)
        .server_gets(format!("{CHUNKED_POST}2\r\nab\r\n0\r\nX-Sum: one\r\n\r\n"))
        .server_sends(format!("{CHUNKED_OK}2;e\r\ncd\r\n0;last\r\nX-Sum: 2\r\n\r\n"))
        .client_gets(format!("{CHUNKED_OK}2;e\r\ncd\r\n0\r\nX-New: two\r\n\r\n"))
        .play();
}

#[test]
fn trailers_that_an_addon_sets_are_announced_and_sent_to_whom_takes_them() {
    let set = |flow: &mut HttpFlow| {
        flow.response.as_mut().unwrap().trailers = Some(Headers::from_pairs([("X-Sum", "1"), ("X-B", "2")]));
    };
    let takes = "GET / HTTP/1.1\r\nHost: example.com\r\nTE: trailers\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Response, set)
        .client_sends(takes)
        .connects(ORIGIN)
        .server_gets(takes)
        .server_sends(OK)
        .client_gets(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-B\r\n\r\n\
             2\r\nok\r\n0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\n",
        )
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn event_streams_and_grpc_pass_at_once_though_addons_want_bodies() {
    for kind in ["text/event-stream", "application/grpc"] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
        Playbook::transparent(ORIGIN)
            .only_as_written()
            .client_sends(GET)
            .connects(ORIGIN)
            .server_gets(GET)
            .server_sends(&head)
            .client_gets(&head)
            .server_sends("3\r\none\r\n")
            .client_gets("3\r\none\r\n")
            .server_sends("3\r\ntwo\r\n0\r\n\r\n")
            .client_gets("3\r\ntwo\r\n")
            .hook(Hook::Response)
            .client_gets("0\r\n\r\n")
            .http_flow(|flow| {
                assert_eq!(flow.response.as_ref().unwrap().content.as_deref(), Some(&b"onetwo"[..]));
            })
            .play();
    }
}

#[test]
fn without_an_addon_that_may_change_it_a_body_passes_at_once() {
    for hook in [Hook::Requestheaders, Hook::Responseheaders, Hook::Error] {
        Playbook::transparent(ORIGIN)
            .only_as_written()
            .wants(Hooks::of(&[hook]))
            .whatever_came()
            .client_sends("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 6\r\n\r\none")
            .connects_loosely(hook)
            .client_sends("two")
            .server_gets("two")
            .server_sends("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
            .hook_if(hook == Hook::Responseheaders, hook)
            .client_gets("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
            .server_sends("two")
            .client_gets("two")
            .play();
    }
}

impl Playbook {
    fn connects_loosely(self, hook: Hook) -> Self {
        self.hook_if(hook == Hook::Requestheaders, hook)
            .connects(ORIGIN)
            .server_gets("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 6\r\n\r\none")
    }

    fn hook_if(self, runs: bool, hook: Hook) -> Self {
        if runs { self.hook(hook) } else { self }
    }
}

#[test]
fn a_body_too_long_to_be_collected_is_noted_in_its_flow() {
    let (request, response) = (post(&"x".repeat(2000)), ok(&"y".repeat(2000)));
    Playbook::transparent(ORIGIN)
        .option("body_collect_max", "1k")
        .wants(Hooks::of(&[Hook::Request, Hook::Response]))
        .client_sends(&request)
        .connects(ORIGIN)
        .server_gets(&request)
        .hook(Hook::Request)
        .server_sends(&response)
        .client_gets(&response)
        .hook(Hook::Response)
        .http_flow(|flow| {
            let sides = ["request", "response"].map(|side| MetaValue::Text(side.into()));
            assert_eq!(streamed(flow), Some(&MetaValue::List(sides.into())));
        })
        .play();
}

#[test]
fn bodies_being_collected_share_a_budget() {
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .option("collect_budget", "1k")
        .client_sends(format!("{CHUNKED_POST}400\r\n{}\r\n", "x".repeat(1024)))
        .client_sends("1\r\ny\r\n")
        .connects(ORIGIN)
        .server_gets(format!("{CHUNKED_POST}401\r\n{}y\r\n", "x".repeat(1024)))
        .client_sends("0\r\n\r\n")
        .hook(Hook::Request)
        .server_gets("0\r\n\r\n")
        .server_sends(OK)
        .hook(Hook::Response)
        .client_gets(OK)
        .http_flow(|flow| assert!(streamed(flow).is_some()))
        .client_sends(post("small"))
        .hook(Hook::Request)
        .server_gets(post("small"))
        .server_sends(OK)
        .hook(Hook::Response)
        .client_gets(OK)
        .http_flow(|flow| assert!(streamed(flow).is_none(), "the budget is whole again"))
        .play();
}

#[test]
fn a_body_that_must_be_seen_and_cannot_is_refused() {
    let refusing = || Playbook::transparent(ORIGIN).option("collect_overflow", "refuse");
    let (long, wants) = ("x".repeat(2000), Hooks::of(&[Hook::Request, Hook::Response]));
    for option in ["body_collect_max", "collect_budget"] {
        for request in [post(&long), format!("{CHUNKED_POST}7d0\r\n{long}\r\n0\r\n\r\n")] {
            if option == "collect_budget" && request.contains("Content-Length") {
                continue;
            }
            refusing()
                .option(option, "1k")
                .wants(wants)
                .client_sends(request)
                .client_gets_page(413, "collect_overflow=refuse")
                .client_sees_end()
                .play();
        }
    }
    for response in [ok(&long), format!("{CHUNKED_OK}7d0\r\n{long}\r\n0\r\n\r\n")] {
        refusing()
            .option("body_collect_max", "1k")
            .wants(wants)
            .only_as_written()
            .client_sends(GET)
            .hook(Hook::Request)
            .connects(ORIGIN)
            .server_gets(GET)
            .server_sends(response)
            .client_gets_page(502, "collect_overflow=refuse")
            .client_sees_end()
            .server_sees_end()
            .play();
    }
}

#[test]
fn streamed_bodies_are_stored_whole_when_asked_for() {
    let body = "y".repeat(5000);
    Playbook::transparent(ORIGIN)
        .option("stream_large_bodies", "1k")
        .option("flow_body_max", "1k")
        .option("store_streamed_bodies", "true")
        .edits_http(Hook::Requestheaders, shout_requests)
        .client_sends(post("hello"))
        .connects(ORIGIN)
        .server_gets(format!("{CHUNKED_POST}5\r\nHELLO\r\n1\r\n!\r\n0\r\n\r\n"))
        .server_sends(ok(&body))
        .client_gets(ok(&body))
        .http_flow(move |flow| {
            assert_eq!(flow.request.content.as_deref(), Some(&b"HELLO!"[..]), "as it left");
            assert_eq!(flow.response.as_ref().unwrap().content.as_ref().unwrap().len(), 5000);
        })
        .only_as_written()
        .play();
}

#[test]
fn an_answer_from_request_comes_before_a_byte_of_the_body_reached_the_origin() {
    Playbook::transparent(ORIGIN)
        .edits_http(Hook::Request, |flow| {
            assert_eq!(flow.request.content.as_ref().unwrap().len(), 100_000);
            flow.killed = true;
        })
        .client_sends(post(&"x".repeat(100_000)))
        .client_sees_end()
        .only_as_written()
        .play();
}
