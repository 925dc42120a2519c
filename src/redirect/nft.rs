//! The rules as nftables holds them: one table of our own, loaded and replaced in one transaction.
//!
//! The chains are made anew by every apply. The sets are not: exemptions made while running, and the daemon's sign of
//! life, survive a second apply with the time they had left.

use std::fmt::{self, Display, Write};

use super::error::Error;
use super::settings::{OnFailure, Settings, Via};
use super::tool;
use super::value::{Exemption, Family};

/// How long one beat of the daemon's heart counts. Beats come every 500 ms: two may be late before traffic passes by.
pub(crate) const ALIVE_MS: u64 = 1500;

/// The ruleset, exactly as [`load`] gives it to `nft -f -`.
pub(crate) fn script(settings: &Settings) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_script(&mut out, settings);
    out
}

/// Puts the ruleset in place, in one transaction: either all of it or nothing.
pub(crate) fn load(settings: &Settings) -> Result<(), Error> {
    tool::run("load the rules", "nft", &["-f", "-"], Some(&script(settings))).map(drop)
}

/// Deletes our table; `false` when there was none.
pub(crate) fn remove(table: &str) -> Result<bool, Error> {
    if !exists(table)? {
        return Ok(false);
    }
    tool::run("remove the rules", "nft", &["delete", "table", "inet", table], None).map(|_| true)
}

pub(crate) fn exists(table: &str) -> Result<bool, Error> {
    tool::succeeds("read the rules", "nft", &["list", "table", "inet", table])
}

/// Exempts from now on, with all of the new lifetime even if it was exempt already.
pub(crate) fn bypass_add(table: &str, exemption: Exemption, lifetime_s: Option<u64>) -> Result<(), Error> {
    let set = bypass_set(exemption);
    let timeout = lifetime_s.map(|seconds| format!(" timeout {seconds}s")).unwrap_or_default();
    let known = is_bypassed(table, exemption)?;
    // An element that is there keeps its timeout when it is added again: it has to go first.
    let delete =
        if known { format!("delete element inet {table} {set} {{ {exemption} }}\n") } else { String::new() };
    let script = format!("{delete}add element inet {table} {set} {{ {exemption}{timeout} }}\n");
    match tool::run("add the exemption", "nft", &["-f", "-"], Some(&script)) {
        Err(Error::Tool { said, .. }) if said.contains("overlaps") || said.contains("exist") => {
            Err(Error::value(
                "bypass add",
                &exemption.to_string(),
                "overlaps an exemption that is there; `ringtap redirect bypass list` shows it, `bypass del` takes it away",
            ))
        }
        done => done.map(drop),
    }
}

/// Ends an exemption; `false` when there was none.
pub(crate) fn bypass_del(table: &str, exemption: Exemption) -> Result<bool, Error> {
    if !is_bypassed(table, exemption)? {
        return Ok(false);
    }
    let set = bypass_set(exemption);
    let script = format!("delete element inet {table} {set} {{ {exemption} }}\n");
    tool::run("remove the exemption", "nft", &["-f", "-"], Some(&script)).map(|_| true)
}

/// What is exempt by `bypass add`, each with the seconds it has left.
pub(crate) fn bypass_list(table: &str) -> Result<Vec<(String, Option<u64>)>, Error> {
    let mut all = Vec::new();
    for set in ["bypass4", "bypass6", "bypass_mac"] {
        let text = tool::run("list the exemptions", "nft", &["-j", "list", "set", "inet", table, set], None)?;
        let listed: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let objects = listed["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let elements = objects.iter().filter_map(|object| object["set"]["elem"].as_array()).flatten();
        all.extend(elements.map(element));
    }
    Ok(all)
}

/// One element of `nft -j list set`: an address, a prefix or a range, bare or wrapped with its times.
fn element(json: &serde_json::Value) -> (String, Option<u64>) {
    if let Some(wrapped) = json.get("elem") {
        return (element(&wrapped["val"]).0, wrapped["expires"].as_u64());
    }
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(prefix) = json.get("prefix") {
        return (format!("{}/{}", text(&prefix["addr"]), prefix["len"]), None);
    }
    if let Some(range) = json.get("range") {
        return (format!("{}-{}", text(&range[0]), text(&range[1])), None);
    }
    (text(json), None)
}

fn is_bypassed(table: &str, exemption: Exemption) -> Result<bool, Error> {
    let wanted = exemption.to_string();
    Ok(bypass_list(table)?.iter().any(|(listed, _)| *listed == wanted))
}

fn bypass_set(exemption: Exemption) -> &'static str {
    match exemption {
        Exemption::Client(_) => "bypass_mac",
        Exemption::Network(cidr) => match cidr.family() {
            Family::V4 => "bypass4",
            Family::V6 => "bypass6",
        },
    }
}

fn write_script(out: &mut String, settings: &Settings) -> fmt::Result {
    let table = &settings.table;
    write!(out, "{}", SETS.replace("TABLE", table))?;
    for chain in CHAINS {
        writeln!(out, "add chain inet {table} {chain}")?;
    }
    for chain in CHAINS {
        writeln!(out, "flush chain inet {table} {chain}")?;
    }
    for chain in CHAINS {
        writeln!(out, "delete chain inet {table} {chain}")?;
    }
    for set in ["except4", "except6", "except_mac"] {
        writeln!(out, "flush set inet {table} {set}")?;
    }
    write_elements(out, table, "except4", &settings.except_networks(Family::V4))?;
    write_elements(out, table, "except6", &settings.except_networks(Family::V6))?;
    write_elements(out, table, "except_mac", &settings.except_clients())?;
    writeln!(out, "\ntable inet {table} {{")?;
    match settings.via {
        Via::Redirect => write_redirect(out, settings)?,
        Via::Tproxy => write_tproxy(out, settings)?,
    }
    if settings.quic_rejected {
        write_quic(out, settings)?;
    }
    if settings.own_traffic {
        write_own_traffic(out, settings)?;
    }
    writeln!(out, "}}")
}

fn write_redirect(out: &mut String, settings: &Settings) -> fmt::Result {
    // Five before the usual place: a published port of a container engine is `fib daddr type local`, which we leave
    // alone, and any other DNAT of the segment's traffic must not hide the connection from us.
    writeln!(out, "\tchain intercept {{")?;
    writeln!(out, "\t\ttype nat hook prerouting priority dstnat - 5; policy accept;")?;
    write_own_sockets(out, settings)?;
    write_alive(out, settings)?;
    write_segment(out, settings)?;
    write_local(out)?;
    write_exemptions(out)?;
    writeln!(out, "\t\ttcp dport {} redirect to :{}", ports(settings), settings.to_port)?;
    writeln!(out, "\t}}")
}

fn write_tproxy(out: &mut String, settings: &Settings) -> fmt::Result {
    let mark = format!("{:#010x}", settings.fwmark);
    writeln!(out, "\tchain intercept {{")?;
    writeln!(out, "\t\ttype filter hook prerouting priority mangle; policy accept;")?;
    write_own_sockets(out, settings)?;
    writeln!(out, "\t\tmeta l4proto != tcp return")?;
    // By port, the listening socket itself is kept out of the match: `socket wildcard 0` would do the same, but breaks on
    // the half-open sockets that a handshake's last packet has to find.
    let established = format!("tcp dport != {} tcp flags & (fin | syn | rst | ack) != syn", settings.to_port);
    writeln!(
        out,
        "\t\t# a connection that ringtap has goes on to its socket, alive or not; no other one is taken"
    )?;
    writeln!(
        out,
        "\t\t# midway, so that what began while traffic passed by is not torn when ringtap returns"
    )?;
    writeln!(out, "\t\t{established} socket transparent 1 meta mark set {mark} accept")?;
    writeln!(out, "\t\ttcp flags & (fin | syn | rst | ack) != syn return")?;
    write_alive(out, settings)?;
    write_segment(out, settings)?;
    write_local(out)?;
    write_exemptions(out)?;
    let ports = ports(settings);
    // The mark comes after tproxy, which ends the rule when nobody listens: a marked packet would be routed to us and
    // refused instead of passing by.
    writeln!(out, "\t\ttcp dport {ports} tproxy to :{} meta mark set {mark} accept", settings.to_port)?;
    if settings.on_failure == OnFailure::Closed {
        writeln!(out, "\t\t# nobody listens")?;
        writeln!(out, "\t\ttcp dport {ports} reject with tcp reset")?;
    }
    writeln!(out, "\t}}")
}

/// In forward, not prerouting: what is for this host itself is none of our business.
fn write_quic(out: &mut String, settings: &Settings) -> fmt::Result {
    writeln!(out, "\n\t# QUIC cannot be intercepted: refused, clients fall back to TCP at once")?;
    writeln!(out, "\tchain quic {{")?;
    writeln!(out, "\t\ttype filter hook forward priority filter - 5; policy accept;")?;
    writeln!(out, "\t\tudp dport != 443 return")?;
    write_own_sockets(out, settings)?;
    write_alive(out, settings)?;
    write_segment(out, settings)?;
    write_exemptions(out)?;
    writeln!(out, "\t\tmeta l4proto udp reject")?;
    writeln!(out, "\t}}")
}

fn write_own_traffic(out: &mut String, settings: &Settings) -> fmt::Result {
    writeln!(out, "\n\t# what this gateway itself sends")?;
    writeln!(out, "\tchain own {{")?;
    writeln!(out, "\t\ttype nat hook output priority -105; policy accept;")?;
    write_own_sockets(out, settings)?;
    write_alive(out, settings)?;
    write_local(out)?;
    // No hardware address to look at on the way out.
    for line in EXEMPT.iter().filter(|line| !line.starts_with("ether")) {
        writeln!(out, "\t\t{line}")?;
    }
    writeln!(out, "\t\ttcp dport {} redirect to :{}", ports(settings), settings.to_port)?;
    writeln!(out, "\t}}")
}

fn write_own_sockets(out: &mut String, settings: &Settings) -> fmt::Result {
    let mark = settings.mark;
    writeln!(out, "\t\t# ringtap's own connections to servers")?;
    writeln!(out, "\t\tmeta mark & {:#010x} == {:#010x} return", mark.mask, mark.value)
}

fn write_alive(out: &mut String, settings: &Settings) -> fmt::Result {
    if settings.on_failure == OnFailure::Closed {
        return Ok(());
    }
    writeln!(out, "\t\t# no sign of life: everything passes by")?;
    writeln!(out, "\t\tmeta l4proto != @alive return")
}

fn write_segment(out: &mut String, settings: &Settings) -> fmt::Result {
    match settings.ifaces.as_slice() {
        [] => {}
        [one] => writeln!(out, "\t\tiifname != \"{one}\" return")?,
        several => {
            let names: Vec<String> = several.iter().map(|name| format!("\"{name}\"")).collect();
            writeln!(out, "\t\tiifname != {{ {} }} return", names.join(", "))?;
        }
    }
    if settings.from.is_empty() {
        // With --own-traffic alone there is no segment at all.
        if settings.ifaces.is_empty() {
            writeln!(out, "\t\treturn")?;
        }
        return Ok(());
    }
    for (family, name) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        let networks = settings.segment_networks(family);
        if networks.is_empty() {
            let nfproto = if family == Family::V4 { "ipv4" } else { "ipv6" };
            writeln!(out, "\t\tmeta nfproto {nfproto} return")?;
        } else {
            writeln!(out, "\t\t{name} saddr != {{ {} }} return", list(&networks))?;
        }
    }
    Ok(())
}

fn write_local(out: &mut String) -> fmt::Result {
    writeln!(out, "\t\tfib daddr type {{ local, broadcast, multicast }} return")
}

fn write_exemptions(out: &mut String) -> fmt::Result {
    for line in EXEMPT {
        writeln!(out, "\t\t{line}")?;
    }
    Ok(())
}

fn write_elements<T: Display>(out: &mut String, table: &str, set: &str, elements: &[T]) -> fmt::Result {
    if elements.is_empty() {
        return Ok(());
    }
    writeln!(out, "add element inet {table} {set} {{ {} }}", list(elements))
}

fn ports(settings: &Settings) -> String {
    let range = |&(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    format!("{{ {} }}", list(&settings.ports.ranges().iter().map(range).collect::<Vec<_>>()))
}

fn list<T: Display>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Their types never change, so that naming them again finds them as they are, with what they hold.
const SETS: &str = "\
table inet TABLE {
	# filled by the daemon's heartbeat, every half second
	set alive { type inet_proto; flags timeout; }
	# --except
	set except4 { type ipv4_addr; flags interval; }
	set except6 { type ipv6_addr; flags interval; }
	set except_mac { type ether_addr; }
	# ringtap redirect bypass
	set bypass4 { type ipv4_addr; flags interval, timeout; }
	set bypass6 { type ipv6_addr; flags interval, timeout; }
	set bypass_mac { type ether_addr; flags timeout; }
}

# made anew below; the sets above keep what they hold
";

/// Every chain that any combination of flags makes.
const CHAINS: [&str; 3] = ["intercept", "quic", "own"];

/// A network is exempt as client and as server.
const EXEMPT: [&str; 10] = [
    "ip saddr @except4 return",
    "ip daddr @except4 return",
    "ip6 saddr @except6 return",
    "ip6 daddr @except6 return",
    "ether saddr @except_mac return",
    "ip saddr @bypass4 return",
    "ip daddr @bypass4 return",
    "ip6 saddr @bypass6 return",
    "ip6 daddr @bypass6 return",
    "ether saddr @bypass_mac return",
];

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;

    fn rules(flags: &str) -> String {
        script(&settings(flags).unwrap())
    }

    #[test]
    fn nothing_of_anybody_elses_is_named() {
        for line in rules("--iface lan0 --via tproxy --table ringtap2").lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let Some(at) = words.iter().position(|word| *word == "inet") {
                assert_eq!(words[at + 1], "ringtap2", "{line}");
            }
        }
    }

    #[test]
    fn open_asks_for_a_sign_of_life_and_closed_does_not() {
        let asks = "meta l4proto != @alive return";
        assert_eq!(rules("--iface lan0").matches(asks).count(), 2);
        assert_eq!(rules("--iface lan0 --quic allow").matches(asks).count(), 1);
        assert!(!rules("--iface lan0 --on-failure closed").contains(asks));
    }

    #[test]
    fn a_family_without_a_network_of_its_own_is_left_alone() {
        assert!(rules("--from 10.0.0.0/8").contains("meta nfproto ipv6 return"));
        assert!(rules("--from fd00::/8").contains("meta nfproto ipv4 return"));
        assert!(!rules("--iface lan0").contains("nfproto"));
    }

    #[test]
    fn the_mark_is_set_only_once_a_socket_was_found() {
        let text = rules("--iface lan0 --tproxy");
        assert!(text.contains("tproxy to :8080 meta mark set 0x52530001 accept"), "{text}");
    }

    #[test]
    fn own_traffic_alone_takes_nothing_from_outside() {
        let text = rules("--own-traffic");
        let intercept = text.split("chain intercept {").nth(1).unwrap();
        let end = intercept.find("redirect to").unwrap();
        assert!(intercept[..end].lines().any(|line| line.trim() == "return"), "{text}");
    }

    #[test]
    fn reads_every_shape_of_element() {
        for (json, name, left_s) in [
            (r#""10.0.0.7""#, "10.0.0.7", None),
            (r#"{"prefix":{"addr":"fd00::","len":64}}"#, "fd00::/64", None),
            (
                r#"{"elem":{"val":{"prefix":{"addr":"10.0.0.0","len":8}},"timeout":60,"expires":59}}"#,
                "10.0.0.0/8",
                Some(59),
            ),
            (r#"{"range":["10.0.0.1","10.0.0.3"]}"#, "10.0.0.1-10.0.0.3", None),
        ] {
            assert_eq!(element(&serde_json::from_str(json).unwrap()), (name.to_owned(), left_s));
        }
    }
}
