//! Three network namespaces in a row, client, gateway, origin, and what may be done in each of them.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::unistd::{Pid, Uid};
use socket2::{Domain, Socket, Type};

pub(crate) const ORIGIN4: &str = "203.0.113.5";
pub(crate) const ORIGIN6: &str = "fd00:2::5";
pub(crate) const GATEWAY4: &str = "10.9.0.1";
pub(crate) const GATEWAY6: &str = "fd00:9::1";
pub(crate) const CLIENT4: &str = "10.9.0.2";
pub(crate) const CLIENT6: &str = "fd00:9::2";
pub(crate) const CLIENT_MAC: &str = "02:00:00:00:09:02";

/// Tests that measure time run alone; the others beside each other.
static CLOCKED: RwLock<()> = RwLock::new(());

#[expect(dead_code, reason = "held, never read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

pub(crate) struct Lab {
    name: String,
    pub(crate) runtime: PathBuf,
    stop: Arc<AtomicBool>,
    daemons: Vec<Child>,
    _turn: Turn,
}

/// What one run of the command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab::build(Turn::Shared(CLOCKED.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// For what measures time.
    pub(crate) fn alone() -> Lab {
        Lab::build(Turn::Alone(CLOCKED.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn build(turn: Turn) -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(Uid::effective().is_root(), "these tests make network namespaces: run them as root");
        let name = format!("rtr-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let runtime = std::env::temp_dir().join(&name);
        let lab =
            Lab { name, runtime, stop: Arc::new(AtomicBool::new(false)), daemons: Vec::new(), _turn: turn };
        for place in PLACES {
            sh(&format!("ip netns add {0} && ip -n {0} link set lo up", lab.ns(place)));
        }
        for place in PLACES {
            // A link-local address under probation cannot ask for neighbours: nothing would pass for two seconds.
            lab.within(place, || std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap());
        }
        let (c, g, o) = (lab.ns("c"), lab.ns("g"), lab.ns("o"));
        sh(&format!(
            "set -e
            ip -n {c} link add eth0 address {CLIENT_MAC} type veth peer name lan0 netns {g}
            ip -n {o} link add eth0 type veth peer name wan0 netns {g}
            ip -n {c} link set eth0 up; ip -n {g} link set lan0 up
            ip -n {o} link set eth0 up; ip -n {g} link set wan0 up
            ip -n {c} addr add {CLIENT4}/24 dev eth0; ip -n {c} addr add {CLIENT6}/64 dev eth0 nodad
            ip -n {g} addr add {GATEWAY4}/24 dev lan0; ip -n {g} addr add {GATEWAY6}/64 dev lan0 nodad
            ip -n {g} addr add 203.0.113.1/24 dev wan0; ip -n {g} addr add fd00:2::1/64 dev wan0 nodad
            ip -n {o} addr add {ORIGIN4}/24 dev eth0; ip -n {o} addr add {ORIGIN6}/64 dev eth0 nodad
            ip -n {c} route add default via {GATEWAY4}; ip -n {c} -6 route add default via {GATEWAY6}
            ip -n {o} route add default via 203.0.113.1; ip -n {o} -6 route add default via fd00:2::1"
        ));
        lab.within("g", || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        for port in [80, 443, 8080, 9000] {
            lab.serve("o", port, "origin", false);
        }
        lab.serve_udp("o", 443);
        lab
    }

    pub(crate) fn ns(&self, place: &str) -> String {
        format!("{}-{place}", self.name)
    }

    /// Runs `work` on a thread that lives in a place's namespace.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        place: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.spawn(place, work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        place: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.ns(place))).unwrap();
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// `ringtap redirect ...` on the gateway.
    pub(crate) fn redirect(&self, args: &str) -> Ran {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns("g"), env!("CARGO_BIN_EXE_ringtap"), "redirect"]);
        ran(command.args(args.split_whitespace()).env("RINGTAP_RUNTIME_DIR", &self.runtime))
    }

    /// The same, where anything but success is the test's failure.
    pub(crate) fn redirects(&self, args: &str) -> String {
        let ran = self.redirect(args);
        assert!(ran.ok, "ringtap redirect {args}: {ran:?}");
        ran.out
    }

    /// A shell line on the gateway, with its output.
    pub(crate) fn gateway(&self, line: &str) -> String {
        let ran = ran(Command::new("ip").args(["netns", "exec", &self.ns("g"), "sh", "-c", line]));
        assert!(ran.ok, "{line}: {ran:?}");
        ran.out
    }

    /// Everything on the gateway that `remove` has to leave as it was.
    pub(crate) fn whole_state(&self) -> String {
        self.gateway(
            "nft -s list ruleset; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all | grep -v cache; \
             iptables-save | grep -v '^[#:]' ; ip6tables-save | grep -v '^[#:]'; true",
        )
    }

    /// Answers every connection with a line "TAG DESTINATION", then with whatever comes in.
    pub(crate) fn serve(&self, place: &str, port: u16, tag: &'static str, transparent: bool) {
        for listener in self.within(place, move || listeners(port, transparent)) {
            let stop = Arc::clone(&self.stop);
            thread::spawn(move || accept(&listener, &stop, tag, transparent));
        }
    }

    fn serve_udp(&self, place: &str, port: u16) {
        let sockets = self.within(place, move || {
            [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)].map(|any| {
                let socket = bound(SocketAddr::new(any, port), Type::DGRAM, false);
                UdpSocket::from(socket)
            })
        });
        for socket in sockets {
            let stop = Arc::clone(&self.stop);
            thread::spawn(move || {
                socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                let mut buffer = [0; 100];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(&buffer[..length], peer);
                    }
                }
            });
        }
    }

    /// The daemon: a process of its own that listens on 8080 and beats, until it is killed.
    pub(crate) fn start_daemon(&mut self, transparent: bool) -> Pid {
        self.start_daemon_as(&["env"], transparent)
    }

    /// The daemon, started through `wrapper` (say, as another account).
    pub(crate) fn start_daemon_as(&mut self, wrapper: &[&str], transparent: bool) -> Pid {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.ns("g")])
            .args(wrapper)
            .arg(std::env::current_exe().unwrap())
            .args(["a_heart_beats_only_where_apply_has_left_its_note", "--exact", "--nocapture"])
            .env("RINGTAP_RUNTIME_DIR", &self.runtime)
            .env("RTR_TRANSPARENT", if transparent { "1" } else { "0" })
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("beating") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "the daemon's role ended before its first beat");
        }
        // `ip netns exec` and what follows replace themselves: the child is the daemon.
        let pid = Pid::from_raw(child.id().cast_signed());
        self.daemons.push(child);
        pid
    }

    /// What answers the client who goes to `address` and `port`: "ringtap DESTINATION" or "origin DESTINATION".
    pub(crate) fn client_gets(&self, address: &str, port: u16) -> io::Result<String> {
        self.gets_from("c", address, port)
    }

    pub(crate) fn gets_from(&self, place: &str, address: &str, port: u16) -> io::Result<String> {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        self.within(place, move || connection(to).map(|(line, _)| line))
    }

    /// Whether the client gets an answer to a datagram to port 443 of `address`; the error if it is refused.
    pub(crate) fn quic_from(&self, place: &str, address: &str) -> io::Result<()> {
        let to = SocketAddr::new(address.parse().unwrap(), 443);
        self.within(place, move || {
            let any: IpAddr =
                if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(Duration::from_secs(3)))?;
            socket.send(b"initial")?;
            socket.recv(&mut [0; 100]).map(drop)
        })
    }

    /// Waits until both families are answered by `tag`; fails after `limit`. How long it took.
    pub(crate) fn until_answered_by(&self, tag: &str, limit: Duration) -> Duration {
        let start = now();
        loop {
            let answers = [ORIGIN4, ORIGIN6].map(|address| self.client_gets(address, 80));
            let took = start.elapsed();
            if answers.iter().all(|answer| answer.as_ref().is_ok_and(|line| line.starts_with(tag))) {
                return took;
            }
            assert!(took < limit, "after {took:?} it is still {answers:?}, not {tag}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for place in PLACES {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(place)]).status();
        }
        let _ = std::fs::remove_dir_all(&self.runtime);
    }
}

/// Connects, and reads who answered; the connection stays open.
pub(crate) fn connection(to: SocketAddr) -> io::Result<(String, BufReader<TcpStream>)> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_millis(700))?;
    stream.set_read_timeout(Some(Duration::from_millis(700)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok((line.trim().to_owned(), reader))
}

/// Sends a line and expects it back.
pub(crate) fn echoes(stream: &mut BufReader<TcpStream>, text: &str) -> io::Result<()> {
    stream.get_mut().write_all(format!("{text}\n").as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if line.trim() == text { Ok(()) } else { Err(io::Error::other(format!("{line:?} came back"))) }
}

pub(crate) fn listeners(port: u16, transparent: bool) -> Vec<TcpListener> {
    [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
        .into_iter()
        .map(|any| {
            let socket = bound(SocketAddr::new(any, port), Type::STREAM, transparent);
            socket.listen(128).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.into()
        })
        .collect()
}

/// Until told to stop.
pub(crate) fn accept(listener: &TcpListener, stop: &AtomicBool, tag: &'static str, transparent: bool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => drop(thread::spawn(move || answer(stream, tag, transparent))),
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn answer(mut stream: TcpStream, tag: &str, transparent: bool) -> io::Result<()> {
    let destination = if transparent { stream.local_addr()? } else { original_destination(&stream) };
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("{tag} {destination}\n").as_bytes())?;
    io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
}

/// What NAT remembers; where there was none, the address that was reached.
fn original_destination(stream: &TcpStream) -> SocketAddr {
    let reached = stream.local_addr().unwrap();
    if reached.is_ipv4() {
        let found = getsockopt(stream, sockopt::OriginalDst);
        found.map_or(reached, |found| {
            let address = Ipv4Addr::from_bits(u32::from_be(found.sin_addr.s_addr));
            SocketAddr::new(address.into(), u16::from_be(found.sin_port))
        })
    } else {
        let found = getsockopt(stream, sockopt::Ip6tOriginalDst);
        found.map_or(reached, |found| {
            let address = Ipv6Addr::from(found.sin6_addr.s6_addr);
            SocketAddr::new(address.into(), u16::from_be(found.sin6_port))
        })
    }
}

fn bound(address: SocketAddr, kind: Type, transparent: bool) -> Socket {
    let socket = Socket::new(Domain::for_address(address), kind, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    if transparent {
        // One flag of the socket, whichever family asks.
        setsockopt(&socket, sockopt::IpTransparent, &true).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    socket
}

pub(crate) fn signal(pid: Pid, signal: Signal) {
    kill(pid, signal).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "these tests measure the kernel's time, not ours")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        ok: output.status.success(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn sh(script: &str) {
    let ran = ran(Command::new("sh").args(["-c", script]));
    assert!(ran.ok, "{script}: {ran:?}");
}

const PLACES: [&str; 3] = ["c", "g", "o"];
