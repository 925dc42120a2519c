//! The real ringtap in the gateway: started, watched from outside, ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;

use super::process::{Output, Process, listening};
use super::{Lab, Place, eventually, text};

pub(crate) struct Daemon {
    process: Process,
}

impl Lab {
    /// Starts `ringtap dump` in the gateway with the lab's CA directory and trust, and waits until it listens.
    pub(crate) fn start_ringtap(&self, args: &[&str]) -> Daemon {
        self.start_ringtap_with(&[], args)
    }

    /// As `start_ringtap`, behind a command of its own: `["setpriv", "--reuid", "nobody"]`.
    pub(crate) fn start_ringtap_with(&self, before: &[&str], args: &[&str]) -> Daemon {
        self.start_daemon(self.dump_argv(before, args), args)
    }

    /// Starts the program of `examples/embed.rs`, which is ringtap with an addon of its own, transparently on 8080.
    pub(crate) fn start_embedded(&self) -> Daemon {
        let args = ["--mode", "transparent@8080"];
        let mut argv = vec![text(&embedded_binary())];
        argv.extend(self.settings());
        for setting in ["mode=transparent@8080", "flow_detail=0"] {
            argv.extend(["--set".to_owned(), setting.to_owned()]);
        }
        self.start_daemon(argv, &args)
    }

    fn start_daemon(&self, argv: Vec<String>, args: &[&str]) -> Daemon {
        let ports = ports_of(args);
        let mut process = self.spawn(Place::Gateway, &argv);
        let hosts_own = fs::read_link("/proc/self/ns/net").expect("know our own namespace");
        eventually("ringtap listens", START_MAX, || {
            if let Some(status) = process.ended() {
                panic!("ringtap ended at once: {status}\n{}", process.stderr());
            }
            let pid = process.pid().to_string();
            // until nsenter has run, /proc/PID/net shows the host's sockets
            let entered = fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|netns| netns != hosts_own);
            let open = listening(&pid);
            (entered && ports.iter().all(|port| open.contains(port))).then_some(())
        });
        Daemon { process }
    }

    /// `ringtap dump` that is expected to end by itself, soon.
    pub(crate) fn dump_to_its_end(&self, before: &[&str], args: &[&str]) -> Output {
        self.run(Place::Gateway, &self.dump_argv(before, args), START_MAX)
    }

    /// Any other ringtap command, in the gateway, to its end.
    pub(crate) fn ringtap(&self, args: &[&str]) -> Output {
        let mut argv = vec![text(&ringtap_binary())];
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        self.run(Place::Gateway, &argv, START_MAX)
    }

    /// Bends the client's segment to port 8080, through `ringtap redirect apply` itself.
    pub(crate) fn redirect(&self, via: &str) {
        self.redirect_with(via, &[]);
    }

    pub(crate) fn redirect_with(&self, via: &str, more: &[&str]) {
        let mut args = vec!["redirect", "apply", "--iface", "g0", "--to-port", "8080"];
        match via {
            "redirect" => {}
            "tproxy" => args.extend(["--via", "tproxy"]),
            other => panic!("no way to redirect called {other}"),
        }
        args.extend(more);
        self.ringtap(&args).succeeded();
    }

    fn dump_argv(&self, before: &[&str], args: &[&str]) -> Vec<String> {
        let mut argv = before.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        argv.extend([text(&ringtap_binary()), "dump".to_owned()]);
        argv.extend(self.settings());
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        argv
    }

    /// What every ringtap of a lab is told.
    fn settings(&self) -> Vec<String> {
        let mut argv = Vec::new();
        for (option, value) in [
            ("confdir", text(&self.confdir())),
            ("ssl_verify_upstream_trusted_ca", text(&self.files().origin_ca())),
            ("workers", "2".to_owned()),
        ] {
            argv.extend(["--set".to_owned(), format!("{option}={value}")]);
        }
        argv
    }
}

impl Daemon {
    pub(crate) fn stdout(&self) -> String {
        self.process.stdout()
    }

    pub(crate) fn stderr(&self) -> String {
        self.process.stderr()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn rss_kb(&self) -> u64 {
        self.status_kb("VmRSS:")
    }

    /// The highest resident size since `forget_peak`.
    pub(crate) fn peak_rss_kb(&self) -> u64 {
        self.status_kb("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) {
        fs::write(self.proc("clear_refs"), "5").expect("forget the peak of the resident size");
    }

    pub(crate) fn fd_count(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("list ringtap's files").count()
    }

    /// The numbers of its open files.
    pub(crate) fn fds(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.proc("fd")).expect("list ringtap's files").flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The number of the file it would open next.
    pub(crate) fn lowest_free_fd(&self) -> usize {
        let open = self.fds();
        (0..).find(|number| !open.contains(&(*number as u32))).expect("some number is free")
    }

    #[track_caller]
    pub(crate) fn must_be_alive(&mut self) {
        let ended = self.process.ended();
        assert!(ended.is_none(), "ringtap is gone: {ended:?}\n{}", self.stderr());
    }

    /// Asks it to finish; the story goes on while it drains.
    pub(crate) fn ask_to_end(&self) {
        self.process.signal(Signal::SIGTERM);
    }

    pub(crate) fn wait(&mut self, within: Duration) -> ExitStatus {
        self.process.wait(within)
    }

    /// SIGTERM, and the exit status it leads to.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.wait(DRAIN_MAX)
    }

    pub(crate) fn kill9(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait(DRAIN_MAX);
    }

    fn status_kb(&self, field: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("read ringtap's status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let value =
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok());
        value.unwrap_or_else(|| panic!("no {field} in {status}"))
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.process.pid().to_string()).join(file)
    }
}

/// `RINGTAP_BIN`, or the release build beside this test's target directory, if it is not older than the source.
pub(crate) fn ringtap_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("RINGTAP_BIN") {
        let path =
            fs::canonicalize(&path).unwrap_or_else(|error| panic!("RINGTAP_BIN {}: {error}", path.display()));
        return path;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
    let binary = target.join("release/ringtap");
    let built = fs::metadata(&binary).and_then(|data| data.modified()).unwrap_or_else(|error| {
        panic!("{}: {error}; run `cargo build --release`, or set RINGTAP_BIN", binary.display())
    });
    let source = newest(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(built >= source, "{} is older than src/: run `cargo build --release`", binary.display());
    binary
}

/// The example `embed`; cargo makes it, unless `cargo test` has done so already.
fn embedded_binary() -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--example", "embed"]);
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("run cargo");
        assert!(status.success(), "cargo cannot build the example: {status}");
    });
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
    target.join("debug/examples/embed")
}

fn newest(path: &Path) -> SystemTime {
    let data = fs::metadata(path).expect("read the source tree");
    if data.is_file() {
        return data.modified().expect("a time of change");
    }
    let entries = fs::read_dir(path).expect("read the source tree").flatten();
    entries.map(|entry| newest(&entry.path())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The ports that `--listen-port P` and `--mode something@P` announce.
fn ports_of(args: &[&str]) -> Vec<u16> {
    let mut ports = Vec::new();
    for pair in args.windows(2) {
        let port = match pair[0] {
            "--listen-port" | "-p" => Some(pair[1]),
            "--mode" | "-m" => pair[1].rsplit_once('@').map(|(_, port)| port),
            _ => None,
        };
        ports.extend(port.and_then(|port| port.rsplit(':').next()).and_then(|port| port.parse::<u16>().ok()));
    }
    assert!(!ports.is_empty(), "say where ringtap listens: --listen-port P, or --mode MODE@P");
    ports
}

/// What most stories start: the transparent mode behind `Lab::redirect`, quiet.
pub(crate) const TRANSPARENT: [&str; 5] = ["--mode", "transparent", "--listen-port", "8080", "-q"];

/// A gateway on two busy cores still starts within this.
const START_MAX: Duration = Duration::from_secs(15);
const DRAIN_MAX: Duration = Duration::from_secs(15);
