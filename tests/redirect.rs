//! `ringtap redirect` against the kernel: real namespaces, real rules, real connections, both families, both backends.
//!
//! Needs root, nft, iptables and ip. Everything happens inside namespaces called `rtr-...` that go away with the test.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "redirect/lab.rs"]
mod lab;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use lab::{
    CLIENT_MAC, CLIENT4, CLIENT6, GATEWAY4, GATEWAY6, Lab, ORIGIN4, ORIGIN6, connection, echoes, now, signal,
};
use nix::sys::signal::Signal;
use ringtap::redirect::heartbeat::Heartbeat;

const WAYS: [&str; 4] = [
    "--backend nft --via redirect",
    "--backend nft --via tproxy",
    "--backend iptables --via redirect",
    "--backend iptables --via tproxy",
];

/// The promise of `--on-failure open`.
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// More than one beat: a daemon that dies right after its first one is passed by a little later with iptables.
const STEADY: Duration = Duration::from_millis(700);

fn transparent(way: &str) -> bool {
    way.ends_with("tproxy")
}

/// Also what `Lab::start_daemon` runs as a process of its own, to be killed and stopped: there it never ends.
#[test]
fn a_heart_beats_only_where_apply_has_left_its_note() {
    let Ok(transparent) = std::env::var("RTR_TRANSPARENT") else {
        let nowhere = std::env::temp_dir().join(format!("rtr-no-note-{}", std::process::id()));
        assert!(!Heartbeat::in_directory(8080, nowhere).beat().unwrap(), "there is no note to be heard");
        return;
    };
    let transparent = transparent == "1";
    let mut heart = Heartbeat::new(8080);
    for listener in lab::listeners(8080, transparent) {
        thread::spawn(move || lab::accept(&listener, &AtomicBool::new(false), "ringtap", transparent));
    }
    assert!(heart.beat().unwrap(), "no note of apply");
    println!("beating");
    loop {
        thread::sleep(Duration::from_millis(500));
        // A daemon goes on when a test takes its rules away.
        let _ = heart.beat();
    }
}

fn is_refused(result: &io::Result<impl std::fmt::Debug>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn takes_the_segments_connections_of_both_families_and_nothing_else() {
    for way in WAYS {
        let mut lab = Lab::new();
        lab.redirects(&format!("apply --iface lan0 {way}"));
        lab.start_daemon(transparent(way));
        for port in [80, 443] {
            assert_eq!(lab.client_gets(ORIGIN4, port).unwrap(), format!("ringtap {ORIGIN4}:{port}"), "{way}");
            assert_eq!(
                lab.client_gets(ORIGIN6, port).unwrap(),
                format!("ringtap [{ORIGIN6}]:{port}"),
                "{way}"
            );
        }
        // Other ports, one of them the very number ringtap listens on.
        for port in [9000, 8080] {
            assert_eq!(lab.client_gets(ORIGIN4, port).unwrap(), format!("origin {ORIGIN4}:{port}"), "{way}");
            assert_eq!(
                lab.client_gets(ORIGIN6, port).unwrap(),
                format!("origin [{ORIGIN6}]:{port}"),
                "{way}"
            );
        }
        // The gateway's own addresses: nobody listens there on port 80, on either side.
        for address in [GATEWAY4, GATEWAY6, "203.0.113.1", "fd00:2::1"] {
            let answer = lab.client_gets(address, 80);
            assert!(is_refused(&answer), "{way}: {address} gave {answer:?}");
        }
        // Not from the segment: the gateway itself, and what comes in from outside.
        assert_eq!(lab.gets_from("g", ORIGIN4, 80).unwrap(), format!("origin {ORIGIN4}:80"), "{way}");
        let answer = lab.gets_from("o", CLIENT4, 80);
        assert!(is_refused(&answer), "{way}: {answer:?}");
    }
}

#[test]
fn quic_is_refused_to_the_segment_only_and_only_when_asked() {
    for way in
        ["--backend nft --via redirect", "--backend nft --via tproxy", "--backend iptables --via redirect"]
    {
        let mut lab = Lab::new();
        lab.redirects(&format!("apply --iface lan0 {way}"));
        lab.quic_from("c", ORIGIN4).expect("without a sign of life QUIC passes by");
        lab.start_daemon(transparent(way));
        for address in [ORIGIN4, ORIGIN6] {
            let answer = lab.quic_from("c", address);
            assert!(is_refused(&answer), "{way}: {address} gave {answer:?}");
            lab.quic_from("g", address).unwrap();
        }
        lab.redirects(&format!("apply --iface lan0 {way} --quic allow"));
        for address in [ORIGIN4, ORIGIN6] {
            lab.quic_from("c", address).unwrap();
        }
    }
}

#[test]
fn a_killed_daemon_is_passed_by_within_two_seconds_and_taken_back_when_it_returns() {
    for way in WAYS {
        let mut lab = Lab::alone();
        lab.redirects(&format!("apply --iface lan0 {way}"));
        lab.until_answered_by("origin", Duration::from_millis(500));
        let daemon = lab.start_daemon(transparent(way));
        lab.until_answered_by("ringtap", Duration::from_millis(500));
        thread::sleep(STEADY);
        signal(daemon, Signal::SIGKILL);
        let took = lab.until_answered_by("origin", OPEN_WITHIN + Duration::from_millis(300));
        println!("{way}: killed, passed by after {took:?}");
        lab.start_daemon(transparent(way));
        lab.until_answered_by("ringtap", Duration::from_millis(500));
    }
}

#[test]
fn a_daemon_that_hangs_is_passed_by_and_taken_back_when_it_goes_on() {
    for way in WAYS {
        let mut lab = Lab::alone();
        lab.redirects(&format!("apply --iface lan0 {way}"));
        let daemon = lab.start_daemon(transparent(way));
        thread::sleep(STEADY);
        signal(daemon, Signal::SIGSTOP);
        let start = now();
        // Meanwhile connections are accepted by the kernel and never answered.
        thread::sleep(OPEN_WITHIN.saturating_sub(start.elapsed()));
        lab.until_answered_by("origin", Duration::from_millis(300));
        signal(daemon, Signal::SIGCONT);
        lab.until_answered_by("ringtap", Duration::from_millis(1500));
    }
}

#[test]
fn an_orderly_stop_is_passed_by_at_once() {
    for way in WAYS {
        let lab = Lab::alone();
        lab.redirects(&format!("apply --iface lan0 {way}"));
        lab.serve("g", 8080, "ringtap", transparent(way));
        let runtime = lab.runtime.clone();
        let heart = lab.within("g", move || {
            let mut heart = Heartbeat::in_directory(8080, runtime);
            assert!(heart.beat().unwrap());
            heart
        });
        assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("ringtap"), "{way}");
        lab.within("g", move || {
            let mut heart = heart;
            heart.stop();
        });
        assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("origin"), "{way}");
        assert!(lab.client_gets(ORIGIN6, 80).unwrap().starts_with("origin"), "{way}");
    }
}

#[test]
fn with_nft_and_tproxy_a_port_nobody_listens_on_is_passed_by_at_once() {
    let lab = Lab::alone();
    lab.redirects("apply --iface lan0 --tproxy");
    let runtime = lab.runtime.clone();
    lab.within("g", move || assert!(Heartbeat::in_directory(8080, runtime).beat().unwrap()));
    // Alive for a second and a half yet, and no socket to give the connection to.
    lab.until_answered_by("origin", Duration::from_millis(300));
}

#[test]
fn beats_hold_the_redirect_without_a_gap() {
    for way in ["--backend nft", "--backend iptables"] {
        let mut lab = Lab::alone();
        lab.redirects(&format!("apply --iface lan0 {way}"));
        lab.start_daemon(false);
        let start = now();
        while start.elapsed() < Duration::from_secs(4) {
            assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("ringtap"), "{way}");
        }
    }
}

#[test]
fn applying_again_leaves_no_gap() {
    for way in ["--via redirect", "--via tproxy"] {
        let mut lab = Lab::alone();
        lab.redirects(&format!("apply --iface lan0 {way}"));
        lab.start_daemon(transparent(way));
        let to: SocketAddr = format!("{ORIGIN4}:80").parse().unwrap();
        let (_, mut held) = lab.within("c", move || connection(to)).unwrap();
        let client = lab.spawn("c", move || (0..300).map(|_| connection(to).unwrap().0).collect::<Vec<_>>());
        let mut applied = 0;
        while !client.is_finished() {
            lab.redirects(&format!("apply --iface lan0 {way} --ports 80,{}", 100 + applied));
            applied += 1;
        }
        let answers = client.join().unwrap();
        assert!(applied > 1 && answers.iter().all(|line| line.starts_with("ringtap")), "{way}: {answers:?}");
        echoes(&mut held, "held through it").unwrap();
    }
}

#[test]
fn closed_refuses_while_nobody_listens() {
    for way in
        ["--backend nft --via redirect", "--backend nft --via tproxy", "--backend iptables --via redirect"]
    {
        let mut lab = Lab::new();
        let said = lab.redirects(&format!("apply --iface lan0 --on-failure closed {way}"));
        assert!(said.contains("on failure: closed"), "{said}");
        for address in [ORIGIN4, ORIGIN6] {
            let answer = lab.client_gets(address, 80);
            assert!(is_refused(&answer), "{way}: {address} gave {answer:?}");
            assert!(lab.client_gets(address, 9000).unwrap().starts_with("origin"), "{way}");
        }
        lab.start_daemon(transparent(way));
        lab.until_answered_by("ringtap", Duration::from_secs(1));
    }
}

#[test]
fn closed_with_iptables_and_tproxy_lets_nothing_pass_either() {
    let lab = Lab::new();
    let said = lab.redirects("apply --iface lan0 --on-failure closed --backend iptables --via tproxy");
    assert!(said.contains("time out"), "{said}");
    for address in [ORIGIN4, ORIGIN6] {
        let answer = lab.client_gets(address, 80);
        assert!(answer.is_err(), "{address} gave {answer:?}");
    }
}

#[test]
fn a_connection_made_while_traffic_passed_by_goes_on_when_the_daemon_returns() {
    for way in WAYS {
        let mut lab = Lab::new();
        lab.redirects(&format!("apply --iface lan0 {way}"));
        let to: SocketAddr = format!("{ORIGIN4}:80").parse().unwrap();
        let (line, mut stream) = lab.within("c", move || connection(to)).unwrap();
        assert!(line.starts_with("origin"), "{way}: {line}");
        let daemon = lab.start_daemon(transparent(way));
        assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("ringtap"), "{way}");
        echoes(&mut stream, "still here").unwrap();

        // And the other way round: what ringtap has stays its own while new connections pass by.
        let (line, mut taken) = lab.within("c", move || connection(to)).unwrap();
        assert!(line.starts_with("ringtap"), "{way}: {line}");
        lab.gateway("nft delete element inet ringtap alive '{ tcp, udp }' 2>/dev/null; true");
        echoes(&mut taken, "mine still").unwrap();
        signal(daemon, Signal::SIGKILL);
    }
}

#[test]
fn exemptions_named_at_apply_pass_by() {
    for backend in ["nft", "iptables"] {
        for (exempt, families) in [
            ("203.0.113.0/24", [true, false]),
            ("fd00:2::/64", [false, true]),
            (CLIENT4, [true, false]),
            (CLIENT6, [false, true]),
            (CLIENT_MAC, [true, true]),
            ("198.51.100.0/24", [false, false]),
        ] {
            let mut lab = Lab::new();
            lab.redirects(&format!("apply --iface lan0 --backend {backend} --except {exempt}"));
            lab.start_daemon(false);
            for (address, exempted) in [ORIGIN4, ORIGIN6].into_iter().zip(families) {
                let tag = if exempted { "origin" } else { "ringtap" };
                let line = lab.client_gets(address, 80).unwrap();
                assert!(line.starts_with(tag), "{backend}: --except {exempt}: {address} gave {line}");
                assert_eq!(
                    lab.quic_from("c", address).is_ok(),
                    exempted,
                    "{backend}: --except {exempt}: {address}"
                );
            }
        }
    }
}

#[test]
fn bypasses_come_and_go_while_running() {
    for backend in ["nft", "iptables"] {
        let mut lab = Lab::new();
        lab.redirects(&format!("apply --iface lan0 --backend {backend}"));
        lab.start_daemon(false);
        for (exempt, address) in [
            ("203.0.113.0/24", ORIGIN4),
            ("0.0.0.0/0", ORIGIN4),
            (ORIGIN6, ORIGIN6),
            ("fd00:9::/64", ORIGIN6),
            (CLIENT_MAC, ORIGIN6),
        ] {
            assert!(
                lab.client_gets(address, 80).unwrap().starts_with("ringtap"),
                "{backend}: before {exempt}"
            );
            lab.redirects(&format!("bypass add {exempt}"));
            lab.redirects(&format!("bypass add {exempt}"));
            assert!(lab.client_gets(address, 80).unwrap().starts_with("origin"), "{backend}: {exempt}");
            assert_eq!(lab.redirects("bypass list").trim(), exempt, "{backend}");
            // A second apply leaves it.
            lab.redirects(&format!("apply --iface lan0 --backend {backend}"));
            assert!(
                lab.client_gets(address, 80).unwrap().starts_with("origin"),
                "{backend}: {exempt}, applied again"
            );
            lab.redirects(&format!("bypass del {exempt}"));
            assert_eq!(lab.redirects("bypass list"), "", "{backend}");
        }
        let again = lab.redirect("bypass del 203.0.113.0/24");
        assert!(!again.ok && again.err.contains("is not exempt"), "{again:?}");
    }
}

#[test]
fn a_bypass_with_a_lifetime_ends_by_itself_and_can_be_prolonged() {
    let mut lab = Lab::alone();
    lab.redirects("apply --iface lan0");
    lab.start_daemon(false);
    lab.redirects(&format!("bypass add {CLIENT4} --ttl 2s"));
    lab.redirects("bypass add fd00:9::/64 --ttl 2s");
    lab.redirects("bypass add fd00:9::/64 --ttl 1h");
    assert!(lab.redirects("bypass list").contains("fd00:9::/64 35"), "prolonged to an hour");
    assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("origin"));
    thread::sleep(Duration::from_millis(2300));
    assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("ringtap"));
    assert!(lab.client_gets(ORIGIN6, 80).unwrap().starts_with("origin"));
    let overlap = lab.redirect("bypass add fd00:9::7");
    assert!(!overlap.ok && overlap.err.contains("overlaps"), "{overlap:?}");
}

#[test]
fn only_the_named_networks_are_taken() {
    for backend in ["nft", "iptables"] {
        for (from, tags) in [
            ("--from 10.9.0.0/24 --from fd00:9::/64", ["ringtap", "ringtap"]),
            ("--from 10.9.0.0/24", ["ringtap", "origin"]),
            ("--from fd00:9::/64 --iface lan0", ["origin", "ringtap"]),
            ("--from 10.8.0.0/24 --from fd00:8::/64 --iface lan0", ["origin", "origin"]),
            ("--from 10.9.0.0/24 --iface wan0", ["origin", "origin"]),
            ("--iface wan0 --iface lan0 --from 0.0.0.0/0 --from ::/0", ["ringtap", "ringtap"]),
        ] {
            let mut lab = Lab::new();
            lab.redirects(&format!("apply --backend {backend} {from}"));
            lab.start_daemon(false);
            for (address, tag) in [ORIGIN4, ORIGIN6].into_iter().zip(tags) {
                let line = lab.client_gets(address, 443).unwrap();
                assert!(line.starts_with(tag), "{backend} {from}: {address} gave {line}");
            }
        }
    }
}

#[test]
fn many_ports_and_ranges_are_taken() {
    for backend in ["nft", "iptables"] {
        let mut lab = Lab::new();
        let ports = "1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33,8990-9010,80";
        lab.redirects(&format!("apply --iface lan0 --backend {backend} --ports {ports}"));
        lab.start_daemon(false);
        for port in [33, 80, 8990, 9000, 9010] {
            assert_eq!(
                lab.client_gets(ORIGIN4, port).unwrap(),
                format!("ringtap {ORIGIN4}:{port}"),
                "{backend}"
            );
        }
        assert!(lab.client_gets(ORIGIN4, 443).unwrap().starts_with("origin"), "{backend}");
    }
}

/// A connection of the gateway itself, marked or not, and who answers.
fn own_connection(lab: &Lab, to: &str, mark: Option<u32>) -> String {
    let to: SocketAddr = to.parse().unwrap();
    lab.within("g", move || {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).unwrap();
        if let Some(mark) = mark {
            socket.set_mark(mark).unwrap();
        }
        socket.connect_timeout(&to.into(), Duration::from_secs(2)).unwrap();
        let mut line = String::new();
        let mut reader = io::BufReader::new(std::net::TcpStream::from(socket));
        io::BufRead::read_line(&mut reader, &mut line).unwrap();
        line
    })
}

#[test]
fn ringtaps_own_connections_are_known_by_their_mark() {
    let mut lab = Lab::new();
    lab.redirects("apply --iface lan0 --own-traffic");
    lab.start_daemon(false);
    for to in [format!("{ORIGIN4}:80"), format!("[{ORIGIN6}]:443")] {
        assert_eq!(own_connection(&lab, &to, None), format!("ringtap {to}\n"));
        assert_eq!(own_connection(&lab, &to, Some(0x5254_0007)), format!("origin {to}\n"));
        assert_eq!(own_connection(&lab, &to, Some(0x5255_0007)), format!("ringtap {to}\n"));
    }
}

#[test]
fn marked_packets_are_left_alone_on_the_way_in() {
    for way in WAYS {
        let mut lab = Lab::new();
        lab.gateway(
            "nft add table inet marks; nft add chain inet marks pre '{ type filter hook prerouting priority raw; }'; \
             nft add rule inet marks pre tcp dport 443 meta mark set 0x52540001",
        );
        lab.redirects(&format!("apply --iface lan0 {way}"));
        lab.start_daemon(transparent(way));
        for address in [ORIGIN4, ORIGIN6] {
            assert!(lab.client_gets(address, 80).unwrap().starts_with("ringtap"), "{way}");
            assert!(lab.client_gets(address, 443).unwrap().starts_with("origin"), "{way}");
        }
    }
}

#[test]
fn applying_twice_changes_nothing_and_remove_leaves_nothing() {
    for way in WAYS {
        let lab = Lab::new();
        // iptables makes its tables and built-in chains when first asked, and keeps them: they are not ours.
        lab.gateway("for t in nat mangle filter; do for i in iptables ip6tables; do $i -t $t -A INPUT; $i -t $t -F INPUT; done; done");
        lab.gateway("for t in nat mangle filter; do for i in iptables ip6tables; do \
            c=PREROUTING; [ $t = filter ] && c=FORWARD; $i -t $t -A $c -j ACCEPT; $i -t $t -D $c -j ACCEPT; done; done");
        let before = lab.whole_state();
        let flags = "--iface lan0 --except 192.0.2.0/24 --except fd00:7::/64 --except 02:00:00:00:00:07";
        lab.redirects(&format!("apply {flags} {way}"));
        let once = lab.whole_state();
        assert_ne!(once, before);
        lab.redirects(&format!("apply {flags} {way}"));
        assert_eq!(lab.whole_state(), once, "{way}: applied twice");
        assert!(lab.runtime.join("redirect-8080.json").exists());
        let said = lab.redirects("remove");
        assert!(said.starts_with("removed"), "{said}");
        assert_eq!(lab.whole_state(), before, "{way}: removed");
        assert_eq!(std::fs::read_dir(&lab.runtime).unwrap().count(), 0, "{way}: the note is gone");
        assert!(lab.redirects("remove").starts_with("nothing to remove"));
    }
}

#[test]
fn remove_finds_everything_without_the_note() {
    for way in WAYS {
        let lab = Lab::new();
        lab.redirects(&format!("apply --iface lan0 {way}"));
        std::fs::remove_file(lab.runtime.join("redirect-8080.json")).unwrap();
        assert!(lab.redirects("remove").starts_with("removed"), "{way}");
        let left = lab.whole_state();
        assert!(!left.contains("ringtap") && !left.contains("21075"), "{way}: {left}");
    }
}

#[test]
fn changing_the_way_leaves_nothing_of_the_old_one() {
    let mut lab = Lab::new();
    for way in WAYS.iter().chain(WAYS.iter().rev()) {
        lab.redirects(&format!("apply --iface lan0 {way}"));
        let state = lab.whole_state();
        assert_eq!(state.contains("table inet ringtap"), way.contains("nft"), "{way}: {state}");
        assert_eq!(state.contains("-j ringtap"), way.contains("iptables"), "{way}: {state}");
        assert_eq!(state.contains("21075"), transparent(way), "{way}: {state}");
        assert_eq!(state.contains("TPROXY"), way.contains("iptables") && transparent(way), "{way}: {state}");
    }
    lab.start_daemon(false);
    assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("ringtap"));
}

/// Tables of the shape that container engines make, through iptables.
const CONTAINERS: &str = "
    iptables -t nat -N DOCKER; iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
    iptables -t nat -A DOCKER ! -i docker0 -p tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80
    iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
    iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN; iptables -A FORWARD -j DOCKER-USER
    iptables -P FORWARD DROP; ip6tables -P FORWARD DROP
    iptables -t mangle -A PREROUTING -m conntrack --ctstate NEW -j CONNMARK --set-mark 7
    ip6tables -t nat -A PREROUTING -p tcp --dport 8081 -j ACCEPT";

/// A table of the shape that firewalld makes: dispatching chains, and forward that ends in a refusal.
const FIREWALLD: &str = "nft -f - <<EOF
table inet firewalld {
    chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept; jump mangle_zones; }
    chain mangle_zones { return; }
    chain nat_PREROUTING { type nat hook prerouting priority dstnat + 10; policy accept; jump nat_zones; }
    chain nat_zones { tcp dport 8443 redirect to :443; return; }
    chain filter_FORWARD { type filter hook forward priority filter + 10; policy drop;
        ct state established,related accept; ip daddr 203.0.113.0/24 tcp dport 9000 accept; reject with icmpx admin-prohibited; }
}
EOF";

#[test]
fn other_firewalls_stay_as_they_are_and_do_not_stand_in_the_way() {
    for firewall in [CONTAINERS, FIREWALLD] {
        for way in WAYS {
            let mut lab = Lab::new();
            lab.gateway(&format!("for i in iptables ip6tables; do for t in nat mangle; do $i -t $t -A PREROUTING -j ACCEPT; $i -t $t -D PREROUTING -j ACCEPT; done; $i -A FORWARD -j ACCEPT; $i -D FORWARD -j ACCEPT; done; {firewall}"));
            let before = lab.whole_state();
            lab.redirects(&format!("apply --iface lan0 {way}"));
            let daemon = lab.start_daemon(transparent(way));
            for (address, port) in [(ORIGIN4, 80), (ORIGIN6, 443)] {
                let line = lab.client_gets(address, port).unwrap();
                assert!(line.starts_with("ringtap"), "{way}: {line}\n{firewall}");
            }
            // What is refused to pass is refused as before: we take nothing that is not ours.
            assert!(lab.client_gets(ORIGIN6, 9000).is_err(), "{way}");
            let report = lab.redirect("check");
            assert!(report.out.contains("drops by default"), "{report:?}");
            signal(daemon, Signal::SIGKILL);
            lab.redirects("remove");
            assert_eq!(lab.whole_state(), before, "{way}\n{firewall}");
        }
    }
}

#[test]
fn a_table_of_the_same_shape_by_another_name_is_not_touched() {
    let lab = Lab::new();
    lab.gateway("nft add table ip ringtap; nft add chain ip ringtap intercept; nft add table inet ringtap2");
    let before = lab.whole_state();
    lab.redirects("apply --iface lan0");
    lab.redirects("remove");
    assert_eq!(lab.whole_state(), before);
}

#[test]
fn two_instances_live_beside_each_other() {
    let mut lab = Lab::new();
    lab.redirects("apply --iface lan0 --tproxy --ports 80");
    let same = lab.redirect("apply --iface lan0 --tproxy --ports 443 --to-port 8081");
    assert!(!same.ok && same.err.contains("--table ringtap2"), "{same:?}");
    lab.redirects(
        "apply --iface lan0 --tproxy --ports 443 --to-port 8081 --table ringtap2 --on-failure closed",
    );
    lab.start_daemon(true);
    lab.serve("g", 8081, "second", true);
    assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("ringtap"));
    assert!(lab.client_gets(ORIGIN6, 443).unwrap().starts_with("second"));
    // The routes are shared: the first to go leaves them to the other.
    lab.redirects("remove");
    assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("origin"));
    assert!(lab.client_gets(ORIGIN6, 443).unwrap().starts_with("second"));
    lab.redirects("remove --to-port 8081");
    assert!(!lab.whole_state().contains("21075"));
}

#[test]
fn a_daemon_of_another_account_needs_no_more_than_net_admin() {
    for backend in ["nft", "iptables"] {
        let mut lab = Lab::new();
        lab.redirects(&format!("apply --iface lan0 --backend {backend} --daemon-user nobody"));
        // The test's own program may lie where only root can read: let it be run from there.
        let wrapper = [
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "--inh-caps=-all,+net_admin",
            "--ambient-caps=-all,+net_admin",
            "--bounding-set=-all,+net_admin",
        ];
        lab.start_daemon_as(&wrapper, false);
        assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("ringtap"), "{backend}");
        assert!(lab.client_gets(ORIGIN6, 80).unwrap().starts_with("ringtap"), "{backend}");
    }
}

#[test]
fn the_note_is_the_daemons_alone() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let lab = Lab::new();
    lab.redirects("apply --iface lan0 --daemon-user nobody");
    let note = std::fs::metadata(lab.runtime.join("redirect-8080.json")).unwrap();
    assert_eq!(note.permissions().mode() & 0o777, 0o600);
    assert_ne!(note.uid(), 0);
    assert_eq!(std::fs::metadata(&lab.runtime).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn without_a_note_the_heart_does_nothing() {
    let lab = Lab::new();
    let runtime = lab.runtime.clone();
    lab.within("g", move || {
        let mut heart = Heartbeat::in_directory(8080, runtime);
        assert!(!heart.beat().unwrap());
        heart.stop();
    });
}

#[test]
fn the_heart_follows_apply_and_remove_and_says_when_the_rules_are_gone() {
    for backend in ["nft", "iptables"] {
        let lab = Lab::new();
        let runtime = lab.runtime.clone();
        let (asked, ask) = std::sync::mpsc::channel::<()>();
        let (answer, answered) = std::sync::mpsc::channel();
        let beating = lab.spawn("g", move || {
            let mut heart = Heartbeat::in_directory(8080, runtime);
            while ask.recv().is_ok() {
                answer.send(heart.beat().map_err(|error| error.to_string())).unwrap();
            }
        });
        let beat = || {
            asked.send(()).unwrap();
            answered.recv().unwrap()
        };
        assert_eq!(beat(), Ok(false));
        lab.redirects(&format!("apply --iface lan0 --backend {backend}"));
        assert_eq!(beat(), Ok(true));
        lab.redirects(&format!("apply --iface lan0 --backend {backend} --on-failure closed"));
        assert_eq!(beat(), Ok(true));
        lab.redirects(&format!("apply --iface lan0 --backend {backend}"));
        lab.gateway("nft flush ruleset");
        let gone = beat().unwrap_err();
        assert!(gone.contains("apply` again"), "{gone}");
        lab.redirects("remove");
        assert_eq!(beat(), Ok(false));
        drop(asked);
        beating.join().unwrap();
    }
}

#[test]
fn a_beat_is_quick() {
    for (backend, limit) in [("nft", Duration::from_millis(10)), ("iptables", Duration::from_millis(10))] {
        let lab = Lab::alone();
        lab.redirects(&format!("apply --iface lan0 --backend {backend}"));
        let runtime = lab.runtime.clone();
        let mut all = lab.within("g", move || {
            let mut heart = Heartbeat::in_directory(8080, runtime);
            let timed = |_| {
                let start = now();
                heart.beat().unwrap();
                start.elapsed()
            };
            (0..101).map(timed).collect::<Vec<_>>()
        });
        all.sort();
        println!("{backend}: a beat takes {:?} in the middle, {:?} at most", all[50], all[100]);
        assert!(all[50] < limit, "{backend}: {all:?}");
    }
}

#[test]
fn check_names_what_is_wrong_and_its_mend() {
    for way in WAYS {
        let mut lab = Lab::new();
        let nothing = lab.redirect("check");
        assert!(!nothing.ok && nothing.err.contains("ringtap redirect apply"), "{nothing:?}");
        lab.redirects(&format!("apply --iface lan0 {way}"));
        let idle = lab.redirect("check");
        assert!(!idle.ok && idle.out.contains("wrong  nobody listens on port 8080"), "{way}: {idle:?}");
        assert_eq!(idle.out.matches("wrong").count(), 1, "{way}: {idle:?}");
        lab.start_daemon(transparent(way));
        let sound = lab.redirect("check");
        assert!(sound.ok && !sound.out.contains("wrong"), "{way}: {sound:?}");
        lab.gateway("sysctl -qw net.ipv4.ip_forward=0");
        let report = lab.redirect("check");
        assert!(!report.ok && report.out.contains("sysctl -w net.ipv4.ip_forward=1"), "{way}: {report:?}");
        lab.redirects(&format!("apply --iface lan0 {way} --sysctl"));
        assert!(lab.redirect("check").ok, "{way}: apply --sysctl sets what check wants");
        if transparent(way) {
            lab.gateway("ip -6 rule del priority 5253");
            let report = lab.redirect("check");
            assert!(!report.ok && report.out.contains("(IPv6)"), "{way}: {report:?}");
            lab.redirects(&format!("apply --iface lan0 {way}"));
        }
        lab.gateway("ip link set lan0 name lan9");
        assert!(lab.redirect("check").out.contains("wrong  interface lan0"), "{way}");
        lab.gateway("ip link set lan9 name lan0");
        lab.gateway("nft flush ruleset");
        let report = lab.redirect("check");
        assert!(
            !report.ok && report.out.contains("are gone: run `ringtap redirect apply"),
            "{way}: {report:?}"
        );
    }
}

#[test]
fn wrong_input_gets_one_line_that_names_the_flag() {
    let lab = Lab::new();
    let before = lab.whole_state();
    for (args, names) in [
        ("apply", "--iface"),
        ("apply --iface nope0", "--iface nope0"),
        ("apply --iface lan+", "--iface lan+"),
        ("apply --iface lan0 --from 10.0.0.0/33", "--from 10.0.0.0/33"),
        ("apply --iface lan0 --from 10.0.0.1/24", "did you mean 10.0.0.0/24"),
        ("apply --iface lan0 --except 02:00:00:00:00", "--except 02:00:00:00:00"),
        ("apply --iface lan0 --ports 0", "--ports 0"),
        ("apply --iface lan0 --ports 443-80", "--ports 443-80"),
        ("apply --iface lan0 --ports 8000-9000", "--to-port"),
        ("apply --iface lan0 --to-port 0", "--to-port 0"),
        ("apply --iface lan0 --to-port 65536", "--to-port 65536"),
        ("apply --iface lan0 --mark 0", "--mark 0"),
        ("apply --iface lan0 --fwmark 0x52540000", "--fwmark"),
        ("apply --iface lan0 --route-table 254", "--route-table 254"),
        ("apply --iface lan0 --table filter", "--table filter"),
        ("apply --iface lan0 --table ringtap;flush", "--table ringtap;flush"),
        ("apply --iface lan0 --via redirect --tproxy", "--tproxy"),
        ("apply --iface lan0 --own-traffic --tproxy", "--own-traffic"),
        ("apply --iface lan0 --daemon-user nobody-like-this", "--daemon-user nobody-like-this"),
        ("print --iface lan0 --family v4", "--family"),
        ("bypass list", "ringtap redirect apply --to-port 8080"),
    ] {
        let ran = lab.redirect(args);
        assert!(!ran.ok && ran.out.is_empty(), "{args}: {ran:?}");
        assert_eq!(ran.err.trim_end().lines().count(), 1, "{args}: {}", ran.err);
        assert!(ran.err.contains(names), "{args}: {}", ran.err);
    }
    assert_eq!(lab.whole_state(), before);
    assert!(!lab.runtime.exists(), "nothing was applied");
    lab.redirects("apply --iface lan0 --backend iptables");
    for (args, names) in [
        ("bypass add 10.9.0.2 --ttl 10m", "--ttl 10m"),
        ("bypass add 10.9.0.2 --ttl 10", "--ttl 10"),
        ("bypass add nobody", "bypass add nobody"),
        ("bypass del nobody", "bypass del nobody"),
    ] {
        let ran = lab.redirect(args);
        assert!(
            !ran.ok && ran.err.contains(names) && ran.err.trim_end().lines().count() == 1,
            "{args}: {ran:?}"
        );
    }
}

#[test]
fn without_the_right_to_it_or_the_tools_the_message_says_so() {
    let lab = Lab::new();
    let exe = env!("CARGO_BIN_EXE_ringtap");
    let refused = lab.gateway(&format!(
        "setpriv --bounding-set=-net_admin --inh-caps=-net_admin {exe} redirect apply --iface lan0 2>&1; true"
    ));
    assert!(refused.contains("CAP_NET_ADMIN") && refused.lines().count() == 1, "{refused}");
    // In a mount namespace of its own, where the tool cannot be found.
    for (tool, flags, mend) in [
        ("nft", "", "install the package `nftables`"),
        ("ip", "--tproxy", "install the package `iproute2`"),
        ("iptables-restore", "--backend iptables", "install the package `iptables`"),
    ] {
        let missing = lab.gateway(&format!(
            "mkdir -p {0} && unshare -m sh -c '
                mkdir -p {0}/tools && for t in nft ip iptables-restore ip6tables-restore; do
                    [ $t = {tool} ] || cp $(readlink -f $(command -v $t)) {0}/tools/$t; done
                cp {exe} {0}/ringtap
                mount -t tmpfs none /usr/sbin && mount -t tmpfs none /usr/local/sbin
                [ -L /sbin ] || mount -t tmpfs none /sbin
                PATH={0}/tools {0}/ringtap redirect apply --iface lan0 {flags} 2>&1; true'; rm -rf {0}",
            lab.runtime.display()
        ));
        assert!(missing.contains(&format!("`{tool}` is not installed")), "{missing}");
        assert!(missing.contains(mend) && missing.lines().count() == 1, "{missing}");
    }
}

#[test]
fn a_load_that_fails_leaves_nothing() {
    let lab = Lab::new();
    // A set of ours with another type, as an older ringtap might have left it.
    lab.gateway("nft add table inet ringtap; nft add set inet ringtap alive '{ type ipv4_addr; }'");
    let before = lab.whole_state();
    let failed = lab.redirect("apply --iface lan0 --tproxy");
    assert!(!failed.ok && failed.err.contains("cannot load the rules"), "{failed:?}");
    assert_eq!(failed.err.trim_end().lines().count(), 1, "{failed:?}");
    assert_eq!(lab.whole_state(), before);
    lab.redirects("remove");
    lab.redirects("apply --iface lan0 --tproxy");
}

#[test]
fn a_garbled_note_is_named_and_apply_mends_it() {
    let lab = Lab::new();
    lab.redirects("apply --iface lan0");
    let note = lab.runtime.join("redirect-8080.json");
    let good = std::fs::read_to_string(&note).unwrap();
    for garbled in [
        "",
        "{}",
        "null",
        &good.replace("\"lan0\"", "\"lan0\\\" ; flush\""),
        &good.replace("\"ringtap\"", "\"filter\""),
    ] {
        std::fs::write(&note, garbled).unwrap();
        let report = lab.redirect("check");
        assert!(!report.ok && report.err.contains("redirect-8080.json"), "{garbled}: {report:?}");
    }
    lab.redirects("apply --iface lan0");
    assert_eq!(std::fs::read_to_string(&note).unwrap(), good);
}

#[test]
fn what_is_printed_can_be_loaded_by_hand() {
    let lab = Lab::new();
    lab.serve("g", 8080, "ringtap", false);
    let rules = lab.redirects("print --iface lan0 --on-failure closed");
    std::fs::create_dir_all(&lab.runtime).unwrap();
    let file = lab.runtime.join("rules");
    std::fs::write(&file, rules).unwrap();
    lab.gateway(&format!("nft -f {}", file.display()));
    assert!(lab.client_gets(ORIGIN4, 80).unwrap().starts_with("ringtap"));
    lab.gateway("nft flush ruleset");
    for (family, command, address) in
        [("v4", "iptables-restore", ORIGIN4), ("v6", "ip6tables-restore", ORIGIN6)]
    {
        let rules = lab.redirects(&format!(
            "print --iface lan0 --backend iptables --on-failure closed --family {family}"
        ));
        std::fs::write(&file, rules).unwrap();
        lab.gateway(&format!("{command} --noflush {}", file.display()));
        assert!(lab.client_gets(address, 80).unwrap().starts_with("ringtap"));
    }
}

/// The files under `deploy/` are what the command prints, to the byte. RINGTAP_BLESS=1 writes them anew.
#[test]
fn the_deployed_rules_are_what_print_prints() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    for (file, flags) in [
        ("nftables/redirect.nft", "--iface lan0"),
        ("nftables/tproxy.nft", "--iface lan0 --via tproxy"),
        ("iptables/redirect.v4.rules", "--iface lan0 --backend iptables --family v4"),
        ("iptables/redirect.v6.rules", "--iface lan0 --backend iptables --family v6"),
        ("iptables/tproxy.v4.rules", "--iface lan0 --backend iptables --via tproxy --family v4"),
        ("iptables/tproxy.v6.rules", "--iface lan0 --backend iptables --via tproxy --family v6"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringtap"))
            .args(["redirect", "print"])
            .args(flags.split_whitespace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let path = deploy.join(file);
        if std::env::var_os("RINGTAP_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &output.stdout).unwrap();
        }
        let deployed = std::fs::read_to_string(&path).unwrap_or_default();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            deployed, printed,
            "{file}: write it anew with RINGTAP_BLESS=1 cargo test --test redirect deployed"
        );
    }
}

fn deployed(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)).unwrap()
}

#[test]
fn the_boot_units_defaults_are_flags_that_apply_knows() {
    let lab = Lab::new();
    let text = deployed("default-ringtap");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches('"').to_owned()
    };
    let (flags, port) = (value("RINGTAP_REDIRECT="), value("RINGTAP_PORT="));
    lab.redirects(&format!("apply --to-port {port} {flags}"));
    lab.redirects(&format!("remove --to-port {port}"));
    assert!(deployed("ringtap.service").contains(&format!("--listen-port {port} ")));
    // The examples of the comment, too.
    for example in text.lines().filter_map(|line| line.strip_prefix("#   --")) {
        let flags: String = example.split("  ").next().unwrap().to_owned();
        lab.redirects(&format!("apply --to-port {port} --{flags}"));
    }
}

#[test]
fn the_deployed_sysctls_are_what_check_wants() {
    let lab = Lab::new();
    lab.gateway(
        "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv4.conf.lan0.rp_filter=1",
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sysctl.conf");
    lab.redirects("apply --iface lan0 --on-failure closed");
    lab.serve("g", 8080, "ringtap", false);
    let before = lab.redirect("check");
    assert!(!before.ok && before.out.contains("note   net.ipv4.conf.lan0.rp_filter=1"), "{before:?}");
    lab.gateway(&format!("sysctl -q -p {}", file.display()));
    let report = lab.redirect("check");
    assert!(report.ok && !report.out.contains("note"), "{report:?}");
}

/// What a hardened unit must not take away; each of these was taken away by a common template once.
#[test]
fn the_unit_leaves_the_daemon_what_it_needs() {
    let unit = deployed("ringtap.service");
    for needed in [
        "Type=notify",
        "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE",
        "SystemCallFilter=@system-service @aio @resources",
        "LimitMEMLOCK=infinity",
        "LimitCORE=0",
        "RuntimeDirectoryPreserve=yes",
        "AF_NETLINK",
    ] {
        assert!(unit.contains(needed), "{needed}");
    }
    for harmful in ["SystemCallFilter=~", "ProcSubset=pid\n", "PrivateUsers=yes", "PrivateNetwork=yes"] {
        assert!(!unit.contains(harmful), "{harmful}");
    }
}
