//! An in-memory connection: what playbooks talk through, and what carries one conversation inside another.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::buf::{Chunk, Chunks};

/// One end of an in-memory connection.
pub struct Pipe {
    incoming: Rc<Lane>,
    outgoing: Rc<Lane>,
    local_addr: Option<SocketAddr>,
}

#[derive(Default)]
struct Lane {
    queue: RefCell<VecDeque<Chunk>>,
    queued: Cell<usize>,
    ended: Cell<bool>,
    reset: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

impl Pipe {
    /// Two ends of one connection.
    pub fn pair() -> (Pipe, Pipe) {
        let (a, b) = (Rc::<Lane>::default(), Rc::<Lane>::default());
        let one = Pipe { incoming: a.clone(), outgoing: b.clone(), local_addr: None };
        (one, Pipe { incoming: b, outgoing: a, local_addr: None })
    }

    /// What `local_addr` is to say.
    #[must_use]
    pub fn with_local_addr(mut self, addr: SocketAddr) -> Self {
        self.local_addr = Some(addr);
        self
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Bytes that have arrived, empty at the end.
    ///
    /// # Errors
    /// The other end was reset.
    pub fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        let lane = &self.incoming;
        if let Some(chunk) = lane.queue.borrow_mut().pop_front() {
            lane.queued.set(lane.queued.get() - chunk.len());
            if let Some(waker) = lane.writer.take() {
                waker.wake();
            }
            return Poll::Ready(Ok(chunk));
        }
        if lane.reset.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if lane.ended.get() {
            return Poll::Ready(Ok(Chunk::default()));
        }
        *lane.reader.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn queue(&self, chunks: Chunks) -> io::Result<()> {
        let lane = &self.outgoing;
        if lane.ended.get() || lane.reset.get() || Rc::strong_count(lane) == 1 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        for chunk in chunks {
            lane.queued.set(lane.queued.get() + chunk.len());
            lane.queue.borrow_mut().push_back(chunk);
        }
        lane.wake_reader();
        Ok(())
    }

    pub(super) fn poll_queue_below(&self, limit: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let lane = &self.outgoing;
        // nobody will ever read what waits for a dropped end
        if lane.queued.get() <= limit.max(1 << 16) || Rc::strong_count(lane) == 1 {
            return Poll::Ready(Ok(()));
        }
        *lane.writer.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Nothing more follows.
    pub fn shutdown_write(&self) {
        self.outgoing.ended.set(true);
        self.outgoing.wake_reader();
    }

    /// The other end meets a reset.
    pub fn reset(&self) {
        self.outgoing.reset.set(true);
        self.outgoing.wake_reader();
    }

    /// The other end has closed, with nothing left to read.
    pub fn has_ended(&self) -> bool {
        let lane = &self.incoming;
        lane.queue.borrow().is_empty() && (lane.ended.get() || lane.reset.get())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.outgoing.ended.set(true);
        self.outgoing.wake_reader();
        if let Some(waker) = self.incoming.writer.take() {
            waker.wake();
        }
    }
}

impl Lane {
    fn wake_reader(&self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}
