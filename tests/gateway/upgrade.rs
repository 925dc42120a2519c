//! Another process takes over: nobody is refused, nobody is reset, no request fails; or it does not, and nobody notices.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::lab::crowd::{Deeds, Way, crowd};
use crate::lab::daemon::{Daemon, TRANSPARENT, ringtap_binary};
use crate::lab::origin::Sum;
use crate::lab::report::Report;
use crate::lab::{Lab, Place, eventually, flows, text};

#[test]
fn two_thousand_connections_under_load_do_not_notice() {
    let lab = Lab::alone();
    let recording = lab.dir().join("flows");
    let mut daemon = lab.start_ringtap(&[&TRANSPARENT[..], &["-w", &text(&recording)]].concat());
    // a lapse in the signs of life would let clients pass by, who would not trust what they find
    lab.redirect_with("redirect", &["--on-failure", "open"]);
    let way = Way::redirected(&lab.ringtap_ca());
    let (answered, old) = upgraded_under_load(&lab, &mut daemon, &way, 2_000);
    let successor = Successor::of(&lab);
    assert_ne!(successor.pid, old);
    successor.end();
    // one file, whole, with the flows of both
    assert_eq!(flows::read(&recording).len(), answered);
    assert_eq!(lab.requests_nginx_saw(), answered);
}

#[test]
fn an_explicit_proxy_without_privileges_is_replaced_as_well() {
    let lab = Lab::alone();
    fs::create_dir_all(lab.confdir()).expect("make a confdir");
    std::os::unix::fs::chown(lab.confdir(), Some(NOBODY), Some(NOBODY)).expect("give it to nobody");
    let binary = own_copy(&lab);
    let line =
        format!("shift; exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {binary} \"$@\"");
    let mut daemon = lab.start_ringtap_with(&["sh", "-c", &line, "sh"], &["--mode", "regular@8081", "-q"]);
    let way = Way::by_proxy("10.78.1.1", 8081, &lab.ringtap_ca());
    upgraded_under_load(&lab, &mut daemon, &way, 200);
    Successor::of(&lab).end();
}

/// The load's answered requests, and the process that was replaced.
fn upgraded_under_load(lab: &Lab, daemon: &mut Daemon, way: &Way, size: usize) -> (usize, u32) {
    let deeds = Deeds::default();
    let old = daemon.pid();
    std::thread::scope(|scope| {
        scope.spawn(|| lab.inside(Place::Client, || crowd(size, way, &deeds)));
        // set when we leave, by a panic too: else the traffic would never end
        let _traffic = StopOnDrop(&deeds);
        eventually("every connection is open", Duration::from_secs(60), || {
            (deeds.open.load(Ordering::Relaxed) >= size).then_some(())
        });
        let before = deeds.answered();
        eventually("all of them are used", WITHIN, || (deeds.answered() > before + size).then_some(()));
        let said = lab.ringtap(&["upgrade", "--socket", &socket(lab)]).succeeded().stdout;
        assert!(said.contains("has taken over") && said.contains(&old.to_string()), "{said}");
        let status = daemon.wait(Duration::from_secs(40));
        assert_eq!(status.code(), Some(0), "{}", daemon.stderr());
        let before = deeds.answered();
        eventually("the new process is used", WITHIN, || {
            (deeds.answered() > before + 2 * size).then_some(())
        });
    });
    let failures = deeds.failures.lock().expect("no panic elsewhere");
    assert!(
        failures.is_empty(),
        "{} failures, the first: {:?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    let sent_away = deeds.asked_to_come_back.load(Ordering::Relaxed);
    assert!(sent_away >= size, "only {sent_away} were asked to come back");
    (deeds.answered(), old)
}

#[test]
fn what_is_under_way_is_finished_by_the_process_that_began_it() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("tproxy");
    let expected = lab.client().curl(["https://odd.test/pattern?n=300000"]).expect_status(200);
    let expected = expected.header("x-sha256").expect("a sum").to_owned();
    let mut curl = lab.client().curl_piped(&["https://odd.test/slow?n=300000&parts=50&seconds=5"]);
    let mut output = curl.take_stdout();
    let mut begun = [0; 5000];
    output.read_exact(&mut begun).expect("the beginning of a slow download");
    lab.ringtap(&["upgrade", "--socket", &socket(&lab)]).succeeded();
    for _ in 0..10 {
        lab.client().curl(["https://example.test/1k"]).expect_status(200);
    }
    daemon.must_be_alive();
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("the rest of the download");
    let mut sum = Sum::new();
    sum.add(&begun);
    sum.add(&rest);
    assert_eq!(sum.hex(), expected, "{} bytes {}", begun.len() + rest.len(), curl.stderr());
    assert_eq!(daemon.wait(Duration::from_secs(15)).code(), Some(0), "{}", daemon.stderr());
    // and once more: a successor can be replaced as well
    let successor = Successor::of(&lab);
    lab.ringtap(&["upgrade", "--socket", &socket(&lab)]).succeeded();
    successor.has_ended();
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
    Successor::of(&lab).end();
}

#[test]
fn a_program_that_does_not_come_up_changes_nothing() {
    let lab = Lab::new();
    let binary = own_copy(&lab);
    let config = lab.dir().join("ringtap.toml");
    fs::write(&config, "drain_timeout = 5\n").expect("write a configuration");
    let config_path = text(&config);
    let args = [&TRANSPARENT[..], &["--config", &config_path]].concat();
    let mut daemon =
        lab.start_ringtap_with(&["sh", "-c", &format!("shift; exec {binary} \"$@\""), "sh"], &args);
    lab.redirect("redirect");
    let mut refused = |why: &str, parts: &[&str]| {
        let said = lab.ringtap(&["upgrade", "--socket", &socket(&lab)]);
        assert_eq!(said.code(), 1, "{why}: {}", said.stdout);
        for part in parts {
            assert!(said.stderr.contains(part), "{why}: {}", said.stderr);
        }
        daemon.must_be_alive();
        lab.client().curl(["https://example.test/1k"]).expect_status(200);
    };
    fs::write(&config, "drain_timeout = -5\n").expect("write a configuration");
    refused("an option that does not fit", &["drain_timeout", "goes on"]);
    fs::write(&config, "ssl_verify_upstream_trusted_ca = 'x'\nconfdir = 'y'\n[z]\n")
        .expect("write a configuration");
    refused("no configuration at all", &["goes on"]);
    fs::write(&config, format!("save_stream_file = '{}/no/'\n", lab.dir().display())).expect("write it");
    refused("a recording that cannot be opened", &["save_stream_file", "goes on"]);
    fs::write(&config, "drain_timeout = 5\n").expect("write a configuration");
    replace(&binary, "#!/bin/sh\nexit 3\n");
    refused("a program that ends", &["exit status: 3", "goes on"]);
    replace(&binary, "#!/bin/sh\nkill -SEGV $$\n");
    refused("a program that crashes", &["signal: 11", "goes on"]);
    replace(&binary, "#!/bin/sh\necho '{\"ready\":1}' >&0; exec sleep 100\n");
    refused("a program that says something else", &["not understood", "goes on"]);
    // it says that it is ready, is let in, and dies
    replace(&binary, "#!/bin/sh\necho '\"ready\"' >&0; head -c 1 >/dev/null; exit 1\n");
    refused("a program that dies when it is let in", &["went away", "goes on"]);
    fs::remove_file(&binary).expect("remove the program");
    refused("no program", &["cannot be started", "goes on"]);
    fs::copy(ringtap_binary(), &binary).expect("put it back");
    lab.ringtap(&["upgrade", "--socket", &socket(&lab)]).succeeded();
    assert_eq!(daemon.wait(Duration::from_secs(15)).code(), Some(0));
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
    Successor::of(&lab).end();
}

#[test]
fn the_new_process_may_have_fewer_workers_or_more() {
    let lab = Lab::alone();
    let config = lab.dir().join("ringtap.toml");
    let recording = lab.dir().join("flows");
    let args = ["--mode", "regular@8081", "-q", "--config", &text(&config), "-w", &text(&recording)];
    let workers =
        |count: usize| fs::write(&config, format!("workers = {count}\n")).expect("write a configuration");
    workers(2);
    // the lab's own number stands before: the configuration file is to say it
    let line = "for arg do shift; [ \"$arg\" = workers=2 ] && arg=drain_timeout=10; set -- \"$@\" \"$arg\"; done; exec \"$@\"";
    let mut daemon = lab.start_ringtap_with(&["sh", "-c", line, "sh"], &args);
    let way = Way::by_proxy("10.78.1.1", 8081, &lab.ringtap_ca());
    workers(1);
    let (first, _) = upgraded_under_load(&lab, &mut daemon, &way, 200);
    assert_eq!(Successor::of(&lab).workers, 1);
    workers(3);
    let deeds = Deeds::default();
    std::thread::scope(|scope| {
        scope.spawn(|| lab.inside(Place::Client, || crowd(200, &way, &deeds)));
        let _traffic = StopOnDrop(&deeds);
        eventually("all are used", WITHIN, || (deeds.answered() > 400).then_some(()));
        let old = Successor::of(&lab);
        lab.ringtap(&["upgrade", "--socket", &socket(&lab)]).succeeded();
        old.has_ended();
        let before = deeds.answered();
        eventually("the new process is used", WITHIN, || (deeds.answered() > before + 1000).then_some(()));
        let now = Successor::of(&lab);
        assert_eq!(now.workers, 3);
        assert!(
            now.connections.iter().all(|taken| *taken > 0),
            "each worker takes some: {:?}",
            now.connections
        );
    });
    let failures = deeds.failures.lock().expect("no panic elsewhere");
    assert!(failures.is_empty(), "{} failures, the first: {:?}", failures.len(), failures.first());
    Successor::of(&lab).end();
    assert_eq!(flows::read(&recording).len(), first + deeds.answered());
}

#[test]
fn systemd_is_told_whom_to_watch() {
    let lab = Lab::new();
    let path = lab.dir().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(WITHIN)).expect("patience");
    let heard = |wanted: &str| {
        let mut bytes = [0; 4096];
        loop {
            let n = systemd.recv(&mut bytes).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let said = String::from_utf8_lossy(&bytes[..n]).into_owned();
            assert!(!said.contains("STOPPING"), "the unit does not stop: {said}");
            if said.contains(wanted) {
                return said;
            }
            assert!(said.contains("WATCHDOG=1"), "{wanted} comes before {said}");
        }
    };
    let before = ["env", &format!("NOTIFY_SOCKET={}", path.display())];
    let mut daemon = lab.start_ringtap_with(&before, &["--mode", "regular@8081", "-q"]);
    heard("READY=1");
    lab.ringtap(&["upgrade", "--socket", &socket(&lab)]).succeeded();
    let said = heard("MAINPID=");
    let successor = Successor::of(&lab);
    assert!(said.contains(&format!("MAINPID={}", successor.pid)), "{said}");
    heard("READY=1");
    assert_eq!(daemon.wait(WITHIN).code(), Some(0));
    drop(systemd);
    successor.end();
}

/// The process that serves now; the lab did not start it.
struct Successor {
    pid: u32,
    workers: usize,
    /// Taken by each worker.
    connections: Vec<u64>,
    socket: PathBuf,
}

impl Successor {
    fn of(lab: &Lab) -> Successor {
        let Report { pid, workers, taken, .. } = Report::of(lab);
        Successor { pid, workers, connections: taken, socket: lab.confdir().join("control.sock") }
    }

    /// Waits for it.
    fn has_ended(&self) {
        let process = Path::new("/proc").join(self.pid.to_string());
        eventually("the process that was replaced ends", Duration::from_secs(30), || {
            let status = fs::read_to_string(process.join("status")).unwrap_or_default();
            (status.is_empty() || status.contains("State:\tZ")).then_some(())
        });
    }

    /// Ends it in order.
    fn end(self) {
        let pid = nix::unistd::Pid::from_raw(self.pid.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("SIGTERM");
        self.has_ended();
        assert!(!self.socket.exists(), "the control socket goes with the last one");
    }
}

struct StopOnDrop<'a>(&'a Deeds);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

fn socket(lab: &Lab) -> String {
    text(&lab.confdir().join("control.sock"))
}

/// The program, under a name that may be given to another one.
fn own_copy(lab: &Lab) -> String {
    let copy = lab.dir().join("ringtap");
    fs::copy(ringtap_binary(), &copy).expect("copy the program");
    text(&copy)
}

/// Puts another program in its place, as packages do: by renaming.
fn replace(binary: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let new = format!("{binary}.new");
    fs::write(&new, script).expect("write a program");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("make it one");
    fs::rename(&new, binary).expect("put it in place");
}

const NOBODY: u32 = 65_534;
const WITHIN: Duration = Duration::from_secs(30);
