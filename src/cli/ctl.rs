//! `ringtap ctl`: ask and tell a running ringtap, through its control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{USAGE, is_set, words};
use crate::engine::{Reply, Request};

/// The command's flags.
pub(super) fn command() -> Command {
    let json =
        || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the answer as JSON lines");
    Command::new("ctl")
        .about("Ask or tell a running ringtap through its control socket")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(socket().global(true))
        .subcommand(
            Command::new("flows").about("List finished flows, the newest first").arg(json()).arg(
                Arg::new("limit")
                    .long("limit")
                    .value_name("N")
                    .default_value("50")
                    .value_parser(clap::value_parser!(usize))
                    .help("At most so many"),
            ),
        )
        .subcommand(
            Command::new("workers").about("Show workers, their counters and open sessions").arg(json()),
        )
        .subcommand(Command::new("events").about("Show events as they happen").arg(json()))
        .subcommand(
            Command::new("kill").about("End a session, or all").arg(json()).arg(
                Arg::new("id")
                    .value_name("ID|all")
                    .required(true)
                    .help("A session's id, as 'workers' shows it, or 'all'"),
            ),
        )
        .subcommand(Command::new("drain").about("Finish what is under way, then exit").arg(json()))
}

/// Which ringtap is meant.
fn socket() -> Arg {
    Arg::new("socket")
        .long("socket")
        .value_name("PATH")
        .help("The control socket [default: ~/.ringtap/control.sock]")
}

/// The command that replaces a running ringtap.
pub(super) fn upgrade_command() -> Command {
    Command::new("upgrade")
        .about("Replace a running ringtap by the program now on disk, without losing a connection")
        .long_about(
            "Replace a running ringtap by the program now on disk, without losing a connection.\n\n\
             The running one starts that program by the path it was started with itself, with its own arguments and \
             environment (a file named with --config is read anew), hands it the listening sockets, stops accepting \
             once it is ready, and finishes what is under way until drain_timeout. If the new one does not come up, \
             the running one goes on, and the reason is printed.",
        )
        .arg(socket())
}

/// Does that.
pub(super) fn upgrade(matches: &ArgMatches) -> ExitCode {
    tell(matches, &Request::Upgrade, false)
}

/// Does it.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let Some((name, sub)) = matches.subcommand() else { return ExitCode::from(USAGE) };
    let request = match name {
        "flows" => Request::Flows { limit: sub.get_one::<usize>("limit").copied().unwrap_or(50) },
        "workers" => Request::Workers,
        "events" => Request::Events,
        "kill" => {
            let id = sub.get_one::<String>("id").cloned().filter(|id| id != "all");
            Request::Kill { id }
        }
        _ => Request::Drain,
    };
    tell(sub, &request, is_set(sub, "json"))
}

fn tell(matches: &ArgMatches, request: &Request, json: bool) -> ExitCode {
    let path = match matches.get_one::<String>("socket") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()))
            .join(".ringtap/control.sock"),
    };
    match ask(&path, request, json) {
        Ok(code) => code,
        Err(error) => {
            eprintln!(
                "ringtap: control socket {}: {error}; is ringtap running? --socket names another one",
                path.display()
            );
            ExitCode::FAILURE
        }
    }
}

fn ask(path: &PathBuf, request: &Request, json: bool) -> io::Result<ExitCode> {
    let mut stream = UnixStream::connect(path)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut out = io::stdout().lock();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let reply: Reply = serde_json::from_str(&line)?;
        if let Reply::Error { reason } = &reply {
            eprintln!("ringtap: {reason}");
            return Ok(ExitCode::FAILURE);
        }
        let shown = if json { line } else { text(&reply) };
        if !shown.is_empty() && writeln!(out, "{shown}").and_then(|()| out.flush()).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Flow { id, protocol, client, summary, error, .. } => {
            let error = error.as_ref().map(|error| format!("  ({error})")).unwrap_or_default();
            printable(&format!("{id}  {protocol:<5} {client:<24} {summary}{error}"))
        }
        Reply::Worker(worker) => words::worker(worker),
        Reply::Gateway(gateway) => words::gateway(gateway),
        Reply::Event { text, .. } => printable(text),
        Reply::Done { count, note } => match note {
            Some(note) => note.clone(),
            None => format!("({count})"),
        },
        Reply::Error { reason } => reason.clone(),
    }
}

/// Control characters of peers' making do not reach the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
