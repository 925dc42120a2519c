//! What a conversation reads from and writes to: a socket, an in-memory pipe, or either of them wearing a
//! [`Transform`] such as TLS.
//!
//! `&self` everywhere: one reader and one writer at a time. A dropped `read` or `peek` loses nothing; a dropped
//! `write` has queued its bytes whole, so no record is ever torn.

mod pipe;
mod transform;

#[cfg(any(test, feature = "testing"))]
pub(crate) use pipe::Fault;
pub use pipe::Pipe;
pub use transform::{Step, Transform, TransformError};

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use crate::buf::{Buffer, Chunk, Chunks};
use crate::ring::TcpStream;

/// Bytes of one seal: a queue of sealed records never runs ahead of the peer by more than its limit and this.
const SEAL_MAX: usize = 256 * 1024;

/// A byte stream in both directions.
pub struct Stream {
    kind: Kind,
    /// Bytes that were read but not consumed.
    ahead: RefCell<VecDeque<Chunk>>,
}

enum Kind {
    Tcp(TcpStream),
    Pipe(Pipe),
    Wrapped(Box<Wrapped>),
}

struct Wrapped {
    below: Stream,
    transform: RefCell<Box<dyn Transform>>,
    /// The peer said that nothing follows: closed properly, as far as the transform can tell.
    ended: Cell<bool>,
    failed: RefCell<Option<TransformError>>,
    write_closed: Cell<bool>,
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self { kind: Kind::Tcp(tcp), ahead: RefCell::default() }
    }
}

impl From<Pipe> for Stream {
    fn from(pipe: Pipe) -> Self {
        Self { kind: Kind::Pipe(pipe), ahead: RefCell::default() }
    }
}

impl Stream {
    /// This stream seen through a transform whose handshake is done; `early` is what it has opened already.
    pub fn wrap(self, transform: Box<dyn Transform>, early: Step) -> Self {
        let ended = Cell::new(early.ended);
        let wrapped = Wrapped {
            below: self,
            transform: RefCell::new(transform),
            ended,
            failed: RefCell::default(),
            write_closed: Cell::new(false),
        };
        Self {
            kind: Kind::Wrapped(Box::new(wrapped)),
            ahead: RefCell::new(early.plain.into_iter().collect()),
        }
    }

    /// The next bytes; empty at the end of the stream.
    ///
    /// # Errors
    /// The connection's error, or a transform's: a broken record, an end without goodbye.
    pub async fn read(&self) -> io::Result<Chunk> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Like [`read`](Self::read), for a task that waits for several things.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        if let Some(chunk) = self.ahead.borrow_mut().pop_front() {
            return Poll::Ready(Ok(chunk));
        }
        match &self.kind {
            Kind::Tcp(tcp) => {
                tcp.poll_read(cx).map_ok(|buffer| buffer.map(Buffer::freeze).unwrap_or_default())
            }
            Kind::Pipe(pipe) => pipe.poll_read(cx),
            Kind::Wrapped(wrapped) => self.poll_read_wrapped(wrapped, cx),
        }
    }

    fn poll_read_wrapped(&self, wrapped: &Wrapped, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        loop {
            if let Some(error) = &*wrapped.failed.borrow() {
                return Poll::Ready(Err(error.clone().into()));
            }
            if wrapped.ended.get() {
                return Poll::Ready(Ok(Chunk::default()));
            }
            let mut step = Step::default();
            match wrapped.below.poll_read_buffer(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Ready(Ok(None)) => {
                    let cut = TransformError::truncated();
                    let error = io::Error::from(cut.clone());
                    *wrapped.failed.borrow_mut() = Some(cut);
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Ok(Some(wire))) => {
                    if let Err(error) = wrapped.transform.borrow_mut().open(wire, &mut step) {
                        *wrapped.failed.borrow_mut() = Some(error);
                    }
                }
            }
            if !step.wire.is_empty() {
                // answers to the peer's handshake messages, or an alert; its failure shows at the next write
                let _ = wrapped.below.queue(step.wire);
            }
            wrapped.ended.set(step.ended);
            let mut opened = step.plain.into_iter();
            if let Some(first) = opened.next() {
                self.ahead.borrow_mut().extend(opened);
                return Poll::Ready(Ok(first));
            }
        }
    }

    /// Exclusive bytes, for a transform that works in place.
    fn poll_read_buffer(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Buffer>>> {
        if let Some(chunk) = self.ahead.borrow_mut().pop_front() {
            return Poll::Ready(Ok(Some(Buffer::copied(&chunk))));
        }
        match &self.kind {
            Kind::Tcp(tcp) => tcp.poll_read(cx),
            Kind::Pipe(_) | Kind::Wrapped(_) => self.poll_read(cx).map_ok(|chunk| match chunk.is_empty() {
                true => None,
                false => Some(Buffer::copied(&chunk)),
            }),
        }
    }

    /// Exclusive bytes as they are on the wire below any transform to come; `None` at the end.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn read_buffer(&self) -> io::Result<Option<Buffer>> {
        poll_fn(|cx| self.poll_read_buffer(cx)).await
    }

    /// At least `at_least` of the next bytes in one chunk, without consuming them; fewer at the end.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn peek(&self, at_least: usize) -> io::Result<Chunk> {
        loop {
            {
                let mut ahead = self.ahead.borrow_mut();
                let held: usize = ahead.iter().map(|chunk| chunk.len()).sum();
                if held >= at_least && held > 0 {
                    if ahead[0].len() < at_least {
                        let joined: Vec<u8> = ahead.iter().flat_map(|chunk| chunk.iter().copied()).collect();
                        ahead.clear();
                        ahead.push_back(joined.into());
                    }
                    return Ok(ahead[0].clone());
                }
            }
            let next = poll_fn(|cx| self.poll_more(cx)).await?;
            let mut ahead = self.ahead.borrow_mut();
            if next.is_empty() {
                let joined: Vec<u8> = ahead.iter().flat_map(|chunk| chunk.iter().copied()).collect();
                return Ok(joined.into());
            }
            ahead.push_back(next);
        }
    }

    /// What has come and was not read, as far as it lies in one piece; empty if there is none.
    pub fn held(&self) -> Chunk {
        self.ahead.borrow().front().cloned().unwrap_or_default()
    }

    /// The bytes after those held ahead.
    fn poll_more(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        let held = self.ahead.take();
        let polled = self.poll_read(cx);
        let mut opened = self.ahead.replace(held);
        match polled {
            Poll::Ready(Ok(first)) if !opened.is_empty() => {
                let mut ahead = self.ahead.borrow_mut();
                ahead.push_back(first);
                let last = opened.pop_back().unwrap_or_default();
                ahead.append(&mut opened);
                Poll::Ready(Ok(last))
            }
            other => other,
        }
    }

    /// Gives bytes back: they are read next.
    pub fn unread(&self, chunk: Chunk) {
        if !chunk.is_empty() {
            self.ahead.borrow_mut().push_front(chunk);
        }
    }

    /// Sends bytes; ready when the queue has room for more.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn write(&self, chunks: impl Into<Chunks>) -> io::Result<()> {
        self.queue(chunks.into())?;
        poll_fn(|cx| self.poll_queue(None, cx)).await
    }

    /// Queues bytes without waiting: for answers of bounded size.
    ///
    /// # Errors
    /// The connection's error.
    pub fn queue(&self, chunks: Chunks) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(tcp) => tcp.queue(chunks),
            Kind::Pipe(pipe) => pipe.queue(chunks),
            Kind::Wrapped(wrapped) => {
                if wrapped.write_closed.get() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                let mut step = Step::default();
                wrapped.transform.borrow_mut().seal(chunks, &mut step)?;
                wrapped.below.queue(step.wire)
            }
        }
    }

    /// Waits until all queued bytes are the kernel's.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_queue(Some(0), cx)).await
    }

    /// Whether what comes next can be moved to `to` without being read: both are plain sockets, bytes come faster than
    /// they are read, and none of them is held here.
    pub fn can_splice_to(&self, to: &Stream) -> bool {
        match (&self.kind, &to.kind) {
            (Kind::Tcp(from), Kind::Tcp(_)) => self.ahead.borrow().is_empty() && from.can_splice(),
            _ => false,
        }
    }

    /// Whether the peer is on this machine, over a plain socket.
    pub fn peer_is_here(&self) -> bool {
        matches!(&self.kind, Kind::Tcp(tcp) if tcp.peer_is_here())
    }

    /// Moves what comes to another stream, as long as that can be done and is worth it; reading goes on after that.
    /// See [`TcpStream::splice_to`].
    ///
    /// # Errors
    /// The other connection's error.
    pub async fn splice_to(&self, to: &Stream, moved: impl Fn()) -> io::Result<()> {
        match (&self.kind, &to.kind) {
            (Kind::Tcp(from), Kind::Tcp(to)) if self.ahead.borrow().is_empty() => {
                from.splice_to(to, moved).await
            }
            _ => Ok(()),
        }
    }

    fn poll_queue(&self, limit: Option<usize>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.kind {
            Kind::Tcp(tcp) => tcp.poll_queue_below(limit.unwrap_or_else(|| tcp.queue_max()), cx),
            Kind::Pipe(pipe) => pipe.poll_queue_below(limit.unwrap_or(SEAL_MAX), cx),
            Kind::Wrapped(wrapped) => wrapped.below.poll_queue(limit, cx),
        }
    }

    /// Says that nothing more follows (a close_notify in TLS, then FIN), after all that is queued.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn shutdown_write(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(tcp) => {
                self.flush().await?;
                tcp.shutdown_write()
            }
            Kind::Pipe(pipe) => {
                pipe.shutdown_write();
                Ok(())
            }
            Kind::Wrapped(wrapped) => {
                if !wrapped.write_closed.replace(true) {
                    let mut step = Step::default();
                    wrapped.transform.borrow_mut().close(&mut step);
                    wrapped.below.queue(step.wire)?;
                }
                Box::pin(wrapped.below.shutdown_write()).await
            }
        }
    }

    /// Ends our direction after all that is queued, without the goodbye of the transforms it wears: the peer
    /// sees that something is missing, as it would have seen without us.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn cut_short(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Wrapped(wrapped) => {
                wrapped.write_closed.set(true);
                Box::pin(wrapped.below.cut_short()).await
            }
            Kind::Tcp(_) | Kind::Pipe(_) => self.shutdown_write().await,
        }
    }

    /// Whether nothing has come that was not read: neither bytes nor an end. Bytes that have come are kept.
    pub fn is_quiet(&self) -> bool {
        if !self.ahead.borrow().is_empty() {
            return false;
        }
        match self.poll_more(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => true,
            Poll::Ready(Ok(chunk)) => {
                self.unread(chunk);
                false
            }
            Poll::Ready(Err(_)) => false,
        }
    }

    /// Whether the peer is known to have closed, with nothing left to read.
    pub fn has_ended(&self) -> bool {
        if !self.ahead.borrow().is_empty() {
            return false;
        }
        match &self.kind {
            Kind::Tcp(tcp) => tcp.has_ended(),
            Kind::Pipe(pipe) => pipe.has_ended(),
            Kind::Wrapped(wrapped) => {
                wrapped.ended.get() || wrapped.failed.borrow().is_some() || wrapped.below.has_ended()
            }
        }
    }

    /// Closing will send a reset: the peer is to see that the conversation broke.
    pub fn reset_on_close(&self) {
        match &self.kind {
            Kind::Tcp(tcp) => tcp.reset_on_close(),
            Kind::Pipe(pipe) => pipe.reset(),
            Kind::Wrapped(wrapped) => wrapped.below.reset_on_close(),
        }
    }

    /// Our address on the connection below, where there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(tcp) => tcp.local_addr().ok(),
            Kind::Pipe(pipe) => pipe.local_addr(),
            Kind::Wrapped(wrapped) => wrapped.below.local_addr(),
        }
    }
}
