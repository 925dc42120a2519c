//! Pipes through which the kernel moves bytes from one socket to another without copying them.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

/// Pipes of a worker that hold bytes at once: a stream that finds none is copied.
const PIPES_MAX: usize = 64;
/// Empty pipes kept for the next user.
const PIPES_IDLE_MAX: usize = 8;
/// Bytes a pipe is to hold. The kernel may grant fewer, and does where a user has many pipes.
const PIPE_SIZE: i32 = 256 * 1024;

/// A worker's pipes.
#[derive(Default)]
pub(super) struct Pipes {
    idle: RefCell<Vec<Ends>>,
    out: Cell<usize>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

/// A pipe in use. Dropped empty, it is kept for the next one; else what it holds goes with it.
pub(super) struct Lease {
    ends: Option<Ends>,
    pipes: Rc<Pipes>,
    /// Bytes in it.
    pub(super) held: usize,
}

impl Pipes {
    /// A pipe that is empty; `None` at the limit, or without descriptors.
    pub(super) fn take(self: &Rc<Self>) -> Option<Lease> {
        if self.out.get() >= PIPES_MAX {
            return None;
        }
        let idle = self.idle.borrow_mut().pop();
        let ends = idle.or_else(Ends::open)?;
        self.out.set(self.out.get() + 1);
        Some(Lease { ends: Some(ends), pipes: self.clone(), held: 0 })
    }
}

impl Ends {
    fn open() -> Option<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
        // beyond the user's limit of pages it stays as small as it is, which costs calls and nothing else
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
        let size = usize::try_from(fcntl(&write, FcntlArg::F_GETPIPE_SZ).ok()?).ok()?;
        Some(Self { read, write, size })
    }
}

impl Lease {
    /// Where bytes come out, where they go in, and how many it can hold.
    pub(super) fn ends(&self) -> Option<(RawFd, RawFd, usize)> {
        self.ends.as_ref().map(|ends| (ends.read.as_raw_fd(), ends.write.as_raw_fd(), ends.size))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pipes.out.set(self.pipes.out.get() - 1);
        let mut idle = self.pipes.idle.borrow_mut();
        if let Some(ends) = self.ends.take()
            && self.held == 0
            && idle.len() < PIPES_IDLE_MAX
        {
            idle.push(ends);
        }
    }
}
