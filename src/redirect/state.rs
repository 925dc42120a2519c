//! The note `apply` leaves in `/run/ringtap/redirect-PORT.json`: what is in force for the daemon on that port.
//!
//! The daemon's heart reads it to know what to keep alive; `check`, `bypass` and `remove` read it to need no flags.
//! It lies in `/run`, as the rules themselves do not outlive a boot.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

use super::error::Error;
use super::settings::Settings;

/// `RINGTAP_RUNTIME_DIR`, or the directory systemd makes for the daemon.
pub(crate) fn directory() -> PathBuf {
    match std::env::var_os("RINGTAP_RUNTIME_DIR") {
        Some(directory) if !directory.is_empty() => directory.into(),
        _ => PathBuf::from("/run/ringtap"),
    }
}

pub(crate) fn path(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!("redirect-{port}.json"))
}

/// What is in force for `port`, if anything.
pub(crate) fn load(directory: &Path, port: u16) -> Result<Option<Settings>, Error> {
    let path = path(directory, port);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::State { action: "read", path, source }),
    };
    let garbled = |problem: String| Error::StateGarbled { path: path.clone(), problem };
    let settings: Settings = serde_json::from_str(&text).map_err(|error| garbled(error.to_string()))?;
    settings.verify().map_err(garbled)?;
    Ok(Some(settings))
}

/// What is in force for every other port: instances share routes, and must not share a table.
pub(crate) fn others(directory: &Path, port: u16) -> Vec<Settings> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let ports = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("redirect-")?.strip_suffix(".json")?.parse::<u16>().ok()
    });
    // A garbled note of another instance is that instance's trouble.
    ports.filter(|&other| other != port).filter_map(|other| load(directory, other).ok().flatten()).collect()
}

/// Writes the note so that a reader sees the old one or the new one, and gives it to the daemon's account.
pub(crate) fn store(directory: &Path, settings: &Settings, owner: Option<(Uid, Gid)>) -> Result<(), Error> {
    let target = path(directory, settings.to_port);
    let write = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        let draft = directory.join(format!(".redirect-{}.json", settings.to_port));
        // A draft that a crash left behind may have another owner or mode.
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        // The umask may have taken bits away, never added any: say the mode outright.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(serde_json::to_string_pretty(settings)?.as_bytes())?;
        file.write_all(b"\n")?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::fchown(&file, Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
        fs::rename(&draft, &target)
    };
    write().map_err(|source| Error::State { action: "write", path: target.clone(), source })
}

/// Takes the note away; the directory stays, it may be systemd's.
pub(crate) fn forget(directory: &Path, port: u16) -> Result<bool, Error> {
    let path = path(directory, port);
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::State { action: "remove", path, source }),
    }
}

/// The account the daemon runs as. The default name may be missing (ringtap run by hand as root), a chosen one not.
pub(crate) fn daemon_account(chosen: Option<&String>) -> Result<Option<(Uid, Gid)>, Error> {
    let name = chosen.map_or(DEFAULT_DAEMON_USER, String::as_str);
    match (User::from_name(name), chosen) {
        (Ok(Some(user)), _) => Ok(Some((user.uid, user.gid))),
        (_, None) => Ok(None),
        (_, Some(name)) => {
            Err(Error::value("--daemon-user", name, "there is no such account; `useradd --system` makes one"))
        }
    }
}

pub(crate) const DEFAULT_DAEMON_USER: &str = "ringtap";
