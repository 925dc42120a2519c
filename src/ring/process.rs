//! This process before the kernel: its rights, its limits, the modes of files it makes.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
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
