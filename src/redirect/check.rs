//! `check`: is what was applied still so, and does the rest of the host let it work?

use std::fmt::Write;
use std::fs;

use nix::net::if_::if_nametoindex;

use super::error::Error;
use super::settings::{Backend, OnFailure, Settings, Via};
use super::{iptables, routing, sysctl, tool};

/// The findings, one line each, and how many of them are wrong.
pub(crate) struct Report {
    pub(crate) text: String,
    pub(crate) wrong: usize,
}

impl Report {
    fn ok(&mut self, what: &str) {
        let _ = writeln!(self.text, "ok     {what}");
    }

    /// May be as meant; worth knowing.
    fn note(&mut self, what: &str, mend: &str) {
        let _ = writeln!(self.text, "note   {what}: {mend}");
    }

    fn wrong(&mut self, what: &str, mend: &str) {
        let _ = writeln!(self.text, "wrong  {what}: {mend}");
        self.wrong += 1;
    }
}

/// Looks at everything, whatever it finds on the way.
pub(crate) fn check(settings: &Settings) -> Result<Report, Error> {
    let mut report = Report { text: String::new(), wrong: 0 };
    check_interfaces(&mut report, settings);
    check_rules(&mut report, settings)?;
    if settings.via == Via::Tproxy {
        check_routes(&mut report, settings)?;
    }
    let listens = check_listener(&mut report, settings);
    if listens && settings.on_failure == OnFailure::Open {
        check_alive(&mut report, settings)?;
    }
    check_sysctls(&mut report, settings);
    check_other_firewalls(&mut report, settings);
    Ok(report)
}

fn check_interfaces(report: &mut Report, settings: &Settings) {
    for iface in &settings.ifaces {
        match if_nametoindex(iface.as_str()) {
            Ok(_) => report.ok(&format!("interface {iface} is there")),
            Err(_) => report.wrong(
                &format!("interface {iface} is not there"),
                "bring it up, or apply again with the right --iface (`ip -br link` lists them)",
            ),
        }
    }
}

fn check_rules(report: &mut Report, settings: &Settings) -> Result<(), Error> {
    let table = &settings.table;
    let loaded = match settings.backend {
        Backend::Nft => {
            let target = match settings.via {
                Via::Redirect => format!("redirect to :{}", settings.to_port),
                Via::Tproxy => format!("tproxy to :{}", settings.to_port),
            };
            match tool::run("read the rules", "nft", &["list", "chain", "inet", table, "intercept"], None) {
                Ok(text) => text.contains(&target),
                Err(Error::Tool { .. }) => false,
                Err(error) => return Err(error),
            }
        }
        Backend::Iptables => iptables::loaded(settings)?,
    };
    match loaded {
        true => report.ok(&format!("the rules of {table} are loaded")),
        false => report.wrong(&format!("the rules of {table} are gone"), &format!("run `{settings}`")),
    }
    Ok(())
}

fn check_routes(report: &mut Report, settings: &Settings) -> Result<(), Error> {
    let missing = routing::missing(settings.fwmark, settings.route_table)?;
    match missing.as_slice() {
        [] => report.ok("marked packets are routed to this host"),
        missing => report.wrong(
            &format!("marked packets are not routed to this host ({})", missing.join(", ")),
            &format!("run `{settings}`"),
        ),
    }
    Ok(())
}

/// Whether somebody listens at all; what is missing is in the report.
fn check_listener(report: &mut Report, settings: &Settings) -> bool {
    let port = settings.to_port;
    let listeners = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        text.lines().filter_map(|line| listening(line, port)).collect()
    };
    let (v4, v6) = (listeners("tcp"), listeners("tcp6"));
    let reached = |addresses: &[String]| addresses.iter().any(|address| !is_loopback(address));
    // A socket on `::` takes IPv4 too, unless it says not to; /proc does not tell.
    let v4_too = v6.iter().any(|address| address.bytes().all(|digit| digit == b'0'));
    match (reached(&v4) || v4_too, reached(&v6)) {
        (true, true) => report.ok(&format!("port {port} is listened to, IPv4 and IPv6")),
        (false, false) if v4.is_empty() && v6.is_empty() => report.wrong(
            &format!("nobody listens on port {port}"),
            &format!("start the daemon: `systemctl start ringtap`, or `ringtap dump --mode transparent --listen-port {port}`"),
        ),
        (false, false) => report.wrong(
            &format!("port {port} is listened to on the loopback only"),
            "start the daemon without --listen-host, so that redirected connections reach it",
        ),
        (true, false) => report.wrong(
            &format!("port {port} is listened to for IPv4 only"),
            "start the daemon without --listen-host, so that it listens on [::] too",
        ),
        (false, true) => report.wrong(
            &format!("port {port} is listened to for IPv6 only"),
            "start the daemon without --listen-host, so that it listens on 0.0.0.0 too",
        ),
    }
    !(v4.is_empty() && v6.is_empty())
}

/// The local address of a line of `/proc/net/tcp` that is a listening socket on `port`.
fn listening(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let mut words = line.split_whitespace().skip(1);
    let (address, at) = words.next()?.split_once(':')?;
    let state = words.nth(1)?;
    (state == LISTEN && u16::from_str_radix(at, 16) == Ok(port)).then(|| address.to_owned())
}

fn is_loopback(address: &str) -> bool {
    // Written as words of the machine's byte order: on most, 127.0.0.1 ends in 7F.
    let little = cfg!(target_endian = "little");
    match (address.len(), little) {
        (8, true) => address.ends_with("7F"),
        (8, false) => address.starts_with("7F"),
        (_, true) => address == "00000000000000000000000001000000",
        (_, false) => address == "00000000000000000000000000000001",
    }
}

/// Whether the daemon has told the rules that it lives.
pub(crate) fn is_alive(settings: &Settings) -> Result<bool, Error> {
    let table = &settings.table;
    match settings.backend {
        Backend::Nft => {
            match tool::run("read the rules", "nft", &["list", "set", "inet", table, "alive"], None) {
                Ok(text) => Ok(text.contains("elements")),
                Err(Error::Tool { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        }
        // Its age is in the kernel's own ticks; that it was ever written is what can be read from here.
        Backend::Iptables => Ok(iptables::recent_names(table).iter().all(|name| {
            fs::read_to_string(format!("{}/{name}", iptables::RECENT_DIRECTORY))
                .is_ok_and(|text| !text.is_empty())
        })),
    }
}

/// Whether anybody listens on a port of this host, this network namespace.
pub(crate) fn is_listened(port: u16) -> bool {
    ["tcp", "tcp6"].iter().any(|file| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        text.lines().any(|line| listening(line, port).is_some())
    })
}

fn check_alive(report: &mut Report, settings: &Settings) -> Result<(), Error> {
    match is_alive(settings)? {
        true => report.ok("the daemon gives signs of life"),
        false => report.wrong(
            "the daemon gives no sign of life, so everything passes by it",
            "see its log (`journalctl -u ringtap`): it must read the note of `apply` and hold CAP_NET_ADMIN",
        ),
    }
    Ok(())
}

fn check_sysctls(report: &mut Report, settings: &Settings) {
    for wanted in sysctl::wanted(settings) {
        let Some(value) = wanted.current() else { continue };
        let line = format!("{}={value}", wanted.key);
        let mend = format!("`sysctl -w {}={}`, or apply with --sysctl", wanted.key, wanted.value);
        if sysctl::sound(&wanted) {
            report.ok(&line);
        } else if wanted.essential {
            report.wrong(&format!("{line}, so {}", wanted.why), &mend);
        } else {
            report.note(&format!("{line} or strict for all interfaces; {}", wanted.why), &mend);
        }
    }
}

/// An accept in our table is no accept in anybody else's: say whose policy may still stand in the way.
fn check_other_firewalls(report: &mut Report, settings: &Settings) {
    // Not ours to fail for: a host without nft has no nft tables of others either.
    let Ok(text) = tool::run("read the rules", "nft", &["-j", "list", "chains"], None) else { return };
    let listed: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let objects = listed["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    for chain in objects.iter().map(|object| &object["chain"]) {
        let text = |key: &str| chain[key].as_str().unwrap_or_default();
        if text("policy") != "drop" || text("table") == settings.table {
            continue;
        }
        let whose = format!(
            "{} {} drops by default what its chain {} does not allow",
            text("family"),
            text("table"),
            text("name")
        );
        match text("hook") {
            "input" => {
                let ports = match settings.via {
                    Via::Redirect => settings.to_port.to_string(),
                    Via::Tproxy => settings.ports.to_string(),
                };
                report.note(
                    &whose,
                    &format!("intercepted connections come in there, allow TCP port {ports} of the segment"),
                );
            }
            "forward" => report
                .note(&whose, "what passes by ringtap goes through there, allow what the segment may reach"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_listening_sockets_of_one_port() {
        let line =
            "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1";
        assert_eq!(listening(line, 8080).as_deref(), Some("00000000"));
        assert_eq!(listening(line, 8081), None);
        assert_eq!(listening(&line.replace(" 0A ", " 01 "), 8080), None);
        assert_eq!(listening("  sl  local_address rem_address   st", 8080), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn tells_the_loopback_from_the_rest() {
        assert!(is_loopback("0100007F"));
        assert!(is_loopback("00000000000000000000000001000000"));
        for address in ["00000000", "7F00000A", "00000000000000000000000000000000"] {
            assert!(!is_loopback(address), "{address}");
        }
    }
}
