//! A segment of network in a box: client, gateway and origin, each a namespace of its own.
//!
//! ```text
//!   client                      gateway                        origin
//!   c0 10.78.1.2          g0 10.78.1.1   g1 10.78.2.1    o0 10.78.2.2   nginx   example.test *.wild.test
//!      fd00:78:1::2          fd00:78:1::1   fd00:78:2::1      .11  odd.test     .12 banner.test
//!      2001:db8:78:1::2      2001:db8:78:1::1                 .13  echo.test    .14 refuse.test  .15 hang.test
//!      2d00:db8:78:1::2      2d00:db8:78:1::1
//! ```
//!
//! `2001:db8::` is for documentation and so, to some, not global; `2d00::` is global by every definition and nobody's.
//! Every name has an IPv4 and an IPv6 address (`10.78.2.N` and `fd00:78:2::N`). Nothing leaves the box, and all of
//! it goes away in `Drop`; what a killed run left behind is removed by the next one. A story reads
//! `let lab = Lab::new(); let daemon = lab.start_ringtap(&[..]); lab.redirect("tproxy"); lab.client().curl([..])`.

pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod daemon;
pub(crate) mod exposition;
pub(crate) mod flows;
pub(crate) mod origin;
pub(crate) mod process;
pub(crate) mod report;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use client::{Client, Trust};
use origin::Files;
use process::{Output, Process};

/// The three ends of the lab.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Client,
    Gateway,
    Origin,
}

pub(crate) struct Lab {
    name: String,
    dir: PathBuf,
    files: &'static Files,
    nginx: Mutex<Option<Process>>,
    odd: Option<Process>,
    // last: given back when everything above is gone
    _permits: Permits,
}

impl Lab {
    /// A lab beside a few others.
    pub(crate) fn new() -> Lab {
        Lab::build(1)
    }

    /// A lab that has the machine to itself: for stories that measure time, or fill it with work.
    pub(crate) fn alone() -> Lab {
        Lab::build(LABS_MAX)
    }

    fn build(permits: usize) -> Lab {
        demand_what_we_need();
        sweep_once();
        let permits = Permits::take(permits);
        let files = Files::ready();
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT_LAB.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(dir.join("run")).expect("make the lab's directory");
        let mut lab = Lab { name, dir, files, nginx: Mutex::new(None), odd: None, _permits: permits };
        lab.lay_cables();
        fs::write(lab.dir.join("hosts"), hosts()).expect("write hosts");
        // nobody answers there: an unknown name fails at once
        fs::write(lab.dir.join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
            .expect("write resolv.conf");
        lab.start_nginx();
        lab.odd = Some(lab.spawn_odd());
        lab.wait_for_listeners(Place::Origin, origin::LISTENERS);
        lab
    }

    fn lay_cables(&self) {
        let [client, gateway, origin] = Place::ALL.map(|place| self.netns(place));
        for ns in [&client, &gateway, &origin] {
            must(&["ip", "netns", "add", ns]);
        }
        // before there are interfaces: they inherit it, and the stricter of both values counts
        for place in Place::ALL {
            self.sysctl(place, "ipv4/conf/all/rp_filter", "0");
            self.sysctl(place, "ipv4/conf/default/rp_filter", "0");
        }
        must(&[
            "ip", "link", "add", "c0", "netns", &client, "type", "veth", "peer", "name", "g0", "netns",
            &gateway,
        ]);
        must(&[
            "ip", "link", "add", "g1", "netns", &gateway, "type", "veth", "peer", "name", "o0", "netns",
            &origin,
        ]);
        let mut origin_lines = vec!["link set o0 up".to_owned()];
        for (number, _) in NAMES {
            origin_lines.push(format!("addr add 10.78.2.{number}/24 dev o0"));
            origin_lines.push(format!("addr add fd00:78:2::{number}/64 dev o0 nodad"));
        }
        for network in ["fd00:78:1::/64", "2001:db8:78:1::/64", "2d00:db8:78:1::/64"] {
            origin_lines.push(format!("route add {network} via fd00:78:2::1"));
        }
        origin_lines.push("route add 10.78.1.0/24 via 10.78.2.1".to_owned());
        self.ip_batch(Place::Origin, &origin_lines);
        self.ip_batch(
            Place::Gateway,
            &[
                "link set g0 up",
                "link set g1 up",
                "addr add 10.78.1.1/24 dev g0",
                "addr add fd00:78:1::1/64 dev g0 nodad",
                "addr add 2001:db8:78:1::1/64 dev g0 nodad",
                "addr add 2d00:db8:78:1::1/64 dev g0 nodad",
                "addr add 10.78.2.1/24 dev g1",
                "addr add fd00:78:2::1/64 dev g1 nodad",
            ],
        );
        self.ip_batch(
            Place::Client,
            &[
                "link set c0 up",
                "addr add 10.78.1.2/24 dev c0",
                "addr add 2001:db8:78:1::2/64 dev c0 nodad",
                "addr add 2d00:db8:78:1::2/64 dev c0 nodad",
                "addr add fd00:78:1::2/64 dev c0 nodad",
                "route add default via 10.78.1.1",
                "route add fd00:78:2::/64 via fd00:78:1::1",
            ],
        );
        for place in Place::ALL {
            let forward = if matches!(place, Place::Gateway) { "1" } else { "0" };
            self.sysctl(place, "ipv4/ip_forward", forward);
            self.sysctl(place, "ipv6/conf/all/forwarding", forward);
            self.sysctl(place, "ipv4/ip_local_port_range", "10000 65000");
            self.sysctl(place, "ipv4/tcp_max_syn_backlog", "4096");
            self.sysctl(place, "core/somaxconn", "4096");
        }
        // hang.test takes a SYN and says nothing
        let drop = "table inet lab {\n chain in {\n type filter hook input priority 0;\n \
                    ip daddr 10.78.2.15 drop\n ip6 daddr fd00:78:2::15 tcp flags syn drop\n }\n}\n";
        let rules = self.dir.join("hang.nft");
        fs::write(&rules, drop).expect("write the rules of hang.test");
        must(&["ip", "netns", "exec", &origin, "nft", "-f", &text(&rules)]);
    }

    fn ip_batch<S: AsRef<str>>(&self, place: Place, lines: &[S]) {
        let file = self.dir.join("ip.batch");
        let mut all = String::from("link set lo up\n");
        for line in lines {
            all.push_str(line.as_ref());
            all.push('\n');
        }
        fs::write(&file, all).expect("write a batch for ip");
        must(&["ip", "-n", &self.netns(place), "-batch", &text(&file)]);
    }

    /// Sets a kernel parameter of one namespace, by its path under `/proc/sys/net`.
    pub(crate) fn sysctl(&self, place: Place, key: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(key);
        self.inside(place, || fs::write(&path, value))
            .unwrap_or_else(|error| panic!("{place:?}: cannot set {key} to {value}: {error}"));
    }

    pub(crate) fn netns(&self, place: Place) -> String {
        format!("{}-{}", self.name, place.word())
    }

    /// The lab's own directory; gone with the lab.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn files(&self) -> &'static Files {
        self.files
    }

    /// A client that trusts ringtap's certificate authority, and only that.
    pub(crate) fn client(&self) -> Client<'_> {
        Client::new(self, Trust::Ringtap)
    }

    /// Where ringtap keeps its certificate authority in this lab.
    pub(crate) fn confdir(&self) -> PathBuf {
        self.dir.join("conf")
    }

    pub(crate) fn ringtap_ca(&self) -> PathBuf {
        self.confdir().join("ringtap-ca-cert.pem")
    }

    /// Runs `work` on a thread that lives in the namespace: sockets it opens, and threads it starts, are there.
    pub(crate) fn inside<T: Send>(&self, place: Place, work: impl FnOnce() -> T + Send) -> T {
        let netns = Path::new("/run/netns").join(self.netns(place));
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let netns = File::open(&netns).expect("open the namespace");
                nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command in the namespace, with the lab's hosts, that dies with us.
    pub(crate) fn command<S: AsRef<str>>(&self, place: Place, argv: &[S]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net=/run/netns/{}", self.netns(place)));
        // exec all the way down: the pid we hold is the program's
        let script = "mount --bind \"$1/hosts\" /etc/hosts; mount --bind \"$1/resolv.conf\" /etc/resolv.conf; \
                      shift; exec \"$@\"";
        command.args(["unshare", "-m", "sh", "-ec", script, "sh"]).arg(&self.dir);
        command.args(argv.iter().map(AsRef::as_ref));
        command.env("RINGTAP_RUNTIME_DIR", self.dir.join("run"));
        for name in
            ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]
        {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end, or kills it at the deadline and fails.
    pub(crate) fn run<S: AsRef<str>>(&self, place: Place, argv: &[S], within: Duration) -> Output {
        let line = argv.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        Process::start(self.command(place, argv), self.fresh_path("run"), &line).finish(within)
    }

    /// Starts a command that runs until it is stopped, or dropped.
    pub(crate) fn spawn<S: AsRef<str>>(&self, place: Place, argv: &[S]) -> Process {
        let line = argv.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        Process::start(self.command(place, argv), self.fresh_path("job"), &line)
    }

    /// A path nobody else in this lab uses.
    pub(crate) fn fresh_path(&self, word: &str) -> PathBuf {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        self.dir.join(format!("{word}-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn wait_for_listeners(&self, place: Place, count: usize) {
        eventually("the origins listen", Duration::from_secs(15), || {
            let found = self.inside(place, || process::listening("thread-self").len());
            (found >= count).then_some(())
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = fs::read_to_string(self.dir.join("nginx.err")).unwrap_or_default();
            if !said.trim().is_empty() {
                eprintln!("--- nginx.err\n{said}");
            }
        }
        self.nginx.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.odd.take();
        for place in Place::ALL {
            remove_netns(&self.netns(place));
        }
        if std::env::var_os("RINGTAP_LAB_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Place {
    const ALL: [Place; 3] = [Place::Client, Place::Gateway, Place::Origin];

    fn word(self) -> &'static str {
        match self {
            Place::Client => "client",
            Place::Gateway => "gateway",
            Place::Origin => "origin",
        }
    }
}

/// The address of one of the lab's names, for clients that speak sockets: `address("echo.test", 4)`.
pub(crate) fn address(name: &str, family: u8) -> String {
    let (number, _) = NAMES
        .iter()
        .find(|(_, names)| names.contains(&name))
        .unwrap_or_else(|| panic!("no {name} in the lab"));
    match family {
        4 => format!("10.78.2.{number}"),
        _ => format!("fd00:78:2::{number}"),
    }
}

/// Asks until there is an answer; fails when the deadline passes without one.
pub(crate) fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < within, "waited {within:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A count, when it has not changed for a second.
pub(crate) fn settled(mut count: impl FnMut() -> usize) -> usize {
    let (mut last, mut same) = (count(), 0);
    eventually("a number settles", Duration::from_secs(30), || {
        let next = count();
        same = if next == last { same + 1 } else { 0 };
        last = next;
        (same >= 50).then_some(last)
    })
}

#[expect(clippy::disallowed_methods, reason = "the gateway tests live in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A command of the host that has to work.
pub(crate) fn must(argv: &[&str]) -> String {
    let output = Command::new(argv[0])
        .args(&argv[1..])
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", argv[0]));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}", argv.join(" "), error.trim());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn hosts() -> String {
    let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for (number, names) in NAMES {
        let names = names.join(" ");
        hosts.push_str(&format!("10.78.2.{number} {names}\nfd00:78:2::{number} {names}\n"));
    }
    hosts
}

/// A privileged test that cannot run has failed: it says what it lacks.
fn demand_what_we_need() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the gateway tests make network namespaces and need root: run them with `sudo -E cargo test --test gateway`"
    );
    let path = std::env::var("PATH").unwrap_or_default();
    for program in PROGRAMS {
        let found = path.split(':').any(|dir| Path::new(dir).join(program).exists());
        assert!(found, "the gateway tests need `{program}`; `scripts/test` installs what is missing");
    }
    // thousands of connections, held by this process, nginx and ringtap alike
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("read the limit of open files");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raise the limit of open files");
    assert!(hard >= 16_384, "the gateway tests need 16384 open files (`ulimit -Hn` says {hard})");
}

/// Removes what earlier runs left behind when they were killed.
fn sweep_once() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        for (dir, is_netns) in [(PathBuf::from("/run/netns"), true), (std::env::temp_dir(), false)] {
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
                let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
                if Path::new("/proc").join(owner.to_string()).exists() {
                    continue;
                }
                eprintln!("removing {name}, left behind by process {owner}");
                if is_netns {
                    remove_netns(&name);
                } else {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
    });
}

/// Ends whoever still lives in the namespace, by pid, and removes it.
fn remove_netns(name: &str) {
    let Ok(pids) = Command::new("ip").args(["netns", "pids", name]).output() else { return };
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// How many labs run at a time, whatever the number of test threads: memory and cores are the limit.
struct Permits(usize);

impl Permits {
    fn take(wanted: usize) -> Permits {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < wanted {
            free = FREED.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= wanted;
        Permits(wanted)
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        FREED.notify_all();
    }
}

const PREFIX: &str = "rtl-";
const LABS_MAX: usize = 4;
static FREE: Mutex<usize> = Mutex::new(LABS_MAX);
static FREED: Condvar = Condvar::new();
static NEXT_LAB: AtomicUsize = AtomicUsize::new(0);

const PROGRAMS: [&str; 16] = [
    "git", "wget", "apt-get", "dpkg-deb", "ip", "nft", "nsenter", "unshare", "setpriv", "prlimit", "nginx",
    "curl", "openssl", "python3", "wrk", "h2load",
];

/// The last number of an origin's addresses, and the names that lead there.
const NAMES: [(u8, &[&str]); 6] = [
    (2, &["example.test", "www.example.test", "a.wild.test", "b.wild.test"]),
    (11, &["odd.test"]),
    (12, &["banner.test"]),
    (13, &["echo.test"]),
    (14, &["refuse.test"]),
    (15, &["hang.test"]),
];
