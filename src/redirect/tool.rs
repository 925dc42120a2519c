//! Runs the programs that hold the firewall's and the routing's rules: nft, iptables, ip.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::error::Error;

/// Runs `program` and returns what it printed. `action` finishes the sentence "cannot ...".
pub(crate) fn run(action: &str, program: &str, args: &[&str], stdin: Option<&str>) -> Result<String, Error> {
    let output = spawn(program, args, stdin).map_err(|error| refused(action, program, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    if ["Operation not permitted", "Permission denied", "you must be root"]
        .iter()
        .any(|no| stderr.contains(no))
    {
        return Err(Error::NotPermitted(action.to_owned()));
    }
    Err(Error::Tool { action: action.to_owned(), tool: program.to_owned(), said: first_sentence(&stderr) })
}

/// nft repeats the offending line under its message; iptables puts its own name and version on a line before it.
fn first_sentence(stderr: &str) -> String {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    match lines.find(|line| !line.ends_with("(nf_tables):") && !line.starts_with("# Warning")) {
        Some(line) => line.to_owned(),
        None => "nothing".to_owned(),
    }
}

/// Whether `program` with these arguments succeeds; a refusal for lack of rights is an error, not a "no".
pub(crate) fn succeeds(action: &str, program: &str, args: &[&str]) -> Result<bool, Error> {
    match run(action, program, args, None) {
        Ok(_) => Ok(true),
        Err(Error::Tool { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Fails with the name of the package when `program` is not there.
pub(crate) fn require(program: &str) -> Result<(), Error> {
    match spawn(program, &["-V"], None) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(program)),
        _ => Ok(()),
    }
}

/// Fails before anything is touched when this process may not change the firewall.
pub(crate) fn require_net_admin(action: &str) -> Result<(), Error> {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    match effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()) {
        Some(bits) if bits & CAP_NET_ADMIN == 0 => Err(Error::NotPermitted(action.to_owned())),
        // Unreadable: let the tools themselves refuse.
        _ => Ok(()),
    }
}

fn spawn(program: &str, args: &[&str], stdin: Option<&str>) -> io::Result<Output> {
    match spawn_at(Path::new(program), args, stdin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        done => return done,
    }
    // An ordinary user's PATH often lacks the directories these programs live in.
    for directory in ["/usr/sbin", "/sbin", "/usr/local/sbin"] {
        let path = Path::new(directory).join(program);
        if path.exists() {
            return spawn_at(&path, args, stdin);
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn spawn_at(program: &Path, args: &[&str], stdin: Option<&str>) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), stdin) {
        // A program that stops reading has said why on stderr: that is the better message.
        let _ = pipe.write_all(text.as_bytes());
    }
    child.wait_with_output()
}

fn refused(action: &str, program: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => missing(program),
        _ => Error::Tool {
            action: action.to_owned(),
            tool: program.to_owned(),
            said: format!("it did not start: {error}"),
        },
    }
}

fn missing(program: &str) -> Error {
    let (package, instead) = match program {
        "nft" => ("nftables", ", or use --backend iptables"),
        "ip" => ("iproute2", ""),
        _ => ("iptables", ", or use --backend nft"),
    };
    Error::ToolMissing { tool: program.to_owned(), package, instead }
}
