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
    #[cfg(any(test, feature = "testing"))]
    fault: Fault,
}

/// What a test lets go wrong on an end, as a socket may.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug, Default)]
pub struct Fault {
    /// Reading fails once so many bytes have been read.
    pub read: Option<(usize, io::ErrorKind)>,
    /// Sending fails once so many bytes have been taken; what is queued beyond is lost.
    pub write: Option<(usize, io::ErrorKind)>,
    /// The other end takes no more than so many bytes, and says nothing of it.
    pub stalls: Option<usize>,
    pub was_read: Cell<usize>,
    pub was_written: Cell<usize>,
}

#[cfg(any(test, feature = "testing"))]
impl Fault {
    fn of_reading(&self, read: usize) -> Option<io::Error> {
        self.was_read.set(self.was_read.get() + read);
        self.read.filter(|(after, _)| self.was_read.get() >= *after).map(|(_, kind)| kind.into())
    }

    fn of_writing(&self) -> Option<io::Error> {
        self.write.filter(|(after, _)| self.was_written.get() >= *after).map(|(_, kind)| kind.into())
    }

    /// How much of this the other end will see.
    fn passes(&self, len: usize) -> usize {
        let before = self.was_written.get();
        self.was_written.set(before + len);
        let most = [self.write.map(|(after, _)| after), self.stalls].into_iter().flatten().min();
        most.map_or(len, |most| most.saturating_sub(before).min(len))
    }

    fn is_stalled(&self) -> bool {
        self.stalls.is_some_and(|after| self.was_written.get() > after)
    }
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
        let end = |incoming: &Rc<Lane>, outgoing: &Rc<Lane>| Pipe {
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
            local_addr: None,
            #[cfg(any(test, feature = "testing"))]
            fault: Fault::default(),
        };
        (end(&a, &b), end(&b, &a))
    }

    /// An end on which something goes wrong.
    #[cfg(any(test, feature = "testing"))]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
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
        #[cfg(any(test, feature = "testing"))]
        if let Some(error) = self.fault.of_reading(0) {
            return Poll::Ready(Err(error));
        }
        if let Some(chunk) = lane.queue.borrow_mut().pop_front() {
            lane.queued.set(lane.queued.get() - chunk.len());
            if let Some(waker) = lane.writer.take() {
                waker.wake();
            }
            #[cfg(any(test, feature = "testing"))]
            let _ = self.fault.of_reading(chunk.len());
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
        #[cfg(any(test, feature = "testing"))]
        if let Some(error) = self.fault.of_writing() {
            return Err(error);
        }
        for chunk in chunks {
            #[cfg(any(test, feature = "testing"))]
            let chunk = {
                let mut chunk = chunk;
                chunk.split_to(self.fault.passes(chunk.len()))
            };
            lane.queued.set(lane.queued.get() + chunk.len());
            lane.queue.borrow_mut().push_back(chunk);
        }
        lane.wake_reader();
        Ok(())
    }

    pub(super) fn poll_queue_below(&self, limit: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let lane = &self.outgoing;
        #[cfg(any(test, feature = "testing"))]
        if let Some(error) = self.fault.of_writing() {
            return Poll::Ready(Err(error));
        }
        #[cfg(any(test, feature = "testing"))]
        if self.fault.is_stalled() {
            return Poll::Pending;
        }
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
