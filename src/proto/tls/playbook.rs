//! Dialogues in TLS, with rustls at both ends.

use crate::hooks::{Hook, Hooks, Subject};
use crate::testing::{ClientHandshake, Playbook, ServerHandshake};

const ORIGIN: &str = "93.184.216.34:443";
const GET: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn client() -> ClientHandshake {
    ClientHandshake::to("example.com")
}

fn server() -> ServerHandshake {
    ServerHandshake::of("example.com")
}

fn shaken() -> Playbook {
    Playbook::transparent(ORIGIN)
        .trusting_origin()
        .client_starts_tls(client().alpn(&["http/1.1"]))
        .connects_tls(ORIGIN, server().alpn(&["http/1.1"]))
}

#[test]
fn names_and_protocols_are_mirrored() {
    shaken()
        .client_tls(|tls| {
            assert!(!tls.is_handshaking());
            assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
        })
        .server_tls(|tls| {
            assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
            let rustls::Connection::Server(tls) = tls else { panic!("a server") };
            assert_eq!(tls.server_name(), Some("example.com"));
        })
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .client_closes()
        .client_sees_end()
        .server_sees_end()
        .http_flow(|flow| {
            assert_eq!(flow.request.url(), "https://93.184.216.34/");
            assert_eq!(flow.meta.client_conn.sni.as_deref(), Some("example.com"));
            assert!(flow.meta.server_conn.timestamp_tls_setup.is_some());
        })
        .play();
}

#[test]
fn a_lazy_handshake_comes_before_its_server_is_known() {
    Playbook::transparent(ORIGIN)
        .option("connection_strategy", "lazy")
        .trusting_origin()
        .client_starts_tls(client().alpn(&["http/1.1"]))
        .client_tls(|tls| assert!(!tls.is_handshaking()))
        .client_sends(GET)
        .connects_tls(ORIGIN, server().alpn(&["http/1.1"]))
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn an_old_version_is_spoken_too() {
    Playbook::transparent(ORIGIN)
        .trusting_origin()
        .client_starts_tls(client().tls12())
        .connects_tls(ORIGIN, server())
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_server_that_picks_no_protocol_is_mirrored() {
    Playbook::transparent(ORIGIN)
        .trusting_origin()
        .client_starts_tls(client().alpn(&["h2", "http/1.1"]))
        .connects_tls(ORIGIN, server())
        .client_tls(|tls| assert_eq!(tls.alpn_protocol(), None))
        .client_sends(GET)
        .server_gets(GET)
        .play();
}

#[test]
fn a_client_with_h2_and_http_1_gets_http_1() {
    Playbook::transparent(ORIGIN)
        .trusting_origin()
        .client_starts_tls(client().alpn(&["h2", "http/1.1"]))
        .connects_tls(ORIGIN, server().alpn(&["h2", "http/1.1"]))
        .client_tls(|tls| assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..])))
        .play();
}

#[test]
fn a_client_that_offers_only_h2_is_told_by_an_alert() {
    Playbook::transparent(ORIGIN)
        .wants(Hooks::of(&[Hook::TlsFailedClient]))
        .client_starts_tls(client().alpn(&["h2"]))
        .hook(Hook::TlsFailedClient)
        .client_tls_fails("NoApplicationProtocol")
        .play();
}

#[test]
fn a_server_that_is_not_trusted_is_explained_inside_tls() {
    Playbook::transparent(ORIGIN)
        .trusting_origin()
        .client_starts_tls(client())
        .connects_tls(ORIGIN, server().untrusted())
        .server_tls_fails("fatal alert")
        .client_sends(GET)
        .client_gets_page(502, "invalid peer certificate")
        .client_sees_end()
        .http_flow(|flow| assert!(flow.meta.error.is_some()))
        .play();
}

#[test]
fn a_server_of_another_name_is_explained_inside_tls() {
    Playbook::transparent(ORIGIN)
        .trusting_origin()
        .client_starts_tls(client())
        .connects_tls(ORIGIN, ServerHandshake::of("other.test"))
        .client_sends(GET)
        .client_gets_page(502, "not valid for name")
        .client_sees_end()
        .play();
}

#[test]
fn an_ignored_connection_passes_untouched() {
    // the server's own certificate reaches the client, who does not know its CA
    Playbook::transparent(ORIGIN)
        .edits(Hook::TlsClienthello, |subject| {
            if let Subject::ClientHello(data) = subject {
                data.ignore_connection = true;
            }
        })
        .client_starts_tls(client())
        .connects_tls(ORIGIN, server())
        .client_tls_fails("invalid peer certificate")
        .no_flow()
        .play();
}

#[test]
fn raw_bytes_in_tls_are_relayed() {
    shaken_raw()
        .client_sends("\x01hello")
        .server_gets("\x01hello")
        .server_sends("\x02world")
        .client_gets("\x02world")
        .client_closes()
        .server_sees_end()
        .server_sends("more")
        .client_gets("more")
        .server_closes()
        .client_sees_end()
        .tcp_flow(|flow| assert!(flow.meta.error.is_none()))
        .play();
}

fn shaken_raw() -> Playbook {
    Playbook::transparent(ORIGIN).trusting_origin().client_starts_tls(client()).connects_tls(ORIGIN, server())
}

#[test]
fn an_end_without_goodbye_is_passed_on_as_one() {
    shaken_raw()
        .client_sends("\x01hello")
        .server_gets("\x01hello")
        .server_cuts()
        .client_sees_cut()
        .tcp_flow(|flow| assert!(flow.meta.error.as_ref().unwrap().msg.contains("close_notify")))
        .play();
    shaken_raw().client_sends("\x01hello").server_gets("\x01hello").client_cuts().server_sees_cut().play();
}

#[test]
fn a_response_that_ends_without_goodbye_is_cut_for_the_client() {
    let part = "HTTP/1.1 200 OK\r\n\r\nuntil the en";
    shaken()
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(part)
        .client_gets(part)
        .server_cuts()
        .client_sees_cut()
        .http_flow(|flow| assert!(flow.meta.error.as_ref().unwrap().msg.contains("close_notify")))
        .play();
    shaken()
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(part)
        .client_gets(part)
        .server_closes()
        .client_sees_end()
        .http_flow(|flow| assert!(flow.meta.error.is_none()))
        .play();
}

#[test]
fn tls_is_spoken_inside_a_tunnel() {
    Playbook::regular()
        .trusting_origin()
        .only_as_written()
        .client_sends("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
        .connects_tls(ORIGIN, server())
        .client_gets("HTTP/1.1 200 Connection established\r\n\r\n")
        .client_starts_tls(client())
        .client_sends(GET)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .http_flow(|flow| assert_eq!(flow.request.url(), "https://example.com/"))
        .play();
}

#[test]
fn a_hello_that_is_none_is_refused_by_an_alert() {
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .client_sends(b"\x16\x03\x01\x00\x04\x63\x00\x00\x00")
        .client_gets(b"\x15\x03\x03\x00\x02\x02\x32")
        .client_sees_end()
        .play();
}

#[test]
fn a_hello_that_does_not_come_to_its_end_is_not_waited_for() {
    Playbook::transparent(ORIGIN)
        .client_sends(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        .passes(20_100)
        .client_sees_end()
        .play();
}

#[test]
fn plain_http_where_tls_was_possible_is_http() {
    Playbook::transparent(ORIGIN)
        .client_sends(GET)
        .connects(ORIGIN)
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_reverse_proxy_ends_tls_before_a_plain_server() {
    let rewritten = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    Playbook::reverse("http://example.com")
        .client_starts_tls(ClientHandshake::to("gateway.test").alpn(&["http/1.1"]))
        .connects("93.184.216.34:80")
        .client_sends("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
        .server_gets(rewritten)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn a_reverse_proxy_reaches_a_tls_server_for_a_plain_client() {
    Playbook::reverse("https://example.com")
        .trusting_origin()
        .client_sends("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
        .connects_tls(ORIGIN, server())
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}

#[test]
fn hooks_of_tls_run_in_order_and_may_be_held() {
    Playbook::transparent(ORIGIN)
        .trusting_origin()
        .holds(&[Hook::TlsClienthello, Hook::TlsEstablishedServer])
        .client_starts_tls(client())
        .hook(Hook::TlsClienthello)
        .passes(1_000)
        .hold_goes_on()
        .connects_tls(ORIGIN, server())
        .hook(Hook::TlsStartServer)
        .hook(Hook::TlsEstablishedServer)
        .passes(1_000)
        .hold_goes_on()
        .hook(Hook::TlsStartClient)
        .hook(Hook::TlsEstablishedClient)
        .client_sends(GET)
        .server_gets(GET)
        .play();
}

#[test]
fn a_client_without_a_name_gets_a_leaf_for_the_address() {
    Playbook::transparent(ORIGIN)
        .client_starts_tls(ClientHandshake::to("93.184.216.34").without_sni())
        .connects_tls(ORIGIN, server())
        .client_tls(|tls| assert!(!tls.is_handshaking()))
        .client_sends(GET)
        .server_gets(GET)
        .play();
}

#[test]
fn every_hook_of_a_handshake_may_be_held() {
    for hook in [Hook::TlsStartServer, Hook::TlsEstablishedServer, Hook::TlsStartClient] {
        Playbook::transparent(ORIGIN)
            .trusting_origin()
            .holds(&[hook])
            .client_starts_tls(client())
            .connects_tls(ORIGIN, server())
            .hook(hook)
            .client_tls(|tls| assert!(tls.is_handshaking()))
            .passes(1_000)
            .hold_goes_on()
            .client_tls(|tls| assert!(!tls.is_handshaking()))
            .play();
    }
    Playbook::transparent(ORIGIN)
        .trusting_origin()
        .holds(&[Hook::TlsEstablishedClient])
        .client_starts_tls(client())
        .connects_tls(ORIGIN, server())
        .hook(Hook::TlsEstablishedClient)
        .client_sends(GET)
        .passes(1_000)
        .hold_goes_on()
        .server_gets(GET)
        .play();
    Playbook::transparent(ORIGIN)
        .trusting_origin()
        .holds(&[Hook::TlsFailedServer])
        .client_starts_tls(client())
        .connects_tls(ORIGIN, server().untrusted())
        .hook(Hook::TlsFailedServer)
        .passes(1_000)
        .hold_goes_on()
        .client_sends(GET)
        .client_gets_page(502, "invalid peer certificate")
        .play();
    Playbook::transparent(ORIGIN)
        .holds(&[Hook::TlsFailedClient])
        .client_starts_tls(client().alpn(&["h2"]))
        .hook(Hook::TlsFailedClient)
        .client_tls_fails("NoApplicationProtocol")
        .passes(1_000)
        .hold_goes_on()
        .client_sees_cut()
        .play();
}

#[test]
fn a_request_sent_with_the_finished_message_is_not_lost() {
    // what the client seals before the handshake is over leaves in one write with its Finished
    Playbook::transparent(ORIGIN)
        .trusting_origin()
        .only_as_written()
        .holds(&[Hook::TlsClienthello])
        .client_starts_tls(client())
        .client_sends(GET)
        .hold_goes_on()
        .connects_tls(ORIGIN, server())
        .server_gets(GET)
        .server_sends(OK)
        .client_gets(OK)
        .play();
}
