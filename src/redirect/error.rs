//! What can go wrong while bending traffic: always one line that names the thing and the mend.

use std::io;
use std::path::PathBuf;

/// Why a `ringtap redirect` command, or a beat of the heart, did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag's value cannot be used. The operator's fault; the message says what would do.
    #[error("{option} {value}: {problem}")]
    Value { option: &'static str, value: String, problem: String },
    /// Flags that do not fit together, or one that is missing.
    #[error("{option}: {problem}")]
    Flags { option: &'static str, problem: String },
    /// `--iface` names what is not there.
    #[error("--iface {0}: there is no such interface here; `ip -br link` lists them")]
    NoInterface(String),
    /// Firewall and routing are not ours to change.
    #[error("cannot {0} without CAP_NET_ADMIN: run it as root (sudo), or give ringtap that capability")]
    NotPermitted(String),
    /// A program that does the work is not installed.
    #[error("`{tool}` is not installed (or not in PATH): install the package `{package}`{instead}")]
    ToolMissing { tool: String, package: &'static str, instead: &'static str },
    /// A program that does the work refused.
    #[error("cannot {action}: `{tool}` says: {said}")]
    Tool { action: String, tool: String, said: String },
    /// The kernel refused what we asked without a program in between.
    #[error("cannot {action}: {source}")]
    Kernel { action: String, source: io::Error },
    /// The note that `apply` leaves for the daemon cannot be read or written.
    #[error("cannot {action} {}: {source}; {}", path.display(), note_mend(action))]
    State { action: &'static str, path: PathBuf, source: io::Error },
    /// The note is there and makes no sense.
    #[error("{} is not what `ringtap redirect apply` wrote ({problem}): remove it and apply again", path.display())]
    StateGarbled { path: PathBuf, problem: String },
    /// Nothing was applied for this port.
    #[error(
        "no redirect to port {port} is applied here: run `ringtap redirect apply --to-port {port} --iface IFACE`"
    )]
    NotApplied { port: u16 },
    /// The note says applied, but somebody took the rules away (`nft flush ruleset`, a firewall's restart).
    #[error(
        "the rules of table `{table}` are gone though they were applied: run `ringtap redirect apply` again"
    )]
    RulesGone { table: String },
    /// `check` found something; its lines were printed.
    #[error("{0} of the checks failed: each line above marked `wrong` says what mends it")]
    Unsound(usize),
}

impl Error {
    pub(crate) fn value(option: &'static str, value: &str, problem: impl Into<String>) -> Error {
        Error::Value { option, value: value.to_owned(), problem: problem.into() }
    }

    pub(crate) fn flags(option: &'static str, problem: impl Into<String>) -> Error {
        Error::Flags { option, problem: problem.into() }
    }
}

/// The daemon reads what root wrote.
fn note_mend(action: &str) -> &'static str {
    match action {
        "read" => "run as root, or apply again with --daemon-user NAME, the account the daemon runs as",
        _ => "run as root, or point RINGTAP_RUNTIME_DIR to a directory you may write",
    }
}
