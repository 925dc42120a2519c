//! Who may reach what: strangers do not find an open proxy, and nobody finds the gateway's own services.

use std::time::Duration;

use crate::lab::daemon::TRANSPARENT;
use crate::lab::{Lab, Place, text};

#[test]
fn a_global_address_is_served_through_redirect_but_not_at_the_listener() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    for via in ["redirect", "tproxy"] {
        lab.redirect(via);
        for url in ["http://example.test/1k", "https://example.test/1k"] {
            for from in [GLOBAL_CLIENT, "2001:db8:78:1::2"] {
                lab.client().curl(["-6", "--interface", from, url]).expect_status(200);
            }
        }
        lab.ringtap(&["redirect", "remove"]).succeeded();
    }
    // a direct hit has no destination but ourselves, whoever asks
    lab.redirect("redirect");
    for (from, to) in [
        (GLOBAL_CLIENT, "[2d00:db8:78:1::1]"),
        ("fd00:78:1::2", "[fd00:78:1::1]"),
        ("10.78.1.2", "10.78.1.1"),
    ] {
        let listener = format!("http://{to}:8080");
        for as_proxy in [false, true] {
            let client = lab.client().within(Duration::from_secs(5));
            let reply = if as_proxy {
                client.curl(["--interface", from, "-x", &listener, "http://example.test/1k"])
            } else {
                client.curl(["--interface", from, &format!("{listener}/1k")])
            };
            let refused = reply.exit != 0 || (400..600).contains(&reply.status);
            assert!(refused, "{from} was served at {listener}: {}", reply.heads);
            assert_ne!(reply.exit, 28, "{from} at {listener}: refused means answered, not left hanging");
        }
    }
    daemon.must_be_alive();
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
}

#[test]
fn explicit_mode_never_reaches_the_gateway_itself() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&["--mode", "regular@8081", "-q"]);
    // services that listen to the gateway alone
    let script = text(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/origin.py"));
    let argv = ["python3", &script, "--loopback", "127.0.0.1:7001", "[::1]:7001", "10.78.2.1:7001"];
    let _secret = lab.spawn(Place::Gateway, &argv);
    crate::lab::eventually("the gateway's own service answers there", Duration::from_secs(10), || {
        let argv = ["curl", "-qsf", "http://127.0.0.1:7001/pattern", "-o", "/dev/null"];
        lab.run(Place::Gateway, &argv, Duration::from_secs(5)).status.success().then_some(())
    });
    for host in [
        "127.0.0.1:7001",
        "127.8.9.10:7001",
        "localhost:7001",
        "[::1]:7001",
        "[::ffff:127.0.0.1]:7001",
        "0.0.0.0:7001",
        "[::]:7001",
        "10.78.2.1:7001",
        "10.78.1.1:8081",
        "[fd00:78:1::1]:8081",
    ] {
        let url = format!("http://{host}/pattern");
        let client = lab.client().within(Duration::from_secs(5));
        let reply = client.curl(["--noproxy", "", "-x", "http://10.78.1.1:8081", &url]).expect_status(403);
        assert!(!reply.body.is_empty(), "{host}: a refusal says why");
        let tunnel = client.curl(["--noproxy", "", "-x", "http://10.78.1.1:8081", "--proxytunnel", &url]);
        assert!(tunnel.heads.contains(" 403 "), "CONNECT {host}: {} {}", tunnel.heads, tunnel.error);
    }
    daemon.must_be_alive();
    lab.client().curl(["-x", "http://10.78.1.1:8081", "http://example.test/1k"]).expect_status(200);
}

#[test]
fn explicit_mode_is_no_open_proxy_for_strangers() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&["--mode", "regular@8081", "-q"]);
    let proxy = "http://[2d00:db8:78:1::1]:8081";
    let client = lab.client().within(Duration::from_secs(5));
    let ask = |from| client.curl(["--interface", from, "-x", proxy, "http://example.test/1k"]);
    ask("fd00:78:1::2").expect_status(200);
    let reply = ask(GLOBAL_CLIENT);
    assert!(reply.exit != 0 || reply.status == 403, "served a stranger: {}", reply.heads);
}

const GLOBAL_CLIENT: &str = "2d00:db8:78:1::2";
