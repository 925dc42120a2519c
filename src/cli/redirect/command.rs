//! The flags of `ringtap redirect` and their help.

use clap::{Arg, ArgAction, Command};

use crate::redirect::settings::{
    DEFAULT_FWMARK, DEFAULT_MARK, DEFAULT_PORTS, DEFAULT_ROUTE_TABLE, DEFAULT_TABLE, DEFAULT_TO_PORT,
};
use crate::redirect::state::DEFAULT_DAEMON_USER;

/// `ringtap redirect` with its subcommands.
pub fn command() -> Command {
    Command::new("redirect")
        .about("Bend a network segment's traffic to ringtap, and let it pass by when ringtap is gone")
        .long_about(
            "Bend a network segment's traffic to ringtap, and let it pass by when ringtap is gone.\n\n\
             The rules are a table (or chains) of our own; other firewalls' rules are never touched. Traffic to this \
             host itself, to broadcast and to multicast addresses is never redirected.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("print")
                .about("Print the rules that apply would load, and the commands beside them")
                .args(rule_args())
                .arg(
                    Arg::new("family")
                        .long("family")
                        .value_name("FAMILY")
                        .value_parser(["v4", "v6"])
                        .help("With --backend iptables: only this family's file"),
                ),
        )
        .subcommand(apply_command())
        .subcommand(
            Command::new("check")
                .about("Look whether what was applied is in force and can work; exit 1 if something is wrong")
                .arg(to_port()),
        )
        .subcommand(
            Command::new("remove")
                .about("Take away the rules, routes and note of apply; leaves nothing")
                .arg(to_port())
                .arg(backend().help("Where to look when no note of apply is there [default: both]"))
                .arg(table())
                .arg(fwmark())
                .arg(route_table()),
        )
        .subcommand(bypass_command())
}

fn apply_command() -> Command {
    Command::new("apply")
        .about("Load the rules: all of them or none; again to change them")
        .long_about(
            "Load the rules: all of them or none. Applying again replaces what was applied for the same --to-port; \
             exemptions made with `bypass add` and connections under way stay.\n\n\
             A note in /run/ringtap (or RINGTAP_RUNTIME_DIR) tells the daemon on that port to give its sign of life.",
        )
        .args(rule_args())
        .arg(
            Arg::new("sysctl")
                .long("sysctl")
                .action(ArgAction::SetTrue)
                .help("Switch forwarding on, and reverse-path filtering to loose, where needed"),
        )
        .arg(
            Arg::new("daemon-user")
                .long("daemon-user")
                .value_name("NAME")
                .help(format!("The account the daemon runs as, which may read the note [default: {DEFAULT_DAEMON_USER}]")),
        )
}

fn bypass_command() -> Command {
    let exemption = || {
        Arg::new("exemption")
            .value_name("CIDR|MAC")
            .required(true)
            .help("A network (as client or as server) or a client's hardware address")
    };
    Command::new("bypass")
        .about("Exempt addresses while running; new connections pass by ringtap")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("add").about("Exempt from now on").arg(exemption()).arg(to_port()).arg(
                Arg::new("ttl")
                    .long("ttl")
                    .value_name("TIME")
                    .allow_hyphen_values(true)
                    .help("For how long: 30s, 10m, 2h, 1d (nft only) [default: until del or remove]"),
            ),
        )
        .subcommand(Command::new("del").about("End an exemption").arg(exemption()).arg(to_port()))
        .subcommand(Command::new("list").about("Show what is exempt, and for how long yet").arg(to_port()))
}

fn rule_args() -> Vec<Arg> {
    let mut args = who_args();
    args.extend(how_args());
    args
}

/// Whose traffic.
fn who_args() -> Vec<Arg> {
    vec![
        Arg::new("iface")
            .long("iface")
            .value_name("IFACE")
            .action(ArgAction::Append)
            .help("The segment's interface; repeat for several. Needed unless --from is given"),
        Arg::new("from").long("from").value_name("CIDR").action(ArgAction::Append).allow_hyphen_values(true).help(
            "Only clients of this network, IPv4 or IPv6; repeat for several. With networks of one family only, \
             the other family is not intercepted",
        ),
        Arg::new("except")
            .long("except")
            .value_name("CIDR|MAC")
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
            .help("Never intercept this network (as client or as server), or this hardware address; repeatable"),
        Arg::new("ports")
            .long("ports")
            .value_name("LIST")
            .allow_hyphen_values(true)
            .help(format!("TCP ports to intercept, with ranges: 80,443,8000-8099 [default: {DEFAULT_PORTS}]")),
        Arg::new("quic").long("quic").value_name("WHAT").value_parser(["reject", "allow"]).help(
            "UDP 443 of the segment: reject, so that clients fall back to TCP, or allow, unseen [default: reject]",
        ),
        Arg::new("own-traffic")
            .long("own-traffic")
            .action(ArgAction::SetTrue)
            .help("Intercept what this host itself sends, too (nft with REDIRECT)"),
        Arg::new("mark").long("mark").value_name("MARK[/MASK]").help(format!(
            "Never intercept packets with this mark: ringtap's own connections to servers [default: {DEFAULT_MARK}]"
        )),
    ]
}

/// Where to, and by which means.
fn how_args() -> Vec<Arg> {
    vec![
        to_port(),
        Arg::new("on-failure").long("on-failure").value_name("WHAT").value_parser(["open", "closed"]).help(
            "When ringtap is down or hangs: open lets traffic pass by, unseen, within 2 s; closed refuses it \
             [default: open]",
        ),
        backend(),
        Arg::new("via").long("via").value_name("HOW").value_parser(["redirect", "tproxy"]).help(
            "redirect rewrites the destination (simple, works everywhere); tproxy leaves addresses as they are \
             [default: redirect]",
        ),
        Arg::new("tproxy").long("tproxy").action(ArgAction::SetTrue).help("Short for --via tproxy"),
        table(),
        fwmark(),
        route_table(),
    ]
}

fn to_port() -> Arg {
    Arg::new("to-port")
        .long("to-port")
        .value_name("PORT")
        .allow_hyphen_values(true)
        .help(format!("The port ringtap listens on [default: {DEFAULT_TO_PORT}]"))
}

fn backend() -> Arg {
    Arg::new("backend")
        .long("backend")
        .value_name("BACKEND")
        .value_parser(["nft", "iptables"])
        .help("Which firewall holds the rules [default: nft]")
}

fn table() -> Arg {
    Arg::new("table").long("table").value_name("NAME").help(format!(
        "The table's name, beginning with `ringtap`; a second instance needs its own [default: {DEFAULT_TABLE}]"
    ))
}

fn fwmark() -> Arg {
    Arg::new("fwmark")
        .long("fwmark")
        .value_name("MARK")
        .help(format!("With tproxy: the mark that routes packets to this host [default: {DEFAULT_FWMARK}]"))
}

fn route_table() -> Arg {
    Arg::new("route-table")
        .long("route-table")
        .value_name("NUMBER")
        .help(format!("With tproxy: the routing table for marked packets [default: {DEFAULT_ROUTE_TABLE}]"))
}
