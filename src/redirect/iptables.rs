//! The rules as iptables holds them, for gateways whose firewall is built on it: chains of our own and one jump to
//! each, loaded by `iptables-restore --noflush`, once per family.
//!
//! A packet walks `ringtap` (whom to leave alone) -> `ringtap-bypass` (whom to leave alone for now) -> `ringtap-take`.
//! The steps are gotos: a RETURN anywhere leads straight back to the built-in chain, so that nobody else's rules are
//! skipped. `ringtap-bypass` is not made anew by a second apply.
//!
//! Fail-open uses the `recent` match: its table can be written through `/proc`, the age of an entry is compared in the
//! kernel, and so the rule stops matching when nobody writes any more. A watching process that pulls the jump out
//! would be one more thing that can die.

use std::fmt::{self, Write};
use std::path::Path;

use nix::unistd::{Gid, Uid};

use super::error::Error;
use super::settings::{OnFailure, Settings, Via};
use super::tool;
use super::value::{Exemption, Family};

/// Ours by thread, since a network namespace is a thread's.
pub(crate) const RECENT_DIRECTORY: &str = "/proc/thread-self/net/xt_recent";

/// Whole seconds are all that `recent` knows. Asking for two beats within two of them gives one and a half after the
/// last beat, at one beat every 500 ms.
const ALIVE: &str = "--rcheck --seconds 2 --hitcount 2";

/// The names of the `recent` tables, IPv4's and IPv6's: one table has one mask, and so one family.
pub(crate) fn recent_names(table: &str) -> [String; 2] {
    [format!("{table}4"), format!("{table}6")]
}

/// One family's ruleset as a first apply gives it to `iptables-restore --noflush`.
pub(crate) fn script(settings: &Settings, family: Family) -> String {
    let fresh = Present { jump: false, quic_jump: false, bypass: false, quic_bypass: false };
    written(settings, family, &fresh)
}

/// Loads both families. Each family's table changes in one step; the four steps follow each other.
pub(crate) fn load(settings: &Settings, daemon: Option<(Uid, Gid)>) -> Result<(), Error> {
    for family in Family::BOTH {
        let present = Present::look(settings, family)?;
        let text = written(settings, family, &present);
        let loaded = tool::run("load the rules", restore(family), &["--noflush", "--wait", "5"], Some(&text));
        loaded.map_err(|error| explained(error, settings))?;
        remove_where(&settings.table, family, |built_in| !uses(settings, built_in))?;
    }
    if settings.on_failure == OnFailure::Open {
        give_recent_to(&settings.table, daemon)?;
    }
    Ok(())
}

/// Removes our chains and the jumps to them; `false` when there were none.
pub(crate) fn remove(table: &str) -> Result<bool, Error> {
    let mut removed = false;
    for family in Family::BOTH {
        removed |= remove_where(table, family, |_| true)?;
    }
    Ok(removed)
}

/// Whether the jumps of both families are there.
pub(crate) fn loaded(settings: &Settings) -> Result<bool, Error> {
    for family in Family::BOTH {
        let present = Present::look(settings, family)?;
        if !present.jump || (settings.quic_rejected && !present.quic_jump) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn bypass_add(settings: &Settings, exemption: Exemption) -> Result<(), Error> {
    each_bypass_rule(settings, exemption, |tool, table, chain, rule| {
        if present(tool, table, chain, rule)? {
            return Ok(());
        }
        let head = ["--wait", "5", "-t", table, "-I", chain, "1"];
        tool::run("add the exemption", tool, &[head.as_slice(), rule].concat(), None).map(drop)
    })
}

pub(crate) fn bypass_del(settings: &Settings, exemption: Exemption) -> Result<bool, Error> {
    let mut removed = false;
    each_bypass_rule(settings, exemption, |tool, table, chain, rule| {
        if !present(tool, table, chain, rule)? {
            return Ok(());
        }
        removed = true;
        let head = ["--wait", "5", "-t", table, "-D", chain];
        tool::run("remove the exemption", tool, &[head.as_slice(), rule].concat(), None).map(drop)
    })?;
    Ok(removed)
}

pub(crate) fn bypass_list(settings: &Settings) -> Result<Vec<(String, Option<u64>)>, Error> {
    let chain = format!("{}-bypass", settings.table);
    let mut all: Vec<(String, Option<u64>)> = Vec::new();
    for family in Family::BOTH {
        let args = ["--wait", "5", "-t", nat_or_mangle(settings), "-S", &chain];
        let text = tool::run("list the exemptions", tool(family), &args, None)?;
        for line in text.lines() {
            // A network has two rules, as client and as server; one of them is enough to name it.
            let words: Vec<&str> = line.split_whitespace().collect();
            let value =
                |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1));
            let exempt = match value("--mac-source").or(value("-s")) {
                Some(exempt) => exempt,
                // Everything: iptables leaves out what excludes nothing.
                None if words.len() == 4 && words.ends_with(&["-j", "RETURN"]) => everything(family),
                None => continue,
            };
            let Ok(exemption) = exempt.parse::<Exemption>() else { continue };
            let name = exemption.to_string();
            if !all.iter().any(|(listed, _)| *listed == name) {
                all.push((name, None));
            }
        }
    }
    Ok(all)
}

/// What a second apply finds and must not double.
struct Present {
    jump: bool,
    quic_jump: bool,
    bypass: bool,
    quic_bypass: bool,
}

impl Present {
    fn look(settings: &Settings, family: Family) -> Result<Present, Error> {
        let (tool, ours) = (tool(family), &settings.table);
        let (bypass, quic, quic_bypass) =
            (format!("{ours}-bypass"), format!("{ours}-quic"), format!("{ours}-quic-bp"));
        let nat = nat_or_mangle(settings);
        Ok(Present {
            jump: present(tool, nat, "PREROUTING", &jump(&[], ours))?,
            quic_jump: present(tool, "filter", "FORWARD", &jump(&QUIC, &quic))?,
            bypass: chain_exists(tool, nat, &bypass)?,
            quic_bypass: chain_exists(tool, "filter", &quic_bypass)?,
        })
    }
}

fn written(settings: &Settings, family: Family, present: &Present) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_intercept(&mut out, settings, family, present);
    if settings.quic_rejected {
        let _ = write_quic(&mut out, settings, family, present);
    }
    out
}

fn write_intercept(out: &mut String, settings: &Settings, family: Family, present: &Present) -> fmt::Result {
    let ours = &settings.table;
    writeln!(out, "*{}", nat_or_mangle(settings))?;
    writeln!(out, ":{ours} - [0:0]")?;
    writeln!(out, ":{ours}-take - [0:0]")?;
    if !present.bypass {
        writeln!(out, ":{ours}-bypass - [0:0]")?;
        writeln!(out, "-A {ours}-bypass -g {ours}-take")?;
    }
    write_own_sockets(out, settings, ours)?;
    if settings.via == Via::Tproxy {
        writeln!(out, ":{ours}-divert - [0:0]")?;
        writeln!(out, "-A {ours}-divert -j MARK --set-xmark {:#010x}/0xffffffff", settings.fwmark)?;
        writeln!(out, "-A {ours}-divert -j ACCEPT")?;
        writeln!(out, "# a connection that ringtap has goes on to its socket; any other one is left alone")?;
        writeln!(
            out,
            "-A {ours} -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m socket --transparent -g {ours}-divert"
        )?;
        writeln!(out, "-A {ours} -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN")?;
    }
    write_alive(out, settings, family, ours)?;
    // IPv6 knows no broadcast, and its match refuses the word.
    let locals: &[&str] =
        if family == Family::V4 { &["LOCAL", "BROADCAST", "MULTICAST"] } else { &["LOCAL", "MULTICAST"] };
    for local in locals {
        writeln!(out, "-A {ours} -m addrtype --dst-type {local} -j RETURN")?;
    }
    write_exceptions(out, settings, family, ours)?;
    write_segment(out, settings, family, ours, &format!("-g {ours}-bypass"))?;
    for ports in multiports(settings) {
        let target = match settings.via {
            Via::Redirect => format!("REDIRECT --to-ports {}", settings.to_port),
            Via::Tproxy => {
                format!(
                    "TPROXY --on-port {} --tproxy-mark {:#010x}/0xffffffff",
                    settings.to_port, settings.fwmark
                )
            }
        };
        writeln!(out, "-A {ours}-take -p tcp -m multiport --dports {ports} -j {target}")?;
    }
    if !present.jump {
        writeln!(out, "-I PREROUTING 1 -j {ours}")?;
    }
    writeln!(out, "COMMIT")
}

fn write_quic(out: &mut String, settings: &Settings, family: Family, present: &Present) -> fmt::Result {
    let quic = format!("{}-quic", settings.table);
    let bypass = format!("{quic}-bp");
    writeln!(out, "# QUIC cannot be intercepted: refused, clients fall back to TCP at once")?;
    writeln!(out, "*filter")?;
    writeln!(out, ":{quic} - [0:0]")?;
    writeln!(out, ":{quic}-take - [0:0]")?;
    if !present.quic_bypass {
        writeln!(out, ":{bypass} - [0:0]")?;
        writeln!(out, "-A {bypass} -g {quic}-take")?;
    }
    write_own_sockets(out, settings, &quic)?;
    write_alive(out, settings, family, &quic)?;
    write_exceptions(out, settings, family, &quic)?;
    write_segment(out, settings, family, &quic, &format!("-g {bypass}"))?;
    writeln!(out, "-A {quic}-take -p udp -j REJECT")?;
    if !present.quic_jump {
        writeln!(out, "-I FORWARD 1 {} -j {quic}", QUIC.join(" "))?;
    }
    writeln!(out, "COMMIT")
}

fn write_own_sockets(out: &mut String, settings: &Settings, chain: &str) -> fmt::Result {
    writeln!(out, "-A {chain} -m mark --mark {} -j RETURN", settings.mark)
}

fn write_alive(out: &mut String, settings: &Settings, family: Family, chain: &str) -> fmt::Result {
    if settings.on_failure == OnFailure::Closed {
        return Ok(());
    }
    let [v4, v6] = recent_names(&settings.table);
    let (name, mask) = if family == Family::V4 { (v4, "0.0.0.0") } else { (v6, "::") };
    writeln!(out, "# no sign of life: everything passes by")?;
    writeln!(out, "-A {chain} -m recent ! {ALIVE} --name {name} --mask {mask} --rsource -j RETURN")
}

fn write_exceptions(out: &mut String, settings: &Settings, family: Family, chain: &str) -> fmt::Result {
    for cidr in settings.except_networks(family) {
        writeln!(out, "-A {chain} -s {cidr} -j RETURN")?;
        writeln!(out, "-A {chain} -d {cidr} -j RETURN")?;
    }
    for mac in settings.except_clients() {
        writeln!(out, "-A {chain} -m mac --mac-source {mac} -j RETURN")?;
    }
    Ok(())
}

/// One rule per interface and network that leads on; what none of them matches returns at the chain's end.
fn write_segment(
    out: &mut String,
    settings: &Settings,
    family: Family,
    chain: &str,
    on: &str,
) -> fmt::Result {
    let ifaces: Vec<String> = settings.ifaces.iter().map(|name| format!("-i {name} ")).collect();
    let networks: Vec<String> =
        settings.segment_networks(family).iter().map(|cidr| format!("-s {cidr} ")).collect();
    let any = vec![String::new()];
    let networks = if settings.from.is_empty() { &any } else { &networks };
    for iface in if ifaces.is_empty() { &any } else { &ifaces } {
        for network in networks {
            writeln!(out, "-A {chain} {iface}{network}{on}")?;
        }
    }
    Ok(())
}

/// `multiport` takes fifteen numbers, of which a range counts two.
fn multiports(settings: &Settings) -> Vec<String> {
    let mut rules: Vec<(usize, Vec<String>)> = Vec::new();
    for &(first, last) in settings.ports.ranges() {
        let (text, weight) =
            if first == last { (first.to_string(), 1) } else { (format!("{first}:{last}"), 2) };
        match rules.last_mut() {
            Some((used, rule)) if *used + weight <= 15 => {
                *used += weight;
                rule.push(text);
            }
            _ => rules.push((weight, vec![text])),
        }
    }
    rules.into_iter().map(|(_, rule)| rule.join(",")).collect()
}

/// Which built-in chains these settings jump from.
fn uses(settings: &Settings, built_in: (&str, &str)) -> bool {
    match built_in.0 {
        "filter" => settings.quic_rejected,
        table => table == nat_or_mangle(settings),
    }
}

fn remove_where(ours: &str, family: Family, unwanted: impl Fn((&str, &str)) -> bool) -> Result<bool, Error> {
    let tool = tool(family);
    let mut removed = false;
    for (table, built_in, what, suffixes) in PLACES {
        if !unwanted((table, built_in)) {
            continue;
        }
        // Listing a table makes iptables-nft create it: look only where the kernel has it already.
        let entry = format!("{ours}{}", suffixes[0]);
        if !chain_exists(tool, table, &entry)? {
            continue;
        }
        let chains: Vec<String> = suffixes.iter().map(|suffix| format!("{ours}{suffix}")).collect();
        let mut text = format!("*{table}\n");
        let jump = jump(what, &entry);
        if present(tool, table, built_in, &jump)? {
            let _ = writeln!(text, "-D {built_in} {}", jump.join(" "));
        }
        let mut there = Vec::new();
        for chain in &chains {
            if chain_exists(tool, table, chain)? {
                there.push(chain);
            }
        }
        for chain in &there {
            let _ = writeln!(text, "-F {chain}");
        }
        for chain in &there {
            let _ = writeln!(text, "-X {chain}");
        }
        text.push_str("COMMIT\n");
        tool::run("remove the rules", restore(family), &["--noflush", "--wait", "5"], Some(&text))?;
        removed = true;
    }
    Ok(removed)
}

fn each_bypass_rule(
    settings: &Settings,
    exemption: Exemption,
    mut each: impl FnMut(&str, &str, &str, &[&str]) -> Result<(), Error>,
) -> Result<(), Error> {
    let text = exemption.to_string();
    let (families, rules): (&[Family], Vec<Vec<&str>>) = match exemption {
        Exemption::Client(_) => {
            (&Family::BOTH, vec![vec!["-m", "mac", "--mac-source", &text, "-j", "RETURN"]])
        }
        Exemption::Network(cidr) => (
            if cidr.family() == Family::V4 { &[Family::V4] } else { &[Family::V6] },
            vec![vec!["-s", &text, "-j", "RETURN"], vec!["-d", &text, "-j", "RETURN"]],
        ),
    };
    let bypass = format!("{}-bypass", settings.table);
    let quic_bypass = format!("{}-quic-bp", settings.table);
    for &family in families {
        for rule in &rules {
            each(tool(family), nat_or_mangle(settings), &bypass, rule)?;
            if settings.quic_rejected {
                each(tool(family), "filter", &quic_bypass, rule)?;
            }
        }
    }
    Ok(())
}

/// What follows the chain's name in the rule that leads to us.
fn jump<'a>(what: &[&'a str], entry: &'a str) -> Vec<&'a str> {
    [what, &["-j", entry]].concat()
}

fn present(tool: &str, table: &str, chain: &str, rule: &[&str]) -> Result<bool, Error> {
    let head = ["--wait", "5", "-t", table, "-C", chain];
    tool::succeeds("read the rules", tool, &[head.as_slice(), rule].concat())
}

fn chain_exists(tool: &str, table: &str, chain: &str) -> Result<bool, Error> {
    tool::succeeds("read the rules", tool, &["--wait", "5", "-t", table, "-S", chain])
}

/// `/proc` gives the `recent` tables to root; the daemon that writes them is somebody else.
fn give_recent_to(table: &str, daemon: Option<(Uid, Gid)>) -> Result<(), Error> {
    let Some((uid, gid)) = daemon else { return Ok(()) };
    for name in recent_names(table) {
        let path = Path::new(RECENT_DIRECTORY).join(name);
        std::os::unix::fs::chown(&path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(|source| {
            Error::Kernel { action: format!("give {} to the daemon", path.display()), source }
        })?;
    }
    Ok(())
}

fn explained(error: Error, settings: &Settings) -> Error {
    // iptables only says that a rule failed; the match makes its directory as soon as it is loaded.
    match error {
        Error::Tool { .. }
            if settings.on_failure == OnFailure::Open && !Path::new(RECENT_DIRECTORY).exists() =>
        {
            Error::flags(
                "--on-failure open",
                "needs the kernel's `recent` match (xt_recent), which is missing: use --backend nft, or \
                 --on-failure closed",
            )
        }
        other => other,
    }
}

fn nat_or_mangle(settings: &Settings) -> &'static str {
    match settings.via {
        Via::Redirect => "nat",
        Via::Tproxy => "mangle",
    }
}

fn everything(family: Family) -> &'static str {
    if family == Family::V4 { "0.0.0.0/0" } else { "::/0" }
}

fn tool(family: Family) -> &'static str {
    if family == Family::V4 { "iptables" } else { "ip6tables" }
}

fn restore(family: Family) -> &'static str {
    if family == Family::V4 { "iptables-restore" } else { "ip6tables-restore" }
}

/// The packets that walk our chain in forward at all.
const QUIC: [&str; 6] = ["-p", "udp", "-m", "udp", "--dport", "443"];

/// A table of xtables, a built-in chain there, which of its packets come to us, and the endings of our chains' names:
/// the first is where they come in.
type Place = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const PLACES: [Place; 3] = [
    ("nat", "PREROUTING", &[], &["", "-bypass", "-take"]),
    ("mangle", "PREROUTING", &[], &["", "-bypass", "-take", "-divert"]),
    ("filter", "FORWARD", &QUIC, &["-quic", "-quic-bp", "-quic-take"]),
];

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;

    fn rules(flags: &str, family: Family) -> String {
        script(&settings(&format!("--backend iptables {flags}")).unwrap(), family)
    }

    #[test]
    fn fifteen_ports_fit_in_a_rule_and_a_range_counts_two() {
        let settings =
            settings("--iface lan0 --ports 2,4,6,8,10,12,14,16,18,20,22,24,26,28,30-40,80").unwrap();
        assert_eq!(multiports(&settings), ["2,4,6,8,10,12,14,16,18,20,22,24,26,28", "30:40,80"]);
    }

    #[test]
    fn each_family_gets_its_own_networks_only() {
        let flags = "--iface lan0 --from 10.0.0.0/8 --except 10.2.0.0/16 --except fd00:7::/64";
        let (v4, v6) = (rules(flags, Family::V4), rules(flags, Family::V6));
        assert!(v4.contains("-A ringtap -i lan0 -s 10.0.0.0/8 -g ringtap-bypass"), "{v4}");
        assert!(v4.contains("-d 10.2.0.0/16 -j RETURN") && !v4.contains("fd00"), "{v4}");
        assert!(!v6.contains("-g ringtap-bypass"), "nothing of IPv6 was asked for: {v6}");
    }

    #[test]
    fn every_interface_is_taken_with_every_network() {
        let text = rules("--iface lan0 --iface lan1 --from 10.0.0.0/8 --from 192.168.0.0/16", Family::V4);
        assert_eq!(text.matches("-g ringtap-bypass\n").count(), 4);
    }

    #[test]
    fn a_second_apply_neither_doubles_the_jump_nor_empties_the_bypass() {
        let all = Present { jump: true, quic_jump: true, bypass: true, quic_bypass: true };
        let text = written(&settings("--backend iptables --iface lan0").unwrap(), Family::V4, &all);
        assert!(
            !text.contains("-I ") && !text.contains(":ringtap-bypass") && !text.contains(":ringtap-quic-bp"),
            "{text}"
        );
    }

    #[test]
    fn names_of_chains_fit_into_xtables() {
        let text = rules("--iface lan0 --via tproxy --table ringtap_90123456", Family::V4);
        for name in text.lines().filter_map(|line| line.strip_prefix(':')) {
            assert!(name.split_whitespace().next().unwrap().len() <= 28, "{name}");
        }
    }
}
