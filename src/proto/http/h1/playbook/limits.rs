//! How much of a body is kept, collected or let through.

use super::*;
use crate::flow::MetaValue;
use crate::hooks::Hook;
use crate::testing::Playbook;

const UPLOAD_HEAD: &str = "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNKED_HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn large_response_is_streamed_past_the_addons() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .option("stream_large_bodies", "1k")
        .client_sends(GET)
        .hook(Hook::Requestheaders)
        .hook(Hook::Request)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(head)
        .hook(Hook::Responseheaders)
        .client_gets(head)
        .server_sends("A".repeat(4096))
        .client_gets("A".repeat(4096))
        .hook(Hook::Response)
        .http_flow(|flow| {
            assert!(flow.response.as_ref().unwrap().content.is_none());
            assert_eq!(flow.meta.noted("response_length"), Some(&MetaValue::Int(4096)));
        })
        .play();
}

#[test]
fn large_upload_is_streamed_past_the_addons() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4096\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .option("stream_large_bodies", "1k")
        .client_sends(head)
        .hook(Hook::Requestheaders)
        .connects(ORIGIN)
        .server_gets(head)
        .client_sends("A".repeat(4096))
        .server_gets("A".repeat(4096))
        .hook(Hook::Request)
        .server_sends(OK)
        .client_gets(OK)
        .http_flow(|flow| {
            assert!(flow.request.content.is_none());
            assert_eq!(flow.meta.noted("request_length"), Some(&MetaValue::Int(4096)));
        })
        .play();
}

#[test]
fn a_body_beyond_what_flows_keep_is_noted_by_its_length() {
    Playbook::transparent(ORIGIN)
        .option("flow_body_max", "1k")
        .client_sends(post(&"x".repeat(1024)))
        .connects(ORIGIN)
        .server_gets(post(&"x".repeat(1024)))
        .server_sends(ok(&"y".repeat(1025)))
        .client_gets(ok(&"y".repeat(1025)))
        .http_flow(|flow| {
            assert_eq!(flow.request.content.as_ref().map(bytes::Bytes::len), Some(1024));
            assert_eq!(flow.response.as_ref().unwrap().content, None);
            assert_eq!(flow.meta.noted("response_length"), Some(&MetaValue::Int(1025)));
        })
        .play();
}

#[test]
fn a_declared_body_beyond_the_limit_is_refused() {
    Playbook::transparent(ORIGIN)
        .option("body_size_limit", "1k")
        .client_sends("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1025\r\n\r\n")
        .client_gets_page(413, "body_size_limit")
        .client_sees_end()
        .play();
    Playbook::transparent(ORIGIN)
        .option("body_size_limit", "1k")
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends("HTTP/1.1 200 OK\r\nContent-Length: 1025\r\n\r\n")
        .client_gets_page(502, "body_size_limit")
        .client_sees_end()
        .server_sees_end()
        .play();
}

#[test]
fn a_chunked_upload_that_grows_beyond_the_limit_is_refused() {
    for hooks in [&[][..], &[Hook::Request]] {
        let chunk = format!("401\r\n{}\r\n", "x".repeat(1025));
        let mut book = Playbook::transparent(ORIGIN)
            .wants(crate::hooks::Hooks::of(hooks))
            .option("body_size_limit", "1k")
            .client_sends(UPLOAD_HEAD);
        if hooks.is_empty() {
            book = book.only_as_written().connects(ORIGIN).server_gets(UPLOAD_HEAD);
        }
        book.client_sends(chunk).client_gets_page(413, "body_size_limit").client_sees_end().play();
    }
}

#[test]
fn a_chunked_response_that_grows_beyond_the_limit_is_cut() {
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .option("body_size_limit", "1k")
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(CHUNKED_HEAD)
        .client_gets(CHUNKED_HEAD)
        .server_sends(format!("401\r\n{}\r\n", "x".repeat(1025)))
        .client_sees_end()
        .http_flow(|flow| assert!(flow.meta.error.as_ref().unwrap().msg.contains("body_size_limit")))
        .play();
    Playbook::transparent(ORIGIN)
        .wants(crate::hooks::Hooks::of(&[Hook::Response, Hook::Error]))
        .option("body_size_limit", "1k")
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(format!("{CHUNKED_HEAD}401\r\n{}\r\n", "x".repeat(1025)))
        .client_gets_page(502, "body_size_limit")
        .hook(Hook::Error)
        .client_sees_end()
        .play();
}

#[test]
fn an_upload_too_long_to_be_collected_streams_on() {
    let (first, second) = ("x".repeat(1025), "y".repeat(10));
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .option("body_collect_max", "1k")
        .option("flow_body_max", "1k")
        .client_sends(UPLOAD_HEAD)
        .client_sends(format!("401\r\n{first}\r\n"))
        .connects(ORIGIN)
        .server_gets(format!("{UPLOAD_HEAD}401\r\n{first}\r\n"))
        .client_sends(format!("a\r\n{second}\r\n"))
        .server_gets(format!("a\r\n{second}\r\n"))
        .client_sends("0\r\nX-Sum: 1\r\n\r\n")
        .hook(Hook::Request)
        .server_gets("0\r\nX-Sum: 1\r\n\r\n")
        .server_sends(OK)
        .client_gets(OK)
        .http_flow(|flow| {
            assert_eq!(flow.request.content, None);
            assert_eq!(flow.meta.noted("request_length"), Some(&MetaValue::Int(1035)));
        })
        .play();
}

#[test]
fn an_expecting_upload_too_long_to_be_collected_streams_on() {
    let head = "POST / HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    let first = "x".repeat(1025);
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .wants(crate::hooks::Hooks::of(&[Hook::Request]))
        .option("body_collect_max", "1k")
        .client_sends(head)
        .client_gets("HTTP/1.1 100 Continue\r\n\r\n")
        .client_sends(format!("401\r\n{first}\r\n"))
        .connects(ORIGIN)
        .server_gets(format!("{UPLOAD_HEAD}401\r\n{first}\r\n"))
        .client_sends("0\r\n\r\n")
        .hook(Hook::Request)
        .server_gets("0\r\n\r\n")
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_response_too_long_to_be_collected_streams_on() {
    let (first, second) = ("x".repeat(1025), "y".repeat(10));
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .option("body_collect_max", "1k")
        .option("flow_body_max", "1k")
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(CHUNKED_HEAD)
        .server_sends(format!("401\r\n{first}\r\n"))
        .client_gets(format!("{CHUNKED_HEAD}401\r\n{first}\r\n"))
        .server_sends(format!("a\r\n{second}\r\n"))
        .client_gets(format!("a\r\n{second}\r\n"))
        .server_sends("0\r\n\r\n")
        .hook(Hook::Response)
        .client_gets("0\r\n\r\n")
        .http_flow(|flow| {
            assert_eq!(flow.response.as_ref().unwrap().content, None);
            assert_eq!(flow.meta.noted("response_length"), Some(&MetaValue::Int(1035)));
        })
        .play();
}

#[test]
fn a_response_without_length_that_is_too_long_to_be_collected_streams_on() {
    let body = "x".repeat(2000);
    Playbook::transparent(ORIGIN)
        .option("body_collect_max", "1k")
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(format!("HTTP/1.1 200 OK\r\n\r\n{body}"))
        .client_gets(format!("HTTP/1.1 200 OK\r\n\r\n{body}"))
        .server_closes()
        .hook(Hook::Response)
        .client_sees_end()
        .play();
}
