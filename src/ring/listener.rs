//! Accepting connections: one multishot accept per listener.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use io_uring::{opcode, types};

use super::sockopt;
use super::tcp::TcpStream;
use super::uring::{Inner, Op, Ring};

/// Accepted connections nobody has taken yet; past it, accepting pauses and the kernel's backlog holds them.
const WAITING_MAX: usize = 256;

/// A listening socket of one worker.
pub struct TcpListener {
    ring: Ring,
    shared: Rc<Listening>,
}

pub(super) struct Listening {
    fd: OwnedFd,
    waiting: RefCell<VecDeque<io::Result<OwnedFd>>>,
    armed: Cell<Option<usize>>,
    key_pending_cancel: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl TcpListener {
    /// Listens with an already bound and listening socket.
    pub fn new(ring: &Ring, fd: OwnedFd) -> Self {
        let shared = Rc::new(Listening {
            fd,
            waiting: RefCell::default(),
            armed: Cell::new(None),
            key_pending_cancel: Cell::new(false),
            waker: RefCell::default(),
        });
        Self { ring: ring.clone(), shared }
    }

    /// The next connection.
    ///
    /// # Errors
    /// What the kernel said of one attempt; the listener goes on.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        let fd = poll_fn(|cx| {
            if let Some(next) = self.shared.waiting.borrow_mut().pop_front() {
                return Poll::Ready(next);
            }
            *self.shared.waker.borrow_mut() = Some(cx.waker().clone());
            self.shared.arm(&self.ring.0);
            Poll::Pending
        })
        .await?;
        Ok(TcpStream::from_fd(&self.ring, fd, true))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sockopt::local_addr(self.shared.fd.as_fd())
    }

    /// The socket itself.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        if let Some(key) = self.shared.armed.get() {
            self.ring.0.cancel(key);
        }
    }
}

impl Listening {
    fn arm(self: &Rc<Self>, ring: &Rc<Inner>) {
        if self.armed.get().is_some() {
            return;
        }
        let flags = nix::libc::SOCK_CLOEXEC;
        let entry = opcode::AcceptMulti::new(types::Fd(self.fd.as_raw_fd())).flags(flags).build();
        self.key_pending_cancel.set(false);
        self.armed.set(Some(ring.start(Op::Accept(self.clone()), entry)));
    }

    pub(super) fn accepted(self: &Rc<Self>, ring: &Inner, result: io::Result<u32>, more: bool) {
        if !more {
            self.armed.set(None);
        }
        let accepted = result.map(owned);
        let cancelled = matches!(&accepted, Err(e) if e.raw_os_error() == Some(nix::libc::ECANCELED));
        if !cancelled {
            let mut waiting = self.waiting.borrow_mut();
            waiting.push_back(accepted);
            if waiting.len() >= WAITING_MAX
                && !self.key_pending_cancel.replace(true)
                && let Some(key) = self.armed.get()
            {
                ring.cancel(key);
            }
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

#[expect(unsafe_code, reason = "a completion carries a bare descriptor")]
fn owned(fd: u32) -> OwnedFd {
    // SAFETY: an accept's result is a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) }
}
