//! The door.
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = clap::Command::new("ringtap").arg_required_else_help(true);
    let matches = command.subcommand(ringtap::cli::redirect::command()).get_matches();
    let done = match matches.subcommand() {
        Some(("redirect", matches)) => ringtap::cli::redirect::run(matches),
        _ => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringtap: {error}");
            ExitCode::FAILURE
        }
    }
}
