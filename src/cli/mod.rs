//! The commands. `dump`'s flags come from the option table; the others have their own.

mod ctl;
mod dump;
pub mod redirect;
mod words;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::engine;

/// Exit code for what the operator can mend: a wrong flag, a port in use, a missing right.
const USAGE: u8 = 2;

/// Understands the command line and does what it says.
pub fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            engine::refuse_takeover(error.to_string().lines().next().unwrap_or_default());
            error.exit()
        }
    };
    match matches.subcommand() {
        Some(("dump", matches)) => dump::run(matches),
        Some(("ctl", matches)) => ctl::run(matches),
        Some(("upgrade", matches)) => ctl::upgrade(matches),
        Some(("redirect", matches)) => report(redirect::run(matches)),
        _ => ExitCode::from(USAGE),
    }
}

fn report<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringtap: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The whole command line.
pub fn command() -> Command {
    Command::new("ringtap")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A TLS-intercepting transparent proxy for Linux gateways")
        .after_help("Intercept only traffic that you have the right to intercept.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(dump::command())
        .subcommand(ctl::command())
        .subcommand(ctl::upgrade_command())
        .subcommand(redirect::command())
}

/// Whether a flag was given.
fn is_set(matches: &ArgMatches, name: &str) -> bool {
    matches.get_flag(name)
}
