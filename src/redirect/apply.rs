//! `print`, `apply`, `remove`: what would be in force, putting it in force, taking it away.

use std::fmt::Write;
use std::path::Path;

use nix::net::if_::if_nametoindex;

use super::error::Error;
use super::settings::{Backend, OnFailure, Settings, Via};
use super::value::Family;
use super::{check, iptables, nft, routing, state, sysctl, tool};

/// The whole text for people and for `deploy/`: how to load it, the commands beside it, the rules.
pub(crate) fn printed(settings: &Settings, family: Option<Family>) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# {settings}");
    let _ = writeln!(out, "#");
    let _ = writeln!(out, "# {}", settings.on_failure.meaning());
    if settings.on_failure == OnFailure::Open {
        let _ = writeln!(
            out,
            "# Loaded by hand, these rules take nothing: the daemon renews its sign of life only where"
        );
        let _ = writeln!(out, "# `ringtap redirect apply` left word that they are in force.");
    }
    let _ = writeln!(out, "#");
    for sysctl in sysctl::wanted(settings) {
        let _ = writeln!(out, "# sysctl -w {}={}", sysctl.key, sysctl.value);
    }
    if settings.via == Via::Tproxy {
        for command in routing::commands(settings) {
            let _ = writeln!(out, "# {command}");
        }
    }
    match (settings.backend, family) {
        (Backend::Nft, _) => {
            let _ = writeln!(out, "# nft -f THIS_FILE\n");
            out.push_str(&nft::script(settings));
        }
        (Backend::Iptables, Some(family)) => write_iptables(&mut out, settings, family),
        (Backend::Iptables, None) => {
            write_iptables(&mut out, settings, Family::V4);
            out.push('\n');
            write_iptables(&mut out, settings, Family::V6);
        }
    }
    out
}

fn write_iptables(out: &mut String, settings: &Settings, family: Family) {
    let command = if family == Family::V4 { "iptables-restore" } else { "ip6tables-restore" };
    let _ = writeln!(out, "# {command} --noflush\n");
    out.push_str(&iptables::script(settings, family));
}

/// Puts the rules in force and says what that means.
pub(crate) fn apply(
    settings: &Settings,
    daemon_user: Option<&String>,
    set_sysctls: bool,
) -> Result<String, Error> {
    let directory = state::directory();
    tool::require_net_admin("apply the redirect")?;
    let owner = state::daemon_account(daemon_user)?;
    for iface in &settings.ifaces {
        if_nametoindex(iface.as_str()).map_err(|_| Error::NoInterface(iface.clone()))?;
    }
    require_tools(settings)?;
    let others = state::others(&directory, settings.to_port);
    if let Some(other) = others.iter().find(|other| other.table == settings.table) {
        return Err(Error::value(
            "--table",
            &settings.table,
            format!(
                "already redirects to port {0}; choose another name for this instance (--table ringtap2), \
                 or run `ringtap redirect remove --to-port {0}` first",
                other.to_port
            ),
        ));
    }
    // A note nobody can read is replaced: apply is the mend its message names.
    let before = match state::load(&directory, settings.to_port) {
        Err(Error::StateGarbled { .. }) => None,
        known => known?,
    };

    if settings.via == Via::Tproxy {
        routing::add(settings.fwmark, settings.route_table)?;
    }
    let loaded = match settings.backend {
        Backend::Nft => nft::load(settings),
        Backend::Iptables => iptables::load(settings, owner),
    };
    if let Err(error) = loaded {
        undo(settings, before.as_ref(), &others);
        return Err(error);
    }
    if let Some(before) = &before {
        remove_replaced(before, settings, &others)?;
    }
    if set_sysctls {
        for sysctl in sysctl::wanted(settings).iter().filter(|sysctl| !sysctl::sound(sysctl)) {
            sysctl.set()?;
        }
    }
    state::store(&directory, settings, owner)?;
    let mut said = said(settings);
    if settings.on_failure == OnFailure::Open
        && check::is_listened(settings.to_port)
        && !await_life(settings)?
    {
        let _ = writeln!(
            said,
            "note: something listens on port {}, but gives no sign of life yet: traffic passes by it until it does",
            settings.to_port
        );
    }
    Ok(said)
}

/// Waits until the daemon has noticed the rules, so that what comes after `apply` is intercepted.
fn await_life(settings: &Settings) -> Result<bool, Error> {
    for _ in 0..LIFE_LOOKS {
        if check::is_alive(settings)? {
            return Ok(true);
        }
        std::thread::sleep(LIFE_LOOK_EVERY);
    }
    Ok(false)
}

/// Two beats of a daemon, and a little.
const LIFE_LOOKS: u32 = 24;
const LIFE_LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(50);

/// What `remove` is to take away. All but the port is for rules of which no note tells.
pub(crate) struct Removal {
    pub(crate) port: u16,
    pub(crate) table: String,
    /// The operator has named the table.
    pub(crate) table_chosen: bool,
    pub(crate) backend: Option<Backend>,
    pub(crate) fwmark: u32,
    pub(crate) route_table: u32,
}

/// Takes away what is in force for a port, or, where no note says what that is, what the flags name.
pub(crate) fn remove(removal: &Removal) -> Result<String, Error> {
    let directory = state::directory();
    let Removal { port, table, table_chosen, .. } = removal;
    let port = *port;
    tool::require_net_admin("remove the redirect")?;
    let others = state::others(&directory, port);
    let noted = match state::load(&directory, port) {
        // Whatever the note said: what the flags name goes, and the note with it.
        Err(Error::StateGarbled { .. }) => None,
        known => known?,
    };
    let removed = match noted {
        Some(noted) if *table_chosen && noted.table != *table => {
            return Err(Error::value(
                "--table",
                table,
                format!(
                    "the redirect to port {port} is in `{}`; leave --table out, or name another --to-port",
                    noted.table
                ),
            ));
        }
        Some(noted) => remove_rules(&noted, &others)?,
        None => {
            if let Some(other) = others.iter().find(|other| other.table == *table) {
                return Err(Error::value(
                    "--table",
                    table,
                    format!("redirects to port {0}, not {port}; say --to-port {0}", other.to_port),
                ));
            }
            remove_unnoted(removal, &others)?
        }
    };
    let forgotten = state::forget(&directory, port)?;
    Ok(match removed || forgotten {
        true => format!("removed: nothing is redirected to port {port} any more\n"),
        false => format!("nothing to remove: no redirect to port {port} is applied here\n"),
    })
}

fn require_tools(settings: &Settings) -> Result<(), Error> {
    match settings.backend {
        Backend::Nft => tool::require("nft")?,
        Backend::Iptables => {
            tool::require("iptables-restore")?;
            tool::require("ip6tables-restore")?;
        }
    }
    if settings.via == Via::Tproxy { tool::require("ip") } else { Ok(()) }
}

fn remove_rules(noted: &Settings, others: &[Settings]) -> Result<bool, Error> {
    let rules = match noted.backend {
        Backend::Nft => nft::remove(&noted.table)?,
        Backend::Iptables => iptables::remove(&noted.table)?,
    };
    let routes = noted.via == Via::Tproxy
        && !others.iter().any(|other| shares_routes(other, noted))
        && routing::remove(noted.fwmark, noted.route_table)?;
    Ok(rules || routes)
}

/// Without a note both backends may hold rules: one that is not installed holds none.
fn remove_unnoted(removal: &Removal, others: &[Settings]) -> Result<bool, Error> {
    let table = removal.table.as_str();
    let absent = |result: Result<bool, Error>| match result {
        Err(Error::ToolMissing { .. }) => Ok(false),
        done => done,
    };
    let mut removed = false;
    match removal.backend {
        Some(Backend::Nft) => removed |= nft::remove(table)?,
        Some(Backend::Iptables) => removed |= iptables::remove(table)?,
        None => {
            removed |= absent(nft::remove(table))?;
            removed |= absent(iptables::remove(table))?;
        }
    }
    let (mark, route_table) = (removal.fwmark, removal.route_table);
    if !others.iter().any(|other| other.via == Via::Tproxy && other.route_table == route_table) {
        removed |= absent(routing::remove(mark, route_table))?;
    }
    Ok(removed)
}

/// What the last apply for this port left, and this one does not use.
fn remove_replaced(before: &Settings, now: &Settings, others: &[Settings]) -> Result<(), Error> {
    if (before.backend, &before.table) != (now.backend, &now.table) {
        match before.backend {
            Backend::Nft => nft::remove(&before.table)?,
            Backend::Iptables => iptables::remove(&before.table)?,
        };
    }
    let used = |settings: &Settings| shares_routes(settings, before);
    if before.via == Via::Tproxy && !used(now) && !others.iter().any(used) {
        routing::remove(before.fwmark, before.route_table)?;
    }
    Ok(())
}

/// Back to what was in force before a load that failed: nft changed nothing, iptables perhaps one family. The refusal
/// that brought us here is what the operator should read, so nothing said here counts.
fn undo(settings: &Settings, before: Option<&Settings>, others: &[Settings]) {
    if settings.backend == Backend::Iptables {
        let _ = match before {
            Some(before) if before.backend == Backend::Iptables && before.table == settings.table => {
                iptables::load(before, None)
            }
            _ => iptables::remove(&settings.table).map(drop),
        };
    }
    if settings.via == Via::Tproxy
        && !before.into_iter().chain(others).any(|other| shares_routes(other, settings))
    {
        let _ = routing::remove(settings.fwmark, settings.route_table);
    }
}

fn shares_routes(one: &Settings, other: &Settings) -> bool {
    one.via == Via::Tproxy && (one.fwmark, one.route_table) == (other.fwmark, other.route_table)
}

fn said(settings: &Settings) -> String {
    let mut out = String::new();
    let mut whose: Vec<String> = settings.ifaces.clone();
    whose.extend(settings.from.iter().map(ToString::to_string));
    if settings.own_traffic {
        whose.push("this host itself".to_owned());
    }
    let via = if settings.via == Via::Tproxy { "TPROXY" } else { "REDIRECT" };
    let backend = if settings.backend == Backend::Nft { "nft" } else { "iptables" };
    let quic = if settings.quic_rejected { "QUIC is refused" } else { "QUIC passes by" };
    let _ = writeln!(
        out,
        "applied: TCP {} of {} goes to port {} ({backend}, {via}, table {}), IPv4 and IPv6; {quic}",
        settings.ports,
        whose.join(", "),
        settings.to_port,
        settings.table
    );
    let _ = writeln!(out, "{}", settings.on_failure.meaning());
    if (settings.backend, settings.via, settings.on_failure)
        == (Backend::Iptables, Via::Tproxy, OnFailure::Closed)
    {
        let _ = writeln!(
            out,
            "note: with iptables and TPROXY such connections time out instead of being refused"
        );
    }
    for sysctl in sysctl::wanted(settings).iter().filter(|sysctl| !sysctl::sound(sysctl)) {
        let _ = writeln!(
            out,
            "note: {}: `sysctl -w {}={}`, or apply with --sysctl",
            sysctl.why, sysctl.key, sysctl.value
        );
    }
    out
}

/// For `check`: the same directory apply writes to.
pub(crate) fn noted(directory: &Path, port: u16) -> Result<Settings, Error> {
    state::load(directory, port)?.ok_or(Error::NotApplied { port })
}
