//! Another process takes over: it gets our listening sockets, says when it is ready, and we finish what is under way.
//!
//! ```text
//! this process                                          its successor (the program now on disk)
//! start it, with a socket as its standard input ──────▶ options, CA, TLS, rings, workers: whatever may fail
//! listeners, control socket, name of the recording ───▶ takes them; listens, but does not accept
//!                                              ◀─ready─
//! every worker stops accepting; new connections wait in the sockets' queues
//!                                               ─go───▶ workers accept; the first sign of life
//!                                              ◀serving
//! MAINPID= to systemd                           ─yours▶ READY=1 to systemd
//! finish what is under way, then end
//! ```
//! A socket's queue of completed connections belongs to the socket, not to a process: handing the sockets on, instead
//! of opening others beside them, is what loses none of those who wait there. Until `serving` the successor may fail at
//! any point: it is killed, and this process accepts again.
//!
//! The successor is the program this process was started as, by the path it had then, with the same arguments and
//! environment. Whoever asks for the upgrade chooses nothing.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::ring::handover;

/// Tells a process that its standard input is a predecessor.
const TAKEOVER: &str = "RINGTAP_TAKEOVER";
/// How long the successor may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long either may take for anything else.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest line between the two: some thousand listeners.
const LINE_MAX: usize = 1 << 20;
/// Stands in front of the line, once for each message that carries descriptors.
const CARRIER: u8 = b'#';

/// A listening socket of ours.
pub(super) struct Listener {
    pub(super) addr: SocketAddr,
    pub(super) transparent: bool,
    pub(super) fd: OwnedFd,
}

/// How this process was started.
pub(super) struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    /// To be asked at the start, before the file may have been replaced. A path as it was typed is kept where it leads
    /// to this program: it may be a link, which an upgrade points elsewhere.
    pub(super) fn this() -> io::Result<Self> {
        let running = std::env::current_exe()?;
        let args: Vec<OsString> = std::env::args_os().collect();
        let typed = args.first().map(Path::new).filter(|typed| typed.components().count() > 1);
        let leads_here = |typed: &&Path| std::fs::canonicalize(typed).is_ok_and(|found| found == running);
        let path = match typed.filter(leads_here) {
            Some(typed) => std::path::absolute(typed)?,
            None => running,
        };
        Ok(Self { path, args })
    }

    fn start(&self, input: UnixStream) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        if let Some((name, rest)) = self.args.split_first() {
            command.arg0(name).args(rest);
        }
        command.env(TAKEOVER, "1").stdin(OwnedFd::from(input)).spawn()
    }
}

/// What the two say to each other, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Estate(Estate),
    Ready,
    Failed(String),
    Go,
    Serving {
        /// The control socket goes on in the successor's hands.
        control: bool,
    },
    Yours,
}

/// What there is to take over. Its descriptors came before, in this order: listeners, then the control socket.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Estate {
    listeners: Vec<(SocketAddr, bool)>,
    control: Option<PathBuf>,
    recording: Option<String>,
}

/// The process that takes over, until it is on its own.
pub(super) struct Successor {
    child: Child,
    lines: BufReader<tokio::net::UnixStream>,
    released: bool,
}

impl Successor {
    /// Starts the program and waits until it is ready to accept.
    ///
    /// # Errors
    /// Why it is not, in its own words where it had some. It is gone then.
    pub(super) async fn raise(
        program: &Program,
        listeners: &[Listener],
        control: Option<(&Path, BorrowedFd<'_>)>,
        recording: Option<&str>,
    ) -> Result<Self, String> {
        let failed = |what: &str, error: io::Error| format!("{what}: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(|e| failed("a socket for the new process", e))?;
        let name = program.path.display().to_string();
        let child = program.start(theirs).map_err(|e| failed(&format!("{name} cannot be started"), e))?;
        // before the socket ceases to block: the successor reads as soon as it runs
        let given = give(&ours, listeners, control, recording);
        let lines = BufReader::new(connected(ours).map_err(|e| failed("a socket for the new process", e))?);
        let mut successor = Self { child, lines, released: false };
        match successor.listen_for(READY_MAX).await {
            Ok(Word::Ready) => given.map(|()| successor).map_err(|e| failed("handing over", e)),
            Ok(Word::Failed(reason)) => Err(reason),
            Ok(other) => Err(format!("{name} is no ringtap that can take over: it said {other:?}")),
            Err(reason) => Err(match successor.death().await {
                Some(status) => {
                    format!(
                        "{name} ended ({status}) before it was ready; it may have said more on standard error"
                    )
                }
                None => reason,
            }),
        }
    }

    /// Lets it accept; says whether the control socket is its own now.
    ///
    /// # Errors
    /// It failed after all.
    pub(super) async fn take_over(&mut self) -> Result<bool, String> {
        self.say(&Word::Go).await.map_err(|e| format!("the new process went away: {e}"))?;
        match self.listen_for(ANSWER_MAX).await? {
            Word::Serving { control } => Ok(control),
            Word::Failed(reason) => Err(reason),
            other => Err(format!("the new process did not serve: it said {other:?}")),
        }
    }

    /// It is on its own from here on.
    pub(super) async fn release(&mut self) {
        self.released = true;
        let _ = self.say(&Word::Yours).await;
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn say(&mut self, word: &Word) -> io::Result<()> {
        let write = async { self.lines.get_mut().write_all(&line_of(word)?).await };
        tokio::time::timeout(ANSWER_MAX, write).await?
    }

    async fn listen_for(&mut self, within: Duration) -> Result<Word, String> {
        let mut line = String::new();
        let mut limited = (&mut self.lines).take(LINE_MAX as u64);
        match tokio::time::timeout(within, limited.read_line(&mut line)).await {
            Err(_) => Err(format!("the new process said nothing for {} s", within.as_secs())),
            Ok(Err(error)) => Err(format!("the new process went away: {error}")),
            Ok(Ok(0)) => Err("the new process went away".into()),
            Ok(Ok(_)) => {
                serde_json::from_str(&line).map_err(|e| format!("the new process was not understood: {e}"))
            }
        }
    }

    /// How it ended, if it has: a process that closes its socket is about to be gone.
    async fn death(&mut self) -> Option<ExitStatus> {
        for _ in 0..DEATH_STEPS {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            tokio::time::sleep(DEATH_STEP).await;
        }
        None
    }
}

/// How often a child that closed its socket is looked at, and the pause between two looks.
const DEATH_STEPS: u32 = 20;
const DEATH_STEP: Duration = Duration::from_millis(5);

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.released {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn connected(socket: UnixStream) -> io::Result<tokio::net::UnixStream> {
    socket.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(socket)
}

/// Sends all there is to take over.
fn give(
    to: &UnixStream,
    listeners: &[Listener],
    control: Option<(&Path, BorrowedFd<'_>)>,
    recording: Option<&str>,
) -> io::Result<()> {
    to.set_write_timeout(Some(ANSWER_MAX))?;
    let mut descriptors: Vec<BorrowedFd<'_>> = listeners.iter().map(|listener| listener.fd.as_fd()).collect();
    descriptors.extend(control.map(|(_, fd)| fd));
    for batch in descriptors.chunks(handover::DESCRIPTORS_MAX) {
        handover::send(to, &[CARRIER], batch)?;
    }
    let line = line_of(&Word::Estate(Estate {
        listeners: listeners.iter().map(|listener| (listener.addr, listener.transparent)).collect(),
        control: control.map(|(path, _)| path.to_owned()),
        recording: recording.map(str::to_owned),
    }))?;
    handover::send(to, &line, &[])
}

fn line_of(word: &Word) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    Ok(line)
}

/// What this process takes over from the one that started it.
pub(super) struct Inheritance {
    socket: UnixStream,
    listeners: Vec<Listener>,
    control: Option<(PathBuf, OwnedFd)>,
    recording: Option<String>,
}

impl Inheritance {
    /// What is handed to us, if anything is.
    ///
    /// # Errors
    /// Something is promised, and not there.
    pub(super) fn claim() -> io::Result<Option<Self>> {
        if std::env::var_os(TAKEOVER).is_none() {
            return Ok(None);
        }
        let none = |error: io::Error| {
            let reason =
                format!("{TAKEOVER} is set, but standard input is no ringtap that hands over ({error})");
            io::Error::new(error.kind(), reason)
        };
        Self::receive(handover::take_stdin().map_err(none)?).map(Some).map_err(none)
    }

    fn receive(socket: UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        socket.set_write_timeout(Some(ANSWER_MAX))?;
        let (mut said, mut descriptors) = (Vec::new(), Vec::new());
        let mut buffer = vec![0; 1 << 16];
        while said.last() != Some(&b'\n') && said.len() < LINE_MAX {
            let (n, mut more) = handover::receive(&socket, &mut buffer)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            said.extend_from_slice(&buffer[..n]);
            descriptors.append(&mut more);
        }
        let line = said.trim_ascii_start();
        let carriers = line.iter().take_while(|byte| **byte == CARRIER).count();
        let Word::Estate(estate) = serde_json::from_slice(&line[carriers..])? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if descriptors.len() != estate.listeners.len() + usize::from(estate.control.is_some()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing"));
        }
        let control = estate.control.and_then(|path| Some((path, descriptors.pop()?)));
        let mut listeners = Vec::with_capacity(descriptors.len());
        for (fd, (addr, transparent)) in descriptors.into_iter().zip(estate.listeners) {
            if handover::listens_on(fd.as_fd())? != addr {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a listener is another one than was said",
                ));
            }
            listeners.push(Listener { addr, transparent, fd });
        }
        Ok(Self { socket, listeners, control, recording: estate.recording })
    }

    /// The sockets that listen there. They must have been made for the same kind of mode.
    ///
    /// # Errors
    /// They were not.
    pub(super) fn take_listeners(&mut self, addr: SocketAddr, transparent: bool) -> io::Result<Vec<OwnedFd>> {
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.listeners).into_iter().partition(|listener| listener.addr == addr);
        self.listeners = left;
        if taken.iter().any(|listener| listener.transparent != transparent) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "the running ringtap listens there for another mode, which only a restart can change",
            ));
        }
        Ok(taken.into_iter().map(|listener| listener.fd).collect())
    }

    /// The control socket, if it is the one at this path.
    pub(super) fn take_control(&mut self, path: &Path) -> Option<OwnedFd> {
        self.control.take_if(|(held, _)| held == path).map(|(_, fd)| fd)
    }

    /// Whether our predecessor records there, and will until it ends.
    pub(super) fn records_to(&self, path: &str) -> bool {
        let bare = |spec: &str| spec.strip_prefix('+').unwrap_or(spec).to_owned();
        let same_file = |a: &str, b: &str| match (std::fs::canonicalize(a), std::fs::canonicalize(b)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        let held = self.recording.as_deref().map(bare);
        held.is_some_and(|held| held == bare(path) || same_file(&held, &bare(path)))
    }

    /// Says that all is prepared, and waits to be let in.
    ///
    /// # Errors
    /// We are not: the predecessor is gone, or changed its mind.
    pub(super) fn await_turn(&mut self) -> io::Result<()> {
        self.say(&Word::Ready)?;
        match self.listen()? {
            Word::Go => Ok(()),
            other => Err(io::Error::other(format!("the process before us said {other:?}"))),
        }
    }

    /// Says that we serve. When this returns we are the one systemd knows.
    pub(super) fn serving(mut self, control: bool) {
        if self.say(&Word::Serving { control }).is_ok() {
            // one that is gone leaves all to us just as well
            let _ = self.listen();
        }
    }

    /// Says that nothing comes of it.
    pub(super) fn refuse(&mut self, reason: &str) {
        let _ = self.say(&Word::Failed(reason.to_owned()));
    }

    fn say(&mut self, word: &Word) -> io::Result<()> {
        self.socket.write_all(&line_of(word)?)
    }

    fn listen(&mut self) -> io::Result<Word> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while line.last() != Some(&b'\n') && line.len() < LINE_MAX {
            self.socket.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

/// Tells whoever started this process to take over that it cannot, and why. In a process that was started in any
/// other way it does nothing.
pub fn refuse_takeover(reason: &str) {
    if std::env::var_os(TAKEOVER).is_some()
        && let Ok(mut socket) = handover::take_stdin()
        && let Ok(line) = line_of(&Word::Failed(reason.to_owned()))
    {
        let _ = socket.write_all(&line);
    }
}
