//! Children of the lab: started with their output in files, waited for with a deadline, killed by pid.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually;

pub(crate) struct Process {
    child: Child,
    line: String,
    // files, not pipes: a grandchild that keeps them open holds nobody up
    stdout: PathBuf,
    stderr: PathBuf,
    ended: Option<ExitStatus>,
}

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) line: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    pub(crate) fn start(mut command: Command, log: PathBuf, line: &str) -> Process {
        let (stdout, stderr) = (log.with_extension("out"), log.with_extension("err"));
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).expect("make a log file"));
        command.stderr(File::create(&stderr).expect("make a log file"));
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        Process { child, line: line.to_owned(), stdout, stderr, ended: None }
    }

    /// As `start`, with standard input and output in our hands.
    pub(crate) fn start_piped(mut command: Command, log: PathBuf, line: &str) -> Process {
        let (stdout, stderr) = (log.with_extension("out"), log.with_extension("err"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(&stderr).expect("make a log file"));
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        Process { child, line: line.to_owned(), stdout, stderr, ended: None }
    }

    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("started with pipes")
    }

    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("started with pipes")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("wait for a child");
        }
        self.ended
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let pid = Pid::from_raw(self.child.id().cast_signed());
            kill(pid, signal)
                .unwrap_or_else(|error| panic!("cannot send {signal} to {}: {error}", self.line));
        }
    }

    /// Waits for the end; past the deadline the child is killed and the story fails.
    pub(crate) fn wait(&mut self, within: Duration) -> ExitStatus {
        let line = self.line.clone();
        eventually(&format!("the end of `{line}`"), within, || self.ended())
    }

    pub(crate) fn finish(mut self, within: Duration) -> Output {
        let status = self.wait(within);
        Output { line: self.line.clone(), status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            eprintln!("--- {}\n{}{}", self.line, tail(&stdout), tail(&stderr));
        }
    }
}

impl Output {
    /// The exit code; a death by signal is a failure of its own.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| {
            panic!("`{}` died of signal {:?}\n{}", self.line, self.status.signal(), self.stderr)
        })
    }

    pub(crate) fn succeeded(self) -> Output {
        assert_eq!(self.code(), 0, "`{}` failed\n{}\n{}", self.line, self.stdout, self.stderr);
        self
    }
}

/// Ports that somebody listens on in the network namespace of `pid` (a number, or `thread-self`).
pub(crate) fn listening(pid: &str) -> Vec<u16> {
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let words = line.split_whitespace().collect::<Vec<_>>();
            let (Some(local), Some(state)) = (words.get(1), words.get(3)) else { continue };
            let port = local.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            if *state == LISTEN {
                ports.extend(port);
            }
        }
    }
    ports
}

fn tail(said: &str) -> String {
    let lines = said.lines().collect::<Vec<_>>();
    lines[lines.len().saturating_sub(TAIL_LINES_MAX)..].iter().flat_map(|line| [line, "\n"]).collect()
}

const LISTEN: &str = "0A";
const TAIL_LINES_MAX: usize = 60;
