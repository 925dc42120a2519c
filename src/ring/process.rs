//! This process before the kernel: its rights, its limits, the modes of files it makes.

use std::io;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::stat::{Mode, umask};

/// Whether this process holds `CAP_NET_ADMIN`: needed for TPROXY sockets and for marking our own connections.
pub fn has_net_admin() -> bool {
    const CAP_NET_ADMIN: u64 = 12;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|bits| bits & (1 << CAP_NET_ADMIN) != 0)
}

/// How many descriptors this process may open, after raising the soft limit to the hard one.
pub fn raise_fd_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}

/// Gives free memory back to the system. Who allocates meanwhile waits: about a millisecond for every ten megabytes
/// that are given back. Does nothing where the allocator is not glibc's.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "glibc's allocator is asked by a function of C")]
    // SAFETY: it takes no pointer, and any thread may call it at any time.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Makes something that nobody but its owner may read or write, from the first moment on. The mask belongs to
/// the whole process: other threads' files of that moment are as private.
pub fn make_private<T>(make: impl FnOnce() -> T) -> T {
    let before = umask(Mode::from_bits_truncate(0o177));
    let made = make();
    umask(before);
    made
}

/// Whether a listener failed because this machine does not have the address's family, or not that address.
pub fn lacks_address(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL))
}

/// What this process uses of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Processor time of all threads, in seconds.
    pub cpu_seconds: f64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Their limit.
    pub max_fds: u64,
}

/// Looks. What cannot be found out is 0.
pub fn usage() -> Usage {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |field: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    };
    let cpu = getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    });
    Usage {
        resident_bytes: kilobytes("VmRSS:") * 1024,
        virtual_bytes: kilobytes("VmSize:") * 1024,
        cpu_seconds: cpu,
        open_fds: open_fds(),
        max_fds: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
    }
}

fn open_fds() -> u64 {
    const DIR: &str = "/proc/self/fd";
    // from Linux 6.2 on the directory's size is their number: a hundred thousand need not be listed
    match std::fs::metadata(DIR).map_or(0, |metadata| metadata.len()) {
        0 => std::fs::read_dir(DIR).map_or(0, |entries| entries.count() as u64),
        count => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_use_is_something_and_files_count() {
        let before = usage();
        assert!(
            before.resident_bytes > 1 << 20 && before.virtual_bytes >= before.resident_bytes,
            "{before:?}"
        );
        assert!(before.cpu_seconds > 0.0 && before.max_fds >= before.open_fds, "{before:?}");
        let held: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").expect("a file")).collect();
        // other tests open and close theirs meanwhile
        assert!(usage().open_fds >= 50, "{before:?} and {} more", held.len());
    }
}
