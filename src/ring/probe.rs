//! Can we run here? Says what is missing and the command that mends it.

use std::io;

use thiserror::Error;

use super::uring::{Ring, RingOptions};

/// The oldest kernel whose io_uring has all we use.
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// Why ringtap cannot run on this machine.
#[derive(Debug, Error)]
pub enum Unfit {
    /// The kernel is too old.
    #[error("kernel {found} is too old: ringtap needs {}.{} or newer (ring-mapped buffers, multishot receive)", KERNEL_MIN.0, KERNEL_MIN.1)]
    Kernel {
        /// Its release.
        found: String,
    },
    /// io_uring is switched off by sysctl.
    #[error(
        "io_uring is disabled by kernel.io_uring_disabled={0}: run 'sysctl -w kernel.io_uring_disabled=0'"
    )]
    Disabled(String),
    /// io_uring is refused.
    #[error(
        "io_uring is refused ({0}): a seccomp profile (Docker's default one does) or an LSM blocks io_uring_setup; run with a profile that allows it, e.g. 'docker run --security-opt seccomp=unconfined'"
    )]
    Refused(io::Error),
    /// No memory may be locked.
    #[error(
        "io_uring could not lock memory ({0}): raise the limit with 'ulimit -l unlimited' or LimitMEMLOCK=infinity in the unit"
    )]
    Memlock(io::Error),
    /// The kernel was built without io_uring.
    #[error("this kernel has no io_uring ({0}): it needs CONFIG_IO_URING=y")]
    Missing(io::Error),
    /// Something else.
    #[error("io_uring cannot be set up: {0}")]
    Other(io::Error),
}

/// Checks kernel and io_uring by making a small ring.
///
/// # Errors
/// The first thing that is missing.
pub fn check() -> Result<(), Unfit> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    if parse_release(release).is_some_and(|found| found < KERNEL_MIN) {
        return Err(Unfit::Kernel { found: release.to_owned() });
    }
    match Ring::new(RingOptions { buffers_max: 64, buffers_idle_max: 0, ..RingOptions::default() }) {
        Ok(_) => Ok(()),
        Err(e) => Err(explain(e)),
    }
}

fn explain(error: io::Error) -> Unfit {
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match error.raw_os_error() {
        Some(nix::libc::EPERM) if !matches!(sysctl.trim(), "" | "0") => {
            Unfit::Disabled(sysctl.trim().to_owned())
        }
        Some(nix::libc::EPERM | nix::libc::EACCES) => Unfit::Refused(error),
        Some(nix::libc::ENOMEM) => Unfit::Memlock(error),
        Some(nix::libc::ENOSYS) => Unfit::Missing(error),
        _ => Unfit::Other(error),
    }
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_understood() {
        assert_eq!(parse_release("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(parse_release("6.18.44-fc"), Some((6, 18)));
        assert_eq!(parse_release("nonsense"), None);
    }

    #[test]
    fn each_refusal_names_its_mend() {
        let text = explain(io::Error::from_raw_os_error(nix::libc::ENOMEM)).to_string();
        assert!(text.contains("LimitMEMLOCK"), "{text}");
    }
}
