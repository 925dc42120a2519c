//! What the client is told when something is wrong, and what the flow says.

use std::io::ErrorKind;

use super::*;
use crate::hooks::Hook;
use crate::testing::Playbook;

fn asked() -> Playbook {
    Playbook::transparent(ORIGIN).client_sends(GET).connects(ORIGIN).server_gets(GET)
}

#[test]
fn a_refused_connection_is_a_bad_gateway() {
    Playbook::transparent(ORIGIN)
        .wants(crate::hooks::Hooks::of(&[Hook::Error]))
        .client_sends(GET)
        .connect_fails(ORIGIN, ErrorKind::ConnectionRefused)
        .client_gets_page(502, "connection refused")
        .hook(Hook::Error)
        .http_flow(|flow| {
            let error = flow.meta.error.as_ref().unwrap();
            assert!(error.msg.contains("connection refused"), "{error:?}");
        })
        .client_sees_end()
        .play();
}

#[test]
fn a_connection_that_nobody_answers_is_a_gateway_timeout() {
    Playbook::transparent(ORIGIN)
        .client_sends(GET)
        .connect_hangs(ORIGIN)
        .passes(14_900)
        .passes(200)
        .client_gets_page(504, "no answer within 15 s (connect_timeout)")
        .client_sees_end()
        .play();
}

#[test]
fn a_name_that_does_not_resolve_is_a_bad_gateway() {
    Playbook::regular()
        .client_sends("GET http://nowhere.test/ HTTP/1.1\r\nHost: nowhere.test\r\n\r\n")
        .client_gets_page(502, "cannot resolve nowhere.test")
        .play();
}

#[test]
fn a_response_that_does_not_come_is_a_gateway_timeout() {
    asked()
        .passes(299_000)
        .passes(1_100)
        .client_gets_page(504, "no response within 300 s")
        .client_sees_end()
        .server_sees_end()
        .play();
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_a_request_timeout() {
    Playbook::transparent(ORIGIN)
        .client_sends("GET / HTTP/1.1\r\nHost:")
        .passes(60_100)
        .client_gets_page(408, "did not come within 60 s (http_head_timeout)")
        .client_sees_end()
        .http_flow(|flow| {
            assert_eq!(&flow.request.method[..], b"GET");
            let error = flow.meta.error.as_ref().map(|error| error.msg.as_str());
            assert!(error.is_some_and(|said| said.contains("http_head_timeout")), "{error:?}");
        })
        .play();
}

#[test]
fn a_malformed_request_is_a_bad_request() {
    for (request, status, part) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "more than one Host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400, "Content-Length"),
        ("GET / HTTP/1.1\r\nHost: a\r\nNo Colon\r\n\r\n", 400, "header name"),
        ("GET / HTTP/3.1\r\nHost: a\r\n\r\n", 505, "version"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "both Content-Length and Transfer-Encoding",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "transfer encoding"),
    ] {
        Playbook::transparent(ORIGIN)
            .client_sends(request)
            .client_gets_page(status, part)
            .client_sees_end()
            .http_flow(move |flow| {
                assert!(flow.meta.error.as_ref().unwrap().msg.contains(part), "{:?}", flow.meta.error);
                assert_eq!(flow.request.method, request.split(' ').next().unwrap());
            })
            .play();
    }
}

#[test]
fn lines_of_a_head_have_limits_too() {
    for (option, value, request, status) in [
        ("http_headers_max", "16", format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(17)), 431),
        ("http_line_max", "1k", format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1024)), 414),
        ("http_line_max", "1k", format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(1024)), 431),
    ] {
        Playbook::transparent(ORIGIN)
            .option(option, value)
            .client_sends(request)
            .client_gets_page(status, option)
            .client_sees_end()
            .http_flow(move |flow| assert!(flow.meta.error.as_ref().unwrap().msg.contains(option)))
            .play();
    }
}

#[test]
fn a_flood_of_interim_responses_is_said_to_be_one() {
    asked()
        .server_sends("HTTP/1.1 102 Processing\r\n\r\n".repeat(101))
        .server_sees_end()
        .loosely()
        .whatever_came()
        .client_sees_end()
        .http_flow(|flow| {
            let said = &flow.meta.error.as_ref().unwrap().msg;
            assert_eq!(said, "server sent more than 100 interim responses");
        })
        .play();
}

#[test]
fn with_validation_off_what_has_one_meaning_is_written_anew_and_the_rest_refused() {
    let lenient = || Playbook::transparent(ORIGIN).option("validate_inbound_headers", "false");
    lenient()
        .client_sends(
            "POST /  HTTP/1.1\nHost : a\r\nContent-Length: 3\r\nTransfer-Encoding:\r\n chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n",
        )
        .connects(ORIGIN)
        .server_gets(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        )
        .server_sends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 02\r\n\r\nok")
        .client_gets(OK)
        .http_flow(|flow| assert_eq!(flow.request.headers.get("content-length"), None))
        .client_sends("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        .client_gets_page(400, "more than one Host")
        .client_sees_end()
        .play();
    lenient()
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok")
        .client_gets_page(502, "more than one Content-Length")
        .client_sees_end()
        .server_sees_end()
        .play();
}

#[test]
fn garbage_to_a_proxy_is_a_bad_request() {
    Playbook::regular()
        .client_sends("\x01\x02\x03\x04garbage\r\n\r\n")
        .client_gets_page(400, "request")
        .client_sees_end()
        .play();
}

#[test]
fn a_head_that_is_too_large_is_said_to_be() {
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "x".repeat(1000)).repeat(2);
    Playbook::transparent(ORIGIN)
        .option("http_head_size_max", "1k")
        .client_sends(long)
        .client_gets_page(431, "larger than 1024 bytes")
        .client_sees_end()
        .play();
}

#[test]
fn a_response_that_is_none_is_a_bad_gateway() {
    for (response, part) in [
        ("SSH-2.0-OpenSSH\r\n\r\n", "malformed status line"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "Content-Length"),
        ("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", "body announced"),
    ] {
        asked()
            .server_sends(response)
            .client_gets_page(502, part)
            .client_sees_end()
            .server_sees_end()
            .http_flow(|flow| assert!(flow.meta.error.is_some() && flow.response.is_none()))
            .play();
    }
}

#[test]
fn a_server_that_closes_without_a_word_is_a_bad_gateway() {
    asked().server_closes().client_gets_page(502, "without a response").client_sees_end().play();
    asked().server_resets().client_gets_page(502, "connection reset").client_sees_end().play();
}

#[test]
fn a_body_that_breaks_off_is_cut_for_the_client_too() {
    let part = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    asked()
        .server_sends(part)
        .client_gets(part)
        .server_closes()
        .client_sees_end()
        .http_flow(|flow| assert!(flow.meta.error.as_ref().unwrap().msg.starts_with("server: ")))
        .play();
    let part = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    asked().server_sends(part).client_gets(part).server_resets().client_sees_end().play();
}

#[test]
fn a_collected_body_that_breaks_off_never_looks_whole() {
    asked()
        .wants(crate::hooks::Hooks::of(&[Hook::Response, Hook::Error]))
        .server_sends("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        .server_closes()
        .client_gets_page(502, "server: ")
        .hook(Hook::Error)
        .client_sees_end()
        .play();
}

#[test]
fn a_server_that_stalls_in_a_collected_body_is_a_gateway_timeout() {
    asked()
        .wants(crate::hooks::Hooks::of(&[Hook::Response, Hook::Error]))
        .server_sends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        .passes(600_100)
        .server_sees_end()
        .client_gets_page(504, "server: sends no more data for 600 s (tcp_timeout)")
        .hook(Hook::Error)
        .client_sees_end()
        .play();
}

#[test]
fn chunks_that_are_none_are_not_passed_on() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    asked()
        .only_as_written()
        .server_sends([head, "zz\r\n"].concat())
        .client_gets_page(502, "invalid body")
        .client_sees_end()
        .play();
    asked()
        .only_as_written()
        .server_sends(head)
        .client_gets(head)
        .server_sends("zz\r\n")
        .client_sees_end()
        .http_flow(|flow| assert!(flow.meta.error.as_ref().unwrap().msg.contains("invalid body")))
        .play();
}

#[test]
fn an_upload_with_broken_chunks_is_a_bad_request() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .client_sends(head)
        .connects(ORIGIN)
        .server_gets(head)
        .client_sends("zz\r\n")
        .client_gets_page(400, "invalid body")
        .client_sees_end()
        .server_sees_end()
        .play();
}

#[test]
fn a_client_that_breaks_off_its_upload_ends_the_exchange() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\n";
    let uploading = || {
        Playbook::transparent(ORIGIN)
            .client_sends(head)
            .connects(ORIGIN)
            .server_gets(head)
            .client_sends("hello")
            .server_gets("hello")
    };
    for reason in ["reset", "end"] {
        let book = match reason {
            "reset" => uploading().client_resets(),
            _ => uploading().client_closes(),
        };
        book.server_sees_end()
            .http_flow(|flow| {
                let error = flow.meta.error.as_ref().unwrap();
                assert!(error.msg.starts_with("client: "), "{error:?}");
            })
            .play();
    }
}

#[test]
fn a_client_that_is_reset_while_it_waits_ends_the_exchange() {
    asked().client_resets().server_sees_end().http_flow(|flow| assert!(flow.meta.error.is_some())).play();
}

#[test]
fn a_client_that_half_closes_still_gets_its_answer() {
    asked().client_closes().server_sends(OK).client_gets(OK).client_sees_end().play();
}

#[test]
fn a_client_that_stalls_in_its_upload_is_not_waited_for_for_ever() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .client_sends(head)
        .connects(ORIGIN)
        .server_gets(head)
        .passes(600_100)
        .server_sees_end()
        .client_gets_page(408, "no more data for 600 s (tcp_timeout)")
        .client_sees_end()
        .http_flow(|flow| assert!(flow.meta.error.as_ref().unwrap().msg.contains("no more data")))
        .play();
}

#[test]
fn a_client_that_says_nothing_makes_no_flow() {
    Playbook::regular().client_closes().client_sees_end().no_flow().play();
    Playbook::regular().client_resets().no_flow().play();
    Playbook::regular().client_sends("GET / HT").client_closes().client_sees_end().no_flow().play();
}

#[test]
fn a_session_that_is_killed_still_delivers_its_flow() {
    asked()
        .session_is_killed()
        .client_sees_end()
        .server_sees_end()
        .http_flow(|flow| assert_eq!(flow.meta.error.as_ref().unwrap().msg, crate::flow::KILLED_MESSAGE))
        .play();
}
