//! What the operator wants bent, checked: as flags said it, or back from the note `apply` left.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::value::{self, Cidr, Exemption, Family, Mark, Ports};

/// Which firewall holds the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    Nft,
    Iptables,
}

/// How a packet gets to ringtap's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Via {
    /// NAT to a local port; the kernel remembers the original destination.
    Redirect,
    /// Straight to a transparent socket, addresses untouched.
    Tproxy,
}

/// What becomes of the segment's traffic while ringtap does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnFailure {
    Open,
    Closed,
}

impl OnFailure {
    /// Said at every apply: nobody should learn during an outage which one is in force.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            OnFailure::Open => {
                "on failure: open. While ringtap is down or hangs, new connections pass by it within 2 s: \
                 clients keep working, unseen. Nothing is intercepted until ringtap runs."
            }
            OnFailure::Closed => {
                "on failure: closed. While ringtap is down or hangs, new connections are refused: \
                 nothing passes unseen, and clients are cut off until ringtap runs."
            }
        }
    }
}

/// Everything `apply` needs to know; also, as JSON, the note it leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) backend: Backend,
    pub(crate) via: Via,
    pub(crate) ifaces: Vec<String>,
    pub(crate) from: Vec<Cidr>,
    pub(crate) except: Vec<Exemption>,
    pub(crate) ports: Ports,
    pub(crate) to_port: u16,
    pub(crate) on_failure: OnFailure,
    pub(crate) quic_rejected: bool,
    pub(crate) own_traffic: bool,
    pub(crate) mark: Mark,
    pub(crate) fwmark: u32,
    pub(crate) route_table: u32,
    pub(crate) table: String,
}

impl Settings {
    /// What a note must fulfil before root acts on it: its owner is the daemon's account, not root.
    pub(crate) fn verify(&self) -> Result<(), String> {
        for name in &self.ifaces {
            iface(name)?;
        }
        table_name(&self.table)?;
        self.fit_together().map_err(|error| error.to_string())
    }

    /// Whether they make sense as a whole.
    pub(crate) fn fit_together(&self) -> Result<(), Error> {
        if self.ifaces.is_empty() && self.from.is_empty() && !self.own_traffic {
            return Err(Error::flags(
                "--iface",
                "missing; name the interface of the segment to intercept (--iface lan0), or its networks (--from CIDR)",
            ));
        }
        if self.own_traffic && (self.backend != Backend::Nft || self.via != Via::Redirect) {
            return Err(Error::flags(
                "--own-traffic",
                "works with --backend nft and --via redirect only; drop one",
            ));
        }
        if self.ports.ranges().iter().any(|&(first, last)| (first..=last).contains(&self.to_port)) {
            return Err(Error::value(
                "--ports",
                &self.ports.to_string(),
                format!(
                    "holds ringtap's own port {}; leave it out, or listen elsewhere with --to-port",
                    self.to_port
                ),
            ));
        }
        if self.fwmark & self.mark.mask == self.mark.value {
            return Err(Error::flags(
                "--fwmark",
                "falls under --mark, which is never intercepted; choose another value",
            ));
        }
        Ok(())
    }

    /// The networks of one family out of `--except`.
    pub(crate) fn except_networks(&self, family: Family) -> Vec<Cidr> {
        let network = |exemption: &Exemption| match exemption {
            Exemption::Network(cidr) if cidr.family() == family => Some(*cidr),
            _ => None,
        };
        self.except.iter().filter_map(network).collect()
    }

    /// The hardware addresses out of `--except`.
    pub(crate) fn except_clients(&self) -> Vec<value::Mac> {
        let client = |exemption: &Exemption| match exemption {
            Exemption::Client(mac) => Some(*mac),
            Exemption::Network(_) => None,
        };
        self.except.iter().filter_map(client).collect()
    }

    /// The networks of one family out of `--from`.
    pub(crate) fn segment_networks(&self, family: Family) -> Vec<Cidr> {
        self.from.iter().copied().filter(|cidr| cidr.family() == family).collect()
    }
}

/// The command line that gives these settings, without what is default: the first line of every printed ruleset.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ringtap redirect apply")?;
        if self.backend == Backend::Iptables {
            write!(f, " --backend iptables")?;
        }
        if self.via == Via::Tproxy {
            write!(f, " --via tproxy")?;
        }
        for name in &self.ifaces {
            write!(f, " --iface {name}")?;
        }
        for cidr in &self.from {
            write!(f, " --from {cidr}")?;
        }
        for exemption in &self.except {
            write!(f, " --except {exemption}")?;
        }
        let ports = self.ports.to_string();
        if ports != DEFAULT_PORTS {
            write!(f, " --ports {ports}")?;
        }
        if self.to_port.to_string() != DEFAULT_TO_PORT {
            write!(f, " --to-port {}", self.to_port)?;
        }
        if self.on_failure == OnFailure::Closed {
            write!(f, " --on-failure closed")?;
        }
        if !self.quic_rejected {
            write!(f, " --quic allow")?;
        }
        if self.own_traffic {
            write!(f, " --own-traffic")?;
        }
        if self.mark.to_string() != DEFAULT_MARK {
            write!(f, " --mark {}", self.mark)?;
        }
        if format!("{:#010x}", self.fwmark) != DEFAULT_FWMARK {
            write!(f, " --fwmark {:#010x}", self.fwmark)?;
        }
        if self.route_table.to_string() != DEFAULT_ROUTE_TABLE {
            write!(f, " --route-table {}", self.route_table)?;
        }
        if self.table != DEFAULT_TABLE {
            write!(f, " --table {}", self.table)?;
        }
        Ok(())
    }
}

/// A mark that tells TPROXY's packets from others.
pub(crate) fn fwmark(text: &str) -> Result<u32, String> {
    match value::number(text)? {
        0 => Err("is what unmarked packets carry; choose another mark".to_owned()),
        mark => Ok(mark),
    }
}

/// A routing table of our own.
pub(crate) fn route_table(text: &str) -> Result<u32, String> {
    // 253 to 255 are the kernel's default, main and local tables: a catch-all route there takes the host down.
    match value::number(text)? {
        0 | 253..=255 => Err("is a table of the kernel's own; choose one that is free, say 21075".to_owned()),
        table => Ok(table),
    }
}

/// A name that is safe inside double quotes of a ruleset and means one interface: `+` and `*` would mean several.
pub(crate) fn iface(name: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:@-".contains(&byte))
        && !name.starts_with('-');
    if fits {
        Ok(name.to_owned())
    } else {
        Err("not an interface's name; `ip -br link` lists them".to_owned())
    }
}

/// Ours begin with `ringtap`: `remove` deletes the whole table, and must never be talked into somebody else's.
pub(crate) fn table_name(name: &str) -> Result<String, String> {
    let fits = name.starts_with("ringtap")
        && name.len() <= TABLE_NAME_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if fits {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "must begin with `ringtap`, go on with letters, digits, `-` or `_`, and stay within {TABLE_NAME_MAX} characters"
        ))
    }
}

/// In order, without what another one covers.
pub(crate) fn exemptions(all: Vec<Exemption>) -> Vec<Exemption> {
    let mut clients = Vec::new();
    let mut networks = Vec::new();
    for exemption in all {
        match exemption {
            Exemption::Network(cidr) => networks.push(cidr),
            Exemption::Client(mac) => clients.push(mac),
        }
    }
    clients.sort();
    clients.dedup();
    let networks = Cidr::disjoint(networks).into_iter().map(Exemption::Network);
    networks.chain(clients.into_iter().map(Exemption::Client)).collect()
}

/// chain names are made from it, and xtables ends at 28 characters
const TABLE_NAME_MAX: usize = 16;

pub(crate) const DEFAULT_PORTS: &str = "80,443";
pub(crate) const DEFAULT_TO_PORT: &str = "8080";
pub(crate) const DEFAULT_MARK: &str = "0x52540000/0xffff0000";
pub(crate) const DEFAULT_FWMARK: &str = "0x52530001";
pub(crate) const DEFAULT_ROUTE_TABLE: &str = "21075";
pub(crate) const DEFAULT_TABLE: &str = "ringtap";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The settings that `apply` with these flags has.
    pub(crate) fn settings(flags: &str) -> Result<Settings, Error> {
        let line = ["redirect", "print"].into_iter().chain(flags.split_whitespace());
        let matches = crate::cli::redirect::command().try_get_matches_from(line).unwrap();
        crate::cli::redirect::flags::settings(matches.subcommand_matches("print").unwrap())
    }

    const EVERYTHING: &str = "--iface lan0 --iface br-lan.7 --from 10.0.0.0/8 --from fd00::/8 --except 10.2.0.0/16 \
        --except 02:00:00:00:00:01 --ports 80,443,8000-8010 --to-port 3128 --on-failure closed --quic allow \
        --mark 0x11000000/0xff000000 --fwmark 0x7 --route-table 77 --table ringtap2 --via tproxy";

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let settings = settings("--iface lan0").unwrap();
        assert_eq!(settings.to_string(), "ringtap redirect apply --iface lan0");
        assert_eq!((settings.backend, settings.via), (Backend::Nft, Via::Redirect));
        assert_eq!((settings.on_failure, settings.quic_rejected), (OnFailure::Open, true));
        assert_eq!((settings.to_port, settings.ports.to_string().as_str()), (8080, "80,443"));
        assert_eq!(settings.mark, Mark { value: 0x5254_0000, mask: 0xffff_0000 });
    }

    #[test]
    fn the_printed_command_line_gives_the_same_settings_again() {
        for flags in [EVERYTHING, "--iface lan0 --own-traffic", "--from ::/0 --backend iptables"] {
            let written = settings(flags).unwrap();
            let line = written.to_string();
            let again = settings(line.strip_prefix("ringtap redirect apply").unwrap()).unwrap();
            assert_eq!(again, written, "{line}");
        }
    }

    #[test]
    fn the_note_gives_the_same_settings_again() {
        let written = settings(EVERYTHING).unwrap();
        let note = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&note).unwrap(), written);
        assert_eq!(written.verify(), Ok(()));
    }

    #[test]
    fn a_note_that_would_break_out_of_the_rules_is_refused() {
        let good = settings("--iface lan0").unwrap();
        let evil = Settings { ifaces: vec!["lan0\" accept #".to_owned()], ..good.clone() };
        assert!(evil.verify().is_err());
        let evil = Settings { table: "ringtap; flush ruleset".to_owned(), ..good };
        assert!(evil.verify().is_err());
    }

    #[test]
    fn flags_that_do_not_fit_together_are_refused() {
        for flags in [
            "",
            "--iface lan0 --ports 1-65535",
            "--iface lan0 --fwmark 0x52541234",
            "--iface lan0 --own-traffic --backend iptables",
            "--iface lan0 --route-table 255",
            "--iface lan0 --table mangle",
            "--iface eth*",
        ] {
            assert!(settings(flags).is_err(), "{flags} passed");
        }
    }
}
