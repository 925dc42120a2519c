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

    /// Stops accepting: when this is ready, the kernel takes no more for us, and what it has taken is here, for
    /// [`TcpListener::accepted`]. Others wait in the socket's queue, for [`TcpListener::accept`] or for whoever else
    /// has the socket.
    pub async fn pause(&self) {
        poll_fn(|cx| {
            let shared = &self.shared;
            let Some(key) = shared.armed.get() else { return Poll::Ready(()) };
            if !shared.key_pending_cancel.replace(true) {
                self.ring.0.cancel(key);
            }
            *shared.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A connection that was accepted before a pause.
    pub fn accepted(&self) -> Option<io::Result<TcpStream>> {
        let next = self.shared.waiting.borrow_mut().pop_front();
        next.map(|fd| fd.map(|fd| TcpStream::from_fd(&self.ring, fd, true)))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ring::{RingOptions, runtime};

    #[test]
    fn a_paused_listener_leaves_new_connections_to_others() {
        let options = RingOptions::default();
        let done = runtime::run(options, |ring| async move {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
            let addr = socket.local_addr().expect("its address");
            let other = socket.try_clone().expect("a second hand on it");
            other.set_nonblocking(true).expect("asked");
            let listener = TcpListener::new(&ring, socket.into());
            let connect = || std::net::TcpStream::connect(addr).expect("connected");
            let _first = connect();
            listener.accept().await.expect("the first");
            // armed: the kernel accepts this one for us before we ask for it
            let _second = connect();
            tokio::time::sleep(Duration::from_millis(50)).await;
            listener.pause().await;
            listener.accepted().expect("taken before the pause").expect("the second");
            let _third = connect();
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(listener.accepted().is_none(), "nothing is taken during the pause");
            other.accept().expect("it waits for whoever accepts");
            let _fourth = connect();
            listener.accept().await.expect("accepting goes on");
            listener.pause().await;
            listener.pause().await;
            ring.ops_in_flight()
        });
        assert_eq!(done.expect("a ring"), 0);
    }
}
