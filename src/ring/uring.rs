//! The second ring: operations, their slots, and the turn that submits and reaps.
#![expect(unsafe_code, reason = "submission entries carry pointers the kernel follows")]

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use super::listener::Listening;
use super::pipes::Pipes;
use super::provided::Provided;
use super::tcp::{Connecting, Socket};
use crate::buf::BlockPool;

/// Bytes of an exclusive buffer for streams that fill ordinary ones again and again.
pub(super) const BULK_SIZE: usize = 256 * 1024;
/// Such buffers per worker: a stream that finds none goes on with ordinary ones.
const BULK_MAX: usize = 12;
/// Of those, kept when nobody uses them.
const BULK_IDLE_MAX: usize = 4;
/// Submission entries.
const SQ_ENTRIES: u32 = 512;
/// Completion entries: several for each of some thousand busy sockets.
const CQ_ENTRIES: u32 = 8192;
/// `user_data` of operations whose completion says nothing.
const NOBODY: u64 = u64::MAX;
/// `user_data` of the tick.
const TICKED: u64 = u64::MAX - 1;

/// Unused buffers that stay when the rest is given back.
const SHED_KEEPS: usize = 32;

/// How a ring is set up.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions {
    /// Buffers that may be out at once.
    pub buffers_max: usize,
    /// Unused buffers kept for the next receive.
    pub buffers_idle_max: usize,
    /// Submission entries, a power of two; a full queue is submitted at once.
    pub sq_entries: u32,
    /// Completion entries, a power of two and no fewer; the kernel keeps what overflows.
    pub cq_entries: u32,
}

impl Default for RingOptions {
    /// A small pool before queues of the usual size.
    fn default() -> Self {
        Self { buffers_max: 128, buffers_idle_max: 8, sq_entries: SQ_ENTRIES, cq_entries: CQ_ENTRIES }
    }
}

/// What happened on a ring, counted from its start.
#[derive(Debug, Default)]
pub struct Facts {
    /// Turns in which the kernel kept completions aside because their queue was full.
    pub cq_overflows: Cell<u64>,
    /// Submissions ahead of their turn because the queue was full.
    pub sq_full: Cell<u64>,
    /// Receives that found no buffer.
    pub enobufs: Cell<u64>,
    /// Bytes moved from one connection to another without being copied.
    pub spliced: Cell<u64>,
    /// Bytes on connections with clients.
    pub client: Traffic,
    /// Bytes on connections with servers.
    pub server: Traffic,
}

/// Bytes of one side's connections, as the kernel saw them: TLS records, not what is in them.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Received.
    pub received: Cell<u64>,
    /// Sent.
    pub sent: Cell<u64>,
}

impl Facts {
    /// The traffic of connections we accepted, or of those we made.
    pub(super) fn traffic(&self, accepted: bool) -> &Traffic {
        if accepted { &self.client } else { &self.server }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &Cell<u64>, n: usize) {
    counter.set(counter.get() + n as u64);
}

/// A worker's ring for sockets. Clones share it.
#[derive(Clone)]
pub struct Ring(pub(super) Rc<Inner>);

pub(super) struct Inner {
    uring: RefCell<IoUring>,
    ops: RefCell<Slab<Op>>,
    pub(super) provided: RefCell<Provided>,
    pub(super) pool: Rc<BlockPool>,
    pub(super) bulk: Rc<BlockPool>,
    pub(super) pipes: Rc<Pipes>,
    /// Entries pushed since the last turn.
    queued: Cell<u32>,
    driver: RefCell<Option<Waker>>,
    scratch: RefCell<Vec<(u64, i32, u32)>>,
    pub(super) facts: Facts,
    /// Completions raise the eventfd.
    raising: Cell<bool>,
    /// The tick is under way.
    ticking: Cell<bool>,
    /// A completion has woken somebody.
    woken: Cell<bool>,
}

/// Who waits for an operation's completions. Holding the owner here keeps its descriptor and memory alive
/// until the last one has come.
#[derive(Clone)]
pub(super) enum Op {
    Recv(Rc<Socket>),
    Poll(Rc<Socket>),
    Send(Rc<Socket>),
    Room(Rc<Socket>),
    Connect(Rc<Connecting>),
    Accept(Rc<Listening>),
}

impl Ring {
    /// Sets the ring up on this thread.
    ///
    /// # Errors
    /// What the kernel says; [`super::probe`] turns it into words.
    pub fn new(options: RingOptions) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_defer_taskrun()
            .setup_single_issuer()
            .setup_submit_all()
            .setup_cqsize(options.cq_entries)
            .build(options.sq_entries)?;
        let pool = BlockPool::new(options.buffers_max, options.buffers_idle_max);
        let provided = Provided::register(&uring, &pool)?;
        Ok(Self(Rc::new(Inner {
            uring: RefCell::new(uring),
            ops: RefCell::default(),
            provided: RefCell::new(provided),
            pool,
            bulk: BlockPool::sized(BULK_SIZE, BULK_MAX, BULK_IDLE_MAX),
            pipes: Rc::default(),
            queued: Cell::new(0),
            driver: RefCell::default(),
            scratch: RefCell::default(),
            facts: Facts::default(),
            raising: Cell::new(true),
            ticking: Cell::new(false),
            woken: Cell::new(false),
        })))
    }

    /// Frees unused buffers but for a few.
    pub fn shed(&self) {
        self.0.pool.shed(SHED_KEEPS);
        self.0.bulk.shed(0);
    }

    /// The worker's pool of buffers.
    pub fn pool(&self) -> Rc<BlockPool> {
        self.0.pool.clone()
    }

    /// Buffers held by sessions: those out of the pool that are not lent to the kernel.
    pub fn buffers_in_use(&self) -> usize {
        self.0.pool.in_use() - self.0.provided.borrow().published() + self.0.bulk.in_use()
    }

    /// Operations the kernel has not finished.
    pub fn ops_in_flight(&self) -> usize {
        self.0.ops.borrow().len()
    }

    /// What happened on the ring.
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// The worker's pool of big buffers, for streams that fill ordinary ones again and again.
    pub fn bulk_pool(&self) -> Rc<BlockPool> {
        self.0.bulk.clone()
    }

    /// An eventfd that the kernel writes to whenever there is something to reap.
    pub(super) fn register_eventfd(&self) -> io::Result<OwnedFd> {
        // SAFETY: eventfd takes no pointers; a non-negative result is a descriptor nobody else owns.
        let fd = unsafe {
            let fd = nix::libc::eventfd(0, nix::libc::EFD_CLOEXEC | nix::libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        self.0.uring.borrow().submitter().register_eventfd(fd.as_raw_fd())?;
        Ok(fd)
    }

    /// Submits what was queued and delivers what has completed; says how many completions there were.
    ///
    /// # Errors
    /// A failure of the system call itself; failures of operations go to their owners.
    pub(super) fn turn(&self) -> io::Result<usize> {
        self.0.turn(0)
    }

    /// Like [`turn`](Self::turn), but sleeps in the kernel until there is something to reap. The tick sees to it
    /// that this ends.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub(super) fn linger(&self) -> io::Result<usize> {
        if !self.0.ticking.replace(true) {
            let tick = opcode::Timeout::new(&raw const TICK).build();
            self.0.push(tick.user_data(TICKED));
        }
        self.0.turn(1)
    }

    /// Whether the last turns woke a task: if not, there is nothing to let run.
    pub(super) fn take_woken(&self) -> bool {
        self.0.woken.replace(false)
    }

    /// Ready when operations were queued since the last turn.
    pub(super) fn poll_queued(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.queued.get() > 0 {
            return Poll::Ready(());
        }
        *self.0.driver.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether completions are to raise the eventfd. While turns follow each other anyway, it is left alone: a
    /// raise costs the kernel a lock and a wake-up.
    pub(super) fn raise_events(&self, on: bool) {
        if self.0.raising.replace(on) == on {
            return;
        }
        let mut uring = self.0.uring.borrow_mut();
        let cq = uring.completion();
        if on {
            cq.enable_eventfd();
        } else {
            cq.disable_eventfd();
        }
    }

    pub(super) fn has_queued(&self) -> bool {
        self.0.queued.get() > 0
    }
}

impl Inner {
    /// Queues an operation whose completions go to `op`; gives its slot.
    pub(super) fn start(&self, op: Op, entry: squeue::Entry) -> usize {
        let key = self.ops.borrow_mut().insert(op);
        self.push(entry.user_data(key as u64));
        key
    }

    /// Asks the kernel to end an operation early. Its slot lives on until the last completion.
    pub(super) fn cancel(&self, key: usize) {
        self.push(opcode::AsyncCancel::new(key as u64).build().user_data(NOBODY));
    }

    fn push(&self, entry: squeue::Entry) {
        let mut uring = self.uring.borrow_mut();
        // SAFETY: whatever the entry points to is owned by the slot of its `user_data`, which is kept until
        // the last completion.
        while unsafe { uring.submission().push(&entry) }.is_err() {
            add(&self.facts.sq_full, 1);
            // A full queue is emptied by the kernel at submission. EBUSY and EAGAIN pass.
            let _ = uring.submit();
        }
        if self.queued.replace(self.queued.get() + 1) == 0
            && let Some(waker) = self.driver.borrow_mut().take()
        {
            waker.wake();
        }
    }

    fn turn(&self, wait_for: u32) -> io::Result<usize> {
        let mut scratch = self.scratch.take();
        {
            let mut uring = self.uring.borrow_mut();
            self.queued.set(0);
            let (submitter, mut sq, mut cq) = uring.split();
            sq.sync();
            if sq.cq_overflow() {
                add(&self.facts.cq_overflows, 1);
            }
            let to_submit = u32::try_from(sq.len()).unwrap_or(u32::MAX);
            drop(sq);
            // SAFETY: no argument is passed; entries were checked at push.
            let entered = unsafe { submitter.enter::<()>(to_submit, wait_for, ENTER_GETEVENTS, None) };
            match entered {
                Ok(_) => {}
                // the kernel wants completions to be reaped first, or was interrupted
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(nix::libc::EBUSY | nix::libc::EAGAIN | nix::libc::EINTR)
                    ) =>
                {
                    self.queued.set(1);
                }
                Err(e) => return Err(e),
            }
            cq.sync();
            scratch.extend(cq.map(|cqe| (cqe.user_data(), cqe.result(), cqe.flags())));
        }
        let mut reaped = scratch.len();
        for (key, result, flags) in scratch.drain(..) {
            match key {
                NOBODY => {}
                TICKED => {
                    self.ticking.set(false);
                    self.woken.set(true);
                    reaped -= 1;
                }
                _ => self.complete(usize::try_from(key).unwrap_or(usize::MAX), result, flags),
            }
        }
        self.scratch.replace(scratch);
        Ok(reaped)
    }

    fn complete(&self, key: usize, result: i32, flags: u32) {
        let more = cqueue::more(flags);
        let op = {
            let mut ops = self.ops.borrow_mut();
            if more { ops.get(key).cloned() } else { ops.try_remove(key) }
        };
        let result =
            if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result.unsigned_abs()) };
        match op {
            Some(Op::Recv(socket)) => {
                let buffer = cqueue::buffer_select(flags).map(|bid| {
                    self.provided.borrow_mut().take(bid, result.as_ref().map_or(0, |n| *n as usize))
                });
                self.provided.borrow_mut().refill(&self.pool);
                socket.received(self, result, buffer, more);
            }
            Some(Op::Poll(socket)) => socket.polled(result),
            Some(Op::Room(socket)) => socket.has_room(self),
            // most often nobody waits for it
            Some(Op::Send(socket)) => {
                if !socket.sent(self, result) {
                    return;
                }
            }
            Some(Op::Connect(connecting)) => connecting.done(result),
            Some(Op::Accept(listening)) => listening.accepted(self, result, more),
            None => debug_assert!(false, "a completion belongs to a slot"),
        }
        self.woken.set(true);
    }
}

const ENTER_GETEVENTS: u32 = 1;

/// How often a worker that sleeps in its ring looks after everything else it waits for: mail and timers may be
/// late by so much while there is traffic. One timer for all sleeps of that time: a timer for each would cost
/// more than it saves.
static TICK: types::Timespec = types::Timespec::new().nsec(5_000_000);
