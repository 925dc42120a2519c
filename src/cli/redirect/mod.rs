//! `ringtap redirect`: print, apply, check and remove the [rules](crate::redirect), and exempt while running.

mod command;
pub(crate) mod flags;

use std::io::Write;

use clap::ArgMatches;

pub use command::command;

use crate::redirect::settings::{Backend, Settings};
use crate::redirect::value::{Exemption, Family};
use crate::redirect::{Error, apply, check, iptables, nft, state, tool, value};

/// Does what `ringtap redirect ...` says and prints what an operator should know.
///
/// # Errors
///
/// Every failure is one line that names the flag or the thing, and what mends it.
pub fn run(matches: &ArgMatches) -> Result<(), Error> {
    match matches.subcommand() {
        Some(("print", matches)) => print(matches),
        Some(("apply", matches)) => {
            let settings = flags::settings(matches)?;
            apply::apply(&settings, matches.get_one("daemon-user"), matches.get_flag("sysctl"))
                .map(|said| say(&said))
        }
        Some(("check", matches)) => check(matches),
        Some(("remove", matches)) => apply::remove(&flags::removal(matches)?).map(|said| say(&said)),
        Some(("bypass", matches)) => bypass(matches),
        _ => Err(Error::flags("redirect", "needs one of print, apply, check, remove, bypass")),
    }
}

fn print(matches: &ArgMatches) -> Result<(), Error> {
    let settings = flags::settings(matches)?;
    let family = match matches.get_one::<String>("family").map(String::as_str) {
        Some(_) if settings.backend == Backend::Nft => {
            return Err(Error::flags(
                "--family",
                "is for --backend iptables; nftables holds both families in one table",
            ));
        }
        Some("v4") => Some(Family::V4),
        Some(_) => Some(Family::V6),
        None => None,
    };
    say(&apply::printed(&settings, family));
    Ok(())
}

fn check(matches: &ArgMatches) -> Result<(), Error> {
    let settings = apply::noted(&state::directory(), flags::to_port(matches)?)?;
    tool::require_net_admin("read the firewall's rules")?;
    let report = check::check(&settings)?;
    say(&report.text);
    if report.wrong == 0 { Ok(()) } else { Err(Error::Unsound(report.wrong)) }
}

fn bypass(matches: &ArgMatches) -> Result<(), Error> {
    let Some((verb, matches)) = matches.subcommand() else {
        return Err(Error::flags("bypass", "needs one of add, del, list"));
    };
    let settings = apply::noted(&state::directory(), flags::to_port(matches)?)?;
    if verb == "list" {
        tool::require_net_admin("list the exemptions")?;
        return bypass_list(&settings);
    }
    let text = matches.get_one::<String>("exemption").map(String::as_str).unwrap_or_default();
    let option = if verb == "add" { "bypass add" } else { "bypass del" };
    let exemption: Exemption = text.parse().map_err(|problem| Error::value(option, text, problem))?;
    if verb == "add" {
        let ttl = matches.get_one::<String>("ttl");
        let lifetime_s = ttl
            .map(|ttl| value::lifetime_s(ttl).map_err(|problem| Error::value("--ttl", ttl, problem)))
            .transpose()?;
        if let (Some(ttl), Backend::Iptables) = (ttl, settings.backend) {
            let problem =
                "iptables rules do not end by themselves; leave --ttl out, or apply with --backend nft";
            return Err(Error::value("--ttl", ttl, problem));
        }
        tool::require_net_admin("add an exemption")?;
        match settings.backend {
            Backend::Nft => nft::bypass_add(&settings.table, exemption, lifetime_s)?,
            Backend::Iptables => iptables::bypass_add(&settings, exemption)?,
        }
        let until = ttl.map(|ttl| format!(" for {ttl}")).unwrap_or_default();
        say(&format!("exempt{until}: new connections of {exemption} pass by ringtap\n"));
        return Ok(());
    }
    tool::require_net_admin("remove an exemption")?;
    let removed = match settings.backend {
        Backend::Nft => nft::bypass_del(&settings.table, exemption)?,
        Backend::Iptables => iptables::bypass_del(&settings, exemption)?,
    };
    if !removed {
        let problem = "is not exempt, at least not written so; `ringtap redirect bypass list` shows what is";
        return Err(Error::value("bypass del", text, problem));
    }
    say(&format!("no longer exempt: {exemption}\n"));
    Ok(())
}

fn bypass_list(settings: &Settings) -> Result<(), Error> {
    let all = match settings.backend {
        Backend::Nft => nft::bypass_list(&settings.table)?,
        Backend::Iptables => iptables::bypass_list(settings)?,
    };
    for (exemption, left_s) in all {
        match left_s {
            Some(left_s) => say(&format!("{exemption} {left_s}s\n")),
            None => say(&format!("{exemption}\n")),
        }
    }
    Ok(())
}

/// To standard output; a reader that went away (`| head`) is no failure.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
