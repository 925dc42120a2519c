//! TCP over the ring: reads that lose nothing when dropped, one send in flight, nothing pinned while idle.
//!
//! ```text
//! receive:  idle ──read──▶ multishot into provided buffers ──two full buffers──▶ bulk: poll, then plain
//!            ▲                   │ queue full                                     receive of 256 KB
//!            └────drained────────┘ (next receive is a single one: this reader is slow)
//! ```
//! A slow reader thus costs at most [`RECV_QUEUE_MAX`]; a fast sender finds big buffers.
#![expect(unsafe_code, reason = "receive and send take pointers to buffers")]

mod splice;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{opcode, squeue, types};
use nix::libc;
use socket2::{SockAddr, SockRef};

use super::provided::GROUP;
use super::sockopt;
use super::uring::{Inner, Op, Ring, add};
use crate::buf::{BLOCK_SIZE, Buffer, Chunk, Chunks};

/// Received bytes a stream may hold before its multishot receive is paused.
const RECV_QUEUE_MAX: usize = 8 * BLOCK_SIZE;
/// The same while the worker's pool is under pressure.
const RECV_QUEUE_PRESSED_MAX: usize = 1;
/// Queued bytes above which a writer waits.
const SEND_QUEUE_MAX: usize = 144 * 1024;
/// Chunks in one send.
const IOVECS_MAX: usize = 32;
/// A buffer this full says that the sender is faster than we read.
const FULL: usize = BLOCK_SIZE - 1;
/// Full buffers in a row that make a stream bulk, and smaller reads in a row that end that.
const BULK_AFTER: u8 = 2;
const BULK_UNTIL: u8 = 8;
/// Bytes a bulk stream may read before other tasks get their turn.
const BULK_RUN_MAX: usize = 1 << 20;
/// Bytes read at once when the pool is at its limit.
const STARVED_READ: usize = 4096;

/// A connected socket.
pub struct TcpStream {
    ring: Ring,
    socket: Rc<Socket>,
}

pub(super) struct Socket {
    fd: OwnedFd,
    /// A client's; else a server's.
    accepted: bool,
    closed: Cell<bool>,
    /// Closing resets: a FIN before that would look like a proper end.
    resets: Cell<bool>,
    /// Another connection's bytes are moved here: it is non-blocking.
    spliced_into: Cell<bool>,
    recv: RefCell<Recv>,
    send: RefCell<Send>,
}

#[derive(Default)]
struct Recv {
    queue: VecDeque<Buffer>,
    queued: usize,
    armed: Option<usize>,
    cancelling: bool,
    end: Option<End>,
    waker: Option<Waker>,
    full_streak: u8,
    small_streak: u8,
    bulk: bool,
    slow_reader: bool,
    starved: bool,
    run: usize,
}

#[derive(Clone, Copy)]
enum End {
    Eof,
    Error(i32),
}

#[derive(Default)]
struct Send {
    /// The first `in_flight` chunks belong to the kernel.
    queue: VecDeque<Chunk>,
    queued: usize,
    in_flight: Option<usize>,
    error: Option<i32>,
    waker: Option<Waker>,
    message: Option<Box<Message>>,
}

/// What a vectored send points to.
struct Message {
    header: libc::msghdr,
    iovecs: [libc::iovec; IOVECS_MAX],
}

/// How a connection to a server is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectOptions {
    /// `SO_MARK` of our upstream sockets, so that rules leave them alone.
    pub mark: Option<u32>,
    /// The most the kernel keeps of what was received and not read, in bytes; `None`: what `tcp_rmem` allows.
    pub receive_max: Option<usize>,
    /// Our own address on the connection.
    pub bind: Option<SocketAddr>,
}

impl TcpStream {
    /// Takes over a connected, blocking socket (a non-blocking one would fail where the ring would wait): one we
    /// `accepted`, or made.
    pub fn from_fd(ring: &Ring, fd: OwnedFd, accepted: bool) -> Self {
        let socket = Socket {
            fd,
            accepted,
            closed: Cell::new(false),
            resets: Cell::new(false),
            spliced_into: Cell::new(false),
            recv: RefCell::default(),
            send: RefCell::default(),
        };
        Self { ring: ring.clone(), socket: Rc::new(socket) }
    }

    /// Connects. Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// What the kernel says: refused, unreachable, out of ports.
    pub async fn connect(ring: &Ring, addr: SocketAddr, options: ConnectOptions) -> io::Result<Self> {
        let fd = sockopt::upstream_socket(addr, options)?;
        let raw = types::Fd(fd.as_raw_fd());
        let addr = SockAddr::from(addr);
        let fd = RefCell::new(Some(fd));
        let connecting =
            Rc::new(Connecting { fd, addr, result: RefCell::default(), waker: RefCell::default() });
        let entry = opcode::Connect::new(raw, connecting.addr.as_ptr().cast(), connecting.addr.len());
        let key = ring.0.start(Op::Connect(connecting.clone()), entry.build());
        let mut guard = CancelConnect { ring, connecting: &connecting, key: Some(key) };
        let result = poll_fn(|cx| {
            if let Some(result) = connecting.result.borrow_mut().take() {
                return Poll::Ready(result);
            }
            *connecting.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        guard.key = None;
        result?;
        let fd = connecting.fd.borrow_mut().take();
        fd.map(|fd| Self::from_fd(ring, fd, false)).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Bytes that have arrived, or `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The connection's error, at this and every later call.
    pub fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Buffer>>> {
        self.socket.poll_read(&self.ring.0, cx)
    }

    /// Queues bytes to be sent, without waiting.
    ///
    /// # Errors
    /// The connection's error.
    pub fn queue(&self, chunks: Chunks) -> io::Result<()> {
        self.socket.queue(&self.ring.0, chunks)
    }

    /// Ready when no more than `limit` bytes wait to be sent.
    ///
    /// # Errors
    /// The connection's error.
    pub fn poll_queue_below(&self, limit: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut send = self.socket.send.borrow_mut();
        if let Some(errno) = send.error {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        if send.queued <= limit {
            return Poll::Ready(Ok(()));
        }
        send.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Queued bytes above which a writer should wait, as things stand.
    pub fn queue_max(&self) -> usize {
        if self.ring.0.pool.under_pressure() { 0 } else { SEND_QUEUE_MAX }
    }

    /// Tells the peer that nothing more follows, unless it is to see a reset. Queued bytes must have been sent
    /// before.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn shutdown_write(&self) -> io::Result<()> {
        if self.socket.resets.get() {
            return Ok(());
        }
        SockRef::from(&self.socket.fd).shutdown(std::net::Shutdown::Write)
    }

    /// Whether the peer has closed or the connection failed, as far as seen so far. Starts to look if nobody did.
    pub fn has_ended(&self) -> bool {
        let mut recv = self.socket.recv.borrow_mut();
        if recv.armed.is_none() && recv.end.is_none() && recv.queue.is_empty() {
            self.socket.arm(&self.ring.0, &mut recv);
        }
        recv.end.is_some()
    }

    /// Closing will send a reset: the peer is to see that the conversation broke.
    pub fn reset_on_close(&self) {
        self.socket.resets.set(true);
        let _ = SockRef::from(&self.socket.fd).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Our end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sockopt::local_addr(self.as_fd())
    }

    /// The other end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        sockopt::peer_addr(self.as_fd())
    }

    /// The socket itself.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd.as_fd()
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.socket.closed.set(true);
        if let Some(key) = self.socket.recv.borrow().armed {
            self.ring.0.cancel(key);
        }
        if let Some(key) = self.socket.send.borrow().in_flight {
            self.ring.0.cancel(key);
        }
    }
}

impl Socket {
    fn poll_read(
        self: &Rc<Self>,
        ring: &Rc<Inner>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Buffer>>> {
        let mut recv = self.recv.borrow_mut();
        if let Some(buffer) = recv.queue.pop_front() {
            recv.queued -= buffer.len();
            return Poll::Ready(Ok(Some(buffer)));
        }
        match recv.end {
            Some(End::Eof) => return Poll::Ready(Ok(None)),
            Some(End::Error(errno)) => return Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            None => {}
        }
        if recv.armed.is_none() {
            if recv.bulk || recv.starved {
                if recv.run > BULK_RUN_MAX {
                    recv.run = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if let Some(ready) = self.receive_now(ring, &mut recv) {
                    return Poll::Ready(ready);
                }
                recv.run = 0;
            }
            self.arm(ring, &mut recv);
        }
        match &recv.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => recv.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// A plain receive that does not wait: into a big buffer, if one is free.
    fn receive_now(&self, ring: &Inner, recv: &mut Recv) -> Option<io::Result<Option<Buffer>>> {
        let big = if ring.pool.under_pressure() { None } else { ring.bulk.take() };
        let mut buffer = big.or_else(|| ring.pool.take()).unwrap_or_else(|| Buffer::heap(STARVED_READ));
        let room = buffer.spare_mut();
        // SAFETY: the kernel writes at most `room.len()` bytes into memory we hold exclusively.
        let n = unsafe {
            libc::recv(self.fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT)
        };
        let Ok(n) = usize::try_from(n) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => None,
                _ => {
                    recv.end = Some(End::Error(error.raw_os_error().unwrap_or(libc::EIO)));
                    Some(Err(error))
                }
            };
        };
        if n == 0 {
            let end = self.end_of_stream();
            recv.end = Some(end);
            return Some(match end {
                End::Eof => Ok(None),
                End::Error(errno) => Err(io::Error::from_raw_os_error(errno)),
            });
        }
        recv.run += n;
        add(&ring.facts.traffic(self.accepted).received, n);
        recv.starved = false;
        if n < FULL {
            recv.small_streak += 1;
            if recv.small_streak >= BULK_UNTIL {
                (recv.bulk, recv.small_streak, recv.full_streak) = (false, 0, 0);
            }
        } else {
            recv.small_streak = 0;
        }
        buffer.advance(n);
        Some(Ok(Some(buffer)))
    }

    fn arm(self: &Rc<Self>, ring: &Rc<Inner>, recv: &mut Recv) {
        let fd = types::Fd(self.fd.as_raw_fd());
        let (op, entry) = if recv.bulk || recv.starved {
            (Op::Poll(self.clone()), opcode::PollAdd::new(fd, libc::POLLIN as u32).build())
        } else if recv.slow_reader || ring.pool.under_pressure() {
            // one buffer and no more: a multishot receive takes all that waits before it can be stopped
            let entry = opcode::Recv::new(fd, std::ptr::null_mut(), 0).buf_group(GROUP).build();
            (Op::Recv(self.clone()), entry.flags(squeue::Flags::BUFFER_SELECT))
        } else {
            (Op::Recv(self.clone()), opcode::RecvMulti::new(fd, GROUP).build())
        };
        // a reader that comes back to an empty queue keeps up again
        recv.slow_reader = false;
        recv.cancelling = false;
        recv.armed = Some(ring.start(op, entry));
    }

    pub(super) fn received(&self, ring: &Inner, result: io::Result<u32>, buffer: Option<Buffer>, more: bool) {
        let mut recv = self.recv.borrow_mut();
        if !more {
            recv.armed = None;
        }
        match result {
            Ok(0) => recv.end = Some(self.end_of_stream()),
            Ok(n) => {
                add(&ring.facts.traffic(self.accepted).received, n as usize);
                self.keep(ring, &mut recv, buffer);
            }
            Err(e) => match e.raw_os_error() {
                Some(libc::ENOBUFS) => {
                    add(&ring.facts.enobufs, 1);
                    recv.starved = true;
                }
                // a kernel that will not wait for a non-blocking socket: it is polled
                Some(libc::EAGAIN) => recv.starved = true,
                Some(libc::ECANCELED | libc::EINTR) => {}
                errno => recv.end = Some(End::Error(errno.unwrap_or(libc::EIO))),
            },
        }
        let waker = recv.waker.take();
        drop(recv);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What no more bytes means. The kernel tells of a reset once, to whoever asks first: where that was a send (which
    /// may have been cut short by it, and say only how far it got), what is left looks like a proper end. But a
    /// connection that ended properly in one direction is still connected while we send.
    fn end_of_stream(&self) -> End {
        let send = self.send.borrow();
        let sends = send.in_flight.is_some()
            || !send.queue.is_empty()
            || send.error.is_some()
            || self.spliced_into.get();
        if sends && SockRef::from(&self.fd).peer_addr().is_err() {
            return End::Error(libc::ECONNRESET);
        }
        End::Eof
    }

    fn keep(&self, ring: &Inner, recv: &mut Recv, buffer: Option<Buffer>) {
        let Some(buffer) = buffer else { return };
        if self.closed.get() {
            return;
        }
        recv.full_streak = if buffer.len() >= FULL { recv.full_streak.saturating_add(1) } else { 0 };
        recv.bulk |= recv.full_streak >= BULK_AFTER;
        recv.queued += buffer.len();
        recv.queue.push_back(buffer);
        let limit = if ring.pool.under_pressure() { RECV_QUEUE_PRESSED_MAX } else { RECV_QUEUE_MAX };
        let full = recv.queued >= limit;
        if let Some(key) = recv.armed
            && (full || recv.bulk)
            && !recv.cancelling
        {
            recv.slow_reader = full;
            recv.cancelling = true;
            ring.cancel(key);
        }
    }

    pub(super) fn polled(&self, result: io::Result<u32>) {
        let mut recv = self.recv.borrow_mut();
        recv.armed = None;
        if let Err(e) = result
            && e.raw_os_error() != Some(libc::ECANCELED)
        {
            recv.end = Some(End::Error(e.raw_os_error().unwrap_or(libc::EIO)));
        }
        let waker = recv.waker.take();
        drop(recv);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn queue(self: &Rc<Self>, ring: &Rc<Inner>, chunks: Chunks) -> io::Result<()> {
        let mut send = self.send.borrow_mut();
        if let Some(errno) = send.error {
            return Err(io::Error::from_raw_os_error(errno));
        }
        for chunk in chunks {
            send.queued += chunk.len();
            send.queue.push_back(chunk);
        }
        self.start_send(ring, &mut send);
        Ok(())
    }

    /// Hands the queue's front to the kernel, unless it holds some already.
    fn start_send(self: &Rc<Self>, ring: &Inner, send: &mut Send) {
        if send.in_flight.is_some() || send.queue.is_empty() {
            return;
        }
        let fd = types::Fd(self.fd.as_raw_fd());
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = if send.queue.len() == 1 {
            let chunk = &send.queue[0];
            let len = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            opcode::Send::new(fd, chunk.as_ptr(), len).flags(flags).build()
        } else {
            let message = send.message.get_or_insert_with(Message::new);
            let header = message.point_to(send.queue.iter());
            opcode::SendMsg::new(fd, header).flags(flags.unsigned_abs()).build()
        };
        send.in_flight = Some(ring.start(Op::Send(self.clone()), entry));
    }

    /// A send has ended; whether somebody waited for that.
    pub(super) fn sent(self: &Rc<Self>, ring: &Inner, result: io::Result<u32>) -> bool {
        let mut send = self.send.borrow_mut();
        send.in_flight = None;
        match result {
            Ok(n) => {
                add(&ring.facts.traffic(self.accepted).sent, n as usize);
                send.forget(n as usize);
                if !self.closed.get() {
                    self.start_send(ring, &mut send);
                }
            }
            Err(e) => {
                let errno = e.raw_os_error().unwrap_or(libc::EIO);
                if matches!(errno, libc::EINTR | libc::EAGAIN) && !self.closed.get() {
                    self.start_send(ring, &mut send);
                } else {
                    send.error = Some(errno);
                    send.queue.clear();
                    send.queued = 0;
                }
            }
        }
        let waker = send.waker.take();
        drop(send);
        let waited = waker.is_some();
        if let Some(waker) = waker {
            waker.wake();
        }
        waited
    }
}

impl Send {
    /// Drops the first `n` queued bytes: they are the kernel's now.
    fn forget(&mut self, mut n: usize) {
        self.queued -= n;
        while n > 0 {
            let Some(front) = self.queue.front_mut() else { break };
            if front.len() > n {
                front.advance(n);
                break;
            }
            n -= front.len();
            self.queue.pop_front();
        }
    }
}

impl Message {
    fn new() -> Box<Self> {
        // SAFETY: all-zero is a valid value of these plain structures.
        unsafe { Box::new(std::mem::zeroed()) }
    }

    fn point_to<'a>(&mut self, chunks: impl Iterator<Item = &'a Chunk>) -> *const libc::msghdr {
        let mut count = 0;
        for (iovec, chunk) in self.iovecs.iter_mut().zip(chunks) {
            iovec.iov_base = chunk.as_ptr().cast_mut().cast();
            iovec.iov_len = chunk.len();
            count += 1;
        }
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = count;
        &raw const self.header
    }
}

/// A connection attempt; the kernel reads its address.
pub(super) struct Connecting {
    fd: RefCell<Option<OwnedFd>>,
    addr: SockAddr,
    result: RefCell<Option<io::Result<()>>>,
    waker: RefCell<Option<Waker>>,
}

impl Connecting {
    pub(super) fn done(&self, result: io::Result<u32>) {
        *self.result.borrow_mut() = Some(result.map(drop));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

struct CancelConnect<'a> {
    ring: &'a Ring,
    connecting: &'a Connecting,
    key: Option<usize>,
}

impl Drop for CancelConnect<'_> {
    fn drop(&mut self) {
        // once its result has come, the slot may be somebody else's
        if let Some(key) = self.key
            && self.connecting.result.borrow().is_none()
        {
            self.ring.0.cancel(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;
    use crate::ring::{RingOptions, runtime};

    #[test]
    fn bytes_are_counted_on_the_side_they_pass() {
        let options = RingOptions { buffers_max: 128, buffers_idle_max: 8, ..RingOptions::default() };
        let counted = runtime::run(options, |ring| async move {
            let fd = sockopt::listen(([127, 0, 0, 1], 0).into(), false).expect("a listener");
            let listener = crate::ring::TcpListener::new(&ring, fd);
            let to = listener.local_addr().expect("its address");
            let (made, accepted) =
                tokio::join!(TcpStream::connect(&ring, to, ConnectOptions::default()), listener.accept());
            let (made, accepted) = (made.expect("connected"), accepted.expect("accepted"));
            made.queue(Chunks::from(b"seven b".to_vec())).expect("queued");
            accepted.queue(Chunks::from(b"five!".to_vec())).expect("queued");
            for (stream, bytes) in [(&accepted, 7), (&made, 5)] {
                let buffer = poll_fn(|cx| stream.poll_read(cx)).await.expect("received").expect("no end");
                assert_eq!(buffer.len(), bytes);
            }
            poll_fn(|cx| made.poll_queue_below(0, cx)).await.expect("sent");
            poll_fn(|cx| accepted.poll_queue_below(0, cx)).await.expect("sent");
            let (client, server) = (&ring.facts().client, &ring.facts().server);
            [&client.received, &client.sent, &server.received, &server.sent].map(Cell::get)
        });
        // we accepted the client's connection, and made the server's
        assert_eq!(counted.expect("a ring"), [7, 5, 5, 7]);
    }

    #[test]
    fn an_attempt_that_is_over_is_not_cancelled() {
        let options = RingOptions::default();
        let queued = runtime::run(options, |ring| async move {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
            let to = listener.local_addr().expect("its address");
            let mut attempt = Box::pin(TcpStream::connect(&ring, to, ConnectOptions::default()));
            let begun = poll_fn(|cx| Poll::Ready(attempt.as_mut().poll(cx).is_pending())).await;
            assert!(begun, "the kernel has been asked");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            assert_eq!(ring.ops_in_flight(), 0, "its completion has come, its slot is free");
            // dropped with its result unread: what has its slot by now must not be cancelled
            drop(attempt);
            ring.has_queued()
        });
        assert!(!queued.expect("a ring"), "nothing was left to cancel");
    }
}
