//! What TPROXY needs beside the firewall: marked packets are routed to this host, whatever their address says.

use super::error::Error;
use super::settings::Settings;
use super::tool;

/// The commands that give the routes, for people: `print` shows them, [`add`] does the same.
pub(crate) fn commands(settings: &Settings) -> Vec<String> {
    let (mark, table) = (fwmark(settings.fwmark), settings.route_table);
    let of = |(flag, everything): &(&str, &str)| {
        [
            format!("ip {flag} rule add priority {PRIORITY} fwmark {mark} lookup {table}"),
            format!("ip {flag} route replace local {everything} dev lo table {table}"),
        ]
    };
    FAMILIES.iter().flat_map(of).collect()
}

/// Adds rule and route where they are not there yet.
pub(crate) fn add(mark: u32, table: u32) -> Result<(), Error> {
    const ACTION: &str = "route marked packets to this host";
    for (flag, everything) in families() {
        let number = table.to_string();
        // The route first: a rule that leads to an empty table would do nothing, and nothing is what we want till then.
        let route = [flag, "route", "replace", "local", everything, "dev", "lo", "table", &number];
        tool::run(ACTION, "ip", &route, None)?;
        if !has_rule(flag, mark, table)? {
            tool::run(ACTION, "ip", &rule(flag, "add", &fwmark(mark), &number), None)?;
        }
    }
    Ok(())
}

/// Takes rule and route away; `false` when there were none.
pub(crate) fn remove(mark: u32, table: u32) -> Result<bool, Error> {
    const ACTION: &str = "remove the route of marked packets";
    let mut removed = false;
    for (flag, everything) in families() {
        let number = table.to_string();
        while has_rule(flag, mark, table)? {
            tool::run(ACTION, "ip", &rule(flag, "del", &fwmark(mark), &number), None)?;
            removed = true;
        }
        if has_route(flag, table)? {
            tool::run(
                ACTION,
                "ip",
                &[flag, "route", "del", "local", everything, "dev", "lo", "table", &number],
                None,
            )?;
            removed = true;
        }
    }
    Ok(removed)
}

/// What is missing of the commands, family by family.
pub(crate) fn missing(mark: u32, table: u32) -> Result<Vec<&'static str>, Error> {
    let mut missing = Vec::new();
    for (flag, _) in families() {
        let name = if flag == "-4" { "IPv4" } else { "IPv6" };
        if !has_rule(flag, mark, table)? || !has_route(flag, table)? {
            missing.push(name);
        }
    }
    Ok(missing)
}

fn has_rule(flag: &str, mark: u32, table: u32) -> Result<bool, Error> {
    let text = tool::run("read the routing rules", "ip", &[flag, "-j", "rule", "show"], None)?;
    let rules: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let rules = rules.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(rules.iter().any(|rule| {
        rule["priority"].as_u64() == Some(u64::from(PRIORITY))
            && rule["fwmark"].as_str() == Some(&fwmark(mark))
            && rule["table"].as_str() == Some(&table.to_string())
    }))
}

fn has_route(flag: &str, table: u32) -> Result<bool, Error> {
    let text =
        match tool::run("read the routes", "ip", &[flag, "route", "show", "table", &table.to_string()], None)
        {
            // A table without any route does not exist.
            Err(Error::Tool { .. }) => return Ok(false),
            done => done?,
        };
    Ok(text.lines().any(|line| line.starts_with("local default dev lo")))
}

fn rule<'a>(flag: &'a str, verb: &'a str, mark: &'a str, table: &'a str) -> [&'a str; 9] {
    [flag, "rule", verb, "priority", "5253", "fwmark", mark, "lookup", table]
}

fn fwmark(mark: u32) -> String {
    format!("{mark:#x}")
}

fn families() -> impl Iterator<Item = (&'static str, &'static str)> {
    // A kernel booted with ipv6.disable=1 has no IPv6 to route, nor to intercept.
    let v6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
    FAMILIES.into_iter().filter(move |&(flag, _)| flag == "-4" || v6)
}

const FAMILIES: [(&str, &str); 2] = [("-4", "0.0.0.0/0"), ("-6", "::/0")];

/// Before the main table (32766), and fixed, so that what we remove is what we added.
const PRIORITY: u32 = 5253;
