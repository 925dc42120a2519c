//! Connections that carry more than one exchange, and what becomes of them.

use super::*;
use crate::testing::Playbook;

fn one_exchange(book: Playbook) -> Playbook {
    book.client_sends(GET).connects(ORIGIN).server_gets(GET).server_sends(OK).client_gets(OK)
}

#[test]
fn exchanges_follow_each_other_on_kept_connections() {
    one_exchange(Playbook::transparent(ORIGIN))
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .client_closes()
        .client_sees_end()
        .server_sees_end()
        .play();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    Playbook::transparent(ORIGIN)
        .client_sends([get("/1"), get("/2"), get("/3")].concat())
        .connects(ORIGIN)
        .server_gets(get("/1"))
        .server_sends(ok("one"))
        .client_gets(ok("one"))
        .server_gets(get("/2"))
        .server_sends(ok("two"))
        .client_gets(ok("two"))
        .server_gets(get("/3"))
        .server_sends(ok("three"))
        .client_gets(ok("three"))
        .play();
}

#[test]
fn a_request_behind_a_body_is_not_taken_for_a_part_of_it() {
    Playbook::transparent(ORIGIN)
        .client_sends([post("hello"), get("/2")].concat())
        .connects(ORIGIN)
        .server_gets(post("hello"))
        .server_sends(OK)
        .client_gets(OK)
        .server_gets(get("/2"))
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_server_that_closes_an_idle_connection_is_connected_to_anew() {
    one_exchange(Playbook::transparent(ORIGIN))
        .server_closes()
        .client_sends(GET)
        .server_sees_end()
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_get_that_a_kept_connection_swallowed_is_sent_again_once() {
    one_exchange(Playbook::transparent(ORIGIN))
        .client_sends(get("/again"))
        .server_gets(get("/again"))
        .server_closes()
        .connects(ORIGIN)
        .server_gets(get("/again"))
        .server_closes()
        .client_gets_page(502, "without a response")
        .client_sees_end()
        .play();
}

#[test]
fn a_get_on_a_kept_connection_that_is_reset_is_sent_again() {
    one_exchange(Playbook::transparent(ORIGIN))
        .client_sends(get("/again"))
        .server_gets(get("/again"))
        .server_resets()
        .connects(ORIGIN)
        .server_gets(get("/again"))
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_get_is_not_sent_again_once_a_byte_of_an_answer_came() {
    for (answer, part) in [
        ("HTTP/1.1 2", "inside the response's head"),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", "after an interim response"),
    ] {
        one_exchange(Playbook::transparent(ORIGIN))
            .client_sends(GET)
            .server_gets(GET)
            .server_sends(answer)
            .loosely()
            .server_closes()
            .whatever_came()
            .client_sees_end()
            .flow(|_| {})
            .http_flow(move |flow| assert!(flow.meta.error.as_ref().unwrap().msg.contains(part)))
            .play();
    }
}

#[test]
fn a_post_is_never_sent_again() {
    one_exchange(Playbook::transparent(ORIGIN))
        .client_sends(post("pay"))
        .server_gets(post("pay"))
        .server_closes()
        .client_gets_page(502, "without a response")
        .client_sees_end()
        .play();
}

#[test]
fn a_get_is_not_sent_again_once_its_response_has_begun() {
    one_exchange(Playbook::transparent(ORIGIN))
        .client_sends(GET)
        .server_gets(GET)
        .server_sends("HTTP/1.1 2")
        .server_closes()
        .client_gets_page(502, "inside the response")
        .play();
}

#[test]
fn a_client_that_wants_to_close_is_let_go() {
    let last = "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .client_sends(last)
        .connects(ORIGIN)
        .server_gets(last)
        .server_sends(OK)
        .client_gets(OK)
        .client_sees_end()
        .play();
}

#[test]
fn a_server_that_wants_to_close_closes_the_client_too() {
    let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    Playbook::transparent(ORIGIN)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(last)
        .client_gets(last)
        .client_sees_end()
        .server_sees_end()
        .play();
}

#[test]
fn http_1_0_ends_with_its_exchange() {
    let request = "GET / HTTP/1.0\r\n\r\n";
    let response = "HTTP/1.0 200 OK\r\n\r\nold";
    Playbook::transparent(ORIGIN)
        .client_sends(request)
        .connects(ORIGIN)
        .server_gets(request)
        .server_sends(response)
        .client_gets(response)
        .server_closes()
        .client_sees_end()
        .play();
}

#[test]
fn http_1_0_goes_on_where_both_sides_keep_it_alive() {
    let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let response = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    Playbook::transparent(ORIGIN)
        .client_sends(request)
        .connects(ORIGIN)
        .server_gets(request)
        .server_sends(response)
        .client_gets(response)
        .client_sends(format!("\r\n{request}"))
        .server_gets(request)
        .server_sends(response)
        .client_gets(response)
        .play();
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_over() {
    one_exchange(Playbook::transparent(ORIGIN).option("keepalive_timeout", "30"))
        .passes(29_000)
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .passes(30_100)
        .client_sees_end()
        .client_closes()
        .server_sees_end()
        .play();
}

#[test]
fn draining_lets_the_exchange_finish_and_closes_then() {
    Playbook::transparent(ORIGIN)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .draining_starts()
        .server_sends(OK)
        .client_gets(OK)
        .client_sees_end()
        .client_closes()
        .server_sees_end()
        .play();
}

#[test]
fn draining_closes_idle_connections_at_once() {
    one_exchange(Playbook::transparent(ORIGIN)).draining_starts().client_sees_end().play();
}

#[test]
fn bytes_that_a_server_sends_unasked_are_not_the_next_response() {
    one_exchange(Playbook::transparent(ORIGIN))
        .server_sends("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        .client_sends(get("/2"))
        .connects(ORIGIN)
        .server_gets(get("/2"))
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn bytes_behind_a_response_are_not_the_next_one() {
    Playbook::transparent(ORIGIN)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends([OK, OK].concat())
        .client_gets(OK)
        .client_sends(get("/2"))
        .connects(ORIGIN)
        .server_gets(get("/2"))
        .server_sends(ok("right"))
        .client_gets(ok("right"))
        .play();
}
