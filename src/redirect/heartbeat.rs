//! The daemon's side of fail-open: a sign of life that wears off by itself.
//!
//! With `--on-failure open` the rules only take what is marked alive in the kernel, and the mark times out. Whoever is
//! killed, hangs, or fails its own health check stops renewing it, and traffic passes by. Nobody has to notice the
//! death, so there is nobody who could die with it.
//!
//! nftables: an element with a timeout in our set `alive`. iptables: an entry of the `recent` match, written through
//! `/proc`, whose age the rule compares.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::iptables;
use super::netlink::{Netlink, Refusal};
use super::nft::ALIVE_MS;
use super::settings::{Backend, OnFailure, Settings};
use super::state;

/// Keeps the redirect to one port alive. Lives on the daemon's control thread; not shared between threads.
#[derive(Debug)]
pub struct Heartbeat {
    port: u16,
    directory: PathBuf,
    applied: Option<Applied>,
    netlink: Option<Netlink>,
}

/// The note as it was when we last read it.
#[derive(Debug)]
struct Applied {
    stamp: (u64, u64, i64, i64),
    settings: Settings,
    beaten: bool,
}

impl Heartbeat {
    /// The heart of the daemon that listens on `port`. Touches nothing yet.
    pub fn new(port: u16) -> Self {
        Self::in_directory(port, state::directory())
    }

    /// The same, with the note elsewhere than in `/run/ringtap` or `RINGTAP_RUNTIME_DIR`.
    pub fn in_directory(port: u16, directory: impl Into<PathBuf>) -> Self {
        Heartbeat { port, directory: directory.into(), applied: None, netlink: None }
    }

    /// One beat, every 500 ms while the daemon is healthy. `false` when nothing is applied for this port, which costs
    /// one `stat`; `true` when traffic comes to us.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the sign of life: traffic then passes by (or, with `--on-failure closed`, nothing
    /// changes). Worth a log line, once; the next beat tries again.
    pub fn beat(&mut self) -> Result<bool, Error> {
        self.reload()?;
        let Some(Applied { settings, beaten, .. }) = &mut self.applied else { return Ok(false) };
        if settings.on_failure == OnFailure::Closed {
            return Ok(true);
        }
        match settings.backend {
            Backend::Nft => renew(&mut self.netlink, &settings.table)?,
            Backend::Iptables => {
                write_recent(&settings.table, '+')?;
                // The rules ask for two beats, so that the last one counts for less than two seconds: the first is two.
                if !*beaten {
                    write_recent(&settings.table, '+')?;
                }
            }
        }
        *beaten = true;
        Ok(true)
    }

    /// Ends the sign of life now, for an orderly shutdown: new connections pass by from here on.
    pub fn stop(&mut self) {
        // A note written since the last beat counts; one that cannot be read leaves the last one known.
        let _ = self.reload();
        let Some(Applied { settings, .. }) = self.applied.take() else { return };
        if settings.on_failure == OnFailure::Closed {
            return;
        }
        // A refusal changes nothing for the better: the mark wears off by itself, a second later.
        match settings.backend {
            Backend::Nft => {
                if let Ok(netlink) = opened(&mut self.netlink) {
                    let _ = netlink.expire(&settings.table);
                }
            }
            Backend::Iptables => {
                let _ = write_recent(&settings.table, '-');
            }
        }
    }

    fn reload(&mut self) -> Result<(), Error> {
        let path = state::path(&self.directory, self.port);
        let stamp = match fs::metadata(&path) {
            Ok(note) => (note.dev(), note.ino(), note.mtime(), note.mtime_nsec()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.applied = None;
                return Ok(());
            }
            Err(source) => return Err(Error::State { action: "read", path, source }),
        };
        if self.applied.as_ref().is_some_and(|applied| applied.stamp == stamp) {
            return Ok(());
        }
        let settings = state::load(&self.directory, self.port)?;
        self.applied = settings.map(|settings| Applied { stamp, settings, beaten: false });
        Ok(())
    }
}

fn renew(netlink: &mut Option<Netlink>, table: &str) -> Result<(), Error> {
    let open = opened(netlink)?;
    let refusal = match open.renew(table, ALIVE_MS) {
        Err(Refusal::Raced) => open.renew(table, ALIVE_MS).err(),
        done => done.err(),
    };
    match refusal {
        None => Ok(()),
        Some(Refusal::Gone) => Err(Error::RulesGone { table: table.to_owned() }),
        Some(Refusal::Raced) => Err(unheard(io::ErrorKind::ResourceBusy.into())),
        Some(Refusal::Io(error)) => {
            // A socket that failed once may have answers of the past in it.
            *netlink = None;
            Err(unheard(error))
        }
    }
}

fn opened(netlink: &mut Option<Netlink>) -> Result<&mut Netlink, Error> {
    match netlink {
        Some(open) => Ok(open),
        none => Ok(none.insert(Netlink::open().map_err(unheard)?)),
    }
}

fn unheard(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::NotPermitted("renew the redirect's sign of life".to_owned())
        }
        _ => Error::Kernel { action: "renew the redirect's sign of life".to_owned(), source },
    }
}

/// `+` says seen now, `-` forgets. The rules mask every address to zero, so one entry stands for all traffic.
fn write_recent(table: &str, sign: char) -> Result<(), Error> {
    for (name, everyone) in iptables::recent_names(table).iter().zip(["0.0.0.0", "::"]) {
        let path = Path::new(iptables::RECENT_DIRECTORY).join(name);
        let written = OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{sign}{everyone}\n").as_bytes()));
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::RulesGone { table: table.to_owned() });
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::NotPermitted(format!(
                    "write {} (`ringtap redirect apply --daemon-user NAME` gives it to the daemon's account)",
                    path.display()
                )));
            }
            Err(source) => return Err(Error::Kernel { action: format!("write {}", path.display()), source }),
        }
    }
    Ok(())
}
