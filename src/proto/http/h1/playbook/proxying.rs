//! Where requests go, and what of them the server sees.

use super::*;
use crate::flow::MetaValue;
use crate::testing::Playbook;

#[test]
fn an_absolute_url_becomes_a_path_and_proxy_headers_stay_here() {
    Playbook::regular()
        .client_sends(
            "GET http://example.com/a?b HTTP/1.1\r\nHost: example.com\r\nProxy-Connection: keep-alive\r\n\
             Proxy-Authorization: Basic eDp5\r\nAccept: */*\r\n\r\n",
        )
        .connects(ORIGIN)
        .server_gets("GET /a?b HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n")
        .server_sends(OK)
        .client_gets(OK)
        .http_flow(|flow| {
            assert_eq!(flow.request.url(), "http://example.com/a?b");
            assert_eq!(&flow.request.authority[..], b"example.com");
        })
        .play();
}

#[test]
fn an_absolute_url_says_the_host_whatever_the_host_header_says() {
    for host in ["", "Host: other.test\r\n"] {
        let sent = format!("GET http://example.com:8080/ HTTP/1.1\r\n{host}X: y\r\n\r\n");
        let got = match host {
            "" => "GET / HTTP/1.1\r\nX: y\r\nHost: example.com:8080\r\n\r\n",
            _ => "GET / HTTP/1.1\r\nHost: example.com:8080\r\nX: y\r\n\r\n",
        };
        Playbook::regular()
            .client_sends(sent)
            .connects("93.184.216.34:8080")
            .server_gets(got)
            .server_sends(OK)
            .client_gets(OK)
            .play();
    }
}

#[test]
fn fields_for_this_hop_end_at_a_proxy_and_pass_one_that_nobody_sees() {
    let fields =
        "Host: example.com\r\nConnection: keep-alive, X-Hop, TE\r\nX-Hop: 1\r\nTE: trailers\r\nX-End: 2\r\n";
    Playbook::regular()
        .client_sends(format!("GET http://example.com/ HTTP/1.1\r\n{fields}\r\n"))
        .connects(ORIGIN)
        .server_gets(
            "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, TE\r\nTE: trailers\r\nX-End: 2\r\n\r\n",
        )
        .play();
    Playbook::transparent(ORIGIN)
        .client_sends(format!("GET / HTTP/1.1\r\n{fields}\r\n"))
        .connects(ORIGIN)
        .server_gets(format!("GET / HTTP/1.1\r\n{fields}\r\n"))
        .play();
}

#[test]
fn a_path_with_a_host_is_enough_for_a_proxy() {
    Playbook::regular()
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_path_without_a_host_is_a_bad_request_to_a_proxy() {
    for request in ["GET / HTTP/1.1\r\n\r\n", "GET /a HTTP/1.0\r\nX: y\r\n\r\n"] {
        Playbook::regular()
            .client_sends(request)
            .client_gets_page(400, "names its server")
            .client_sees_end()
            .play();
    }
}

#[test]
fn other_schemes_are_not_fetched() {
    Playbook::regular()
        .client_sends("GET ftp://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .client_gets_page(400, "only http and https")
        .client_sees_end()
        .play();
}

#[test]
fn one_client_connection_may_ask_several_servers() {
    Playbook::regular()
        .client_sends("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .client_sends("GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n")
        .server_sees_end()
        .connects("203.0.113.5:80")
        .server_gets("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
        .server_sends(ok("other"))
        .client_gets(ok("other"))
        .play();
}

#[test]
fn a_remote_client_does_not_reach_into_this_machine() {
    Playbook::regular()
        .client_sends("GET http://127.0.0.1:9/ HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n")
        .client_gets_page(403, "may not be reached")
        .client_sees_end()
        .play();
}

#[test]
fn a_reverse_proxy_names_its_own_server() {
    Playbook::reverse("http://example.com:8080")
        .client_sends("GET /a HTTP/1.1\r\nHost: gateway.local\r\nX: y\r\n\r\n")
        .connects("93.184.216.34:8080")
        .server_gets("GET /a HTTP/1.1\r\nHost: example.com:8080\r\nX: y\r\n\r\n")
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_reverse_proxy_may_keep_the_client_s_host() {
    let request = "GET /a HTTP/1.1\r\nHost: gateway.local\r\n\r\n";
    Playbook::reverse("http://example.com")
        .option("keep_host_header", "true")
        .client_sends(request)
        .connects(ORIGIN)
        .server_gets(request)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_transparent_client_goes_where_its_packets_went() {
    let request = "GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n";
    Playbook::transparent(ORIGIN)
        .client_sends(request)
        .connects(ORIGIN)
        .server_gets(request)
        .server_sends(OK)
        .client_gets(OK)
        .http_flow(|flow| assert_eq!(flow.request.host, "93.184.216.34"))
        .play();
}

#[test]
fn header_bytes_reach_the_server_as_they_came() {
    let request = b"GET / HTTP/1.1\r\nhOSt:example.com\r\nX:  spaced \r\nX: \xe9\r\n\r\n";
    let book = Playbook::transparent(ORIGIN).client_sends(request).connects(ORIGIN);
    book.server_gets(request).server_sends(OK).client_gets(OK).play();
}

#[test]
fn a_name_in_tls_that_differs_from_the_host_is_noted() {
    use crate::testing::{ClientHandshake, ServerHandshake};
    Playbook::transparent("93.184.216.34:443")
        .client_starts_tls(ClientHandshake::to("example.com"))
        .connects_tls("93.184.216.34:443", ServerHandshake::of("example.com"))
        .client_sends("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
        .server_gets("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
        .server_sends(OK)
        .client_gets(OK)
        .http_flow(|flow| {
            let noted = flow.meta.noted("authority_mismatch");
            assert_eq!(noted, Some(&MetaValue::Text("SNI example.com, Host other.test".into())));
        })
        .play();
}
