//! Bytes from one socket to another that nobody looks at: moved inside the kernel, through a pipe (`splice(2)`).
//!
//! The ring only says when a socket is ready; moving is a system call that does not wait. Of the two sockets, the one
//! written to is non-blocking meanwhile: else a send would wait for room and with it the worker, whatever flags the
//! call has. The one read from is asked for a byte (`MSG_PEEK`) before each move, and so needs no such change: the
//! other direction may still send on it through the ring. A pipe is held only while it holds bytes or is about to.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll};

use io_uring::{opcode, types};
use nix::libc;
use socket2::SockRef;

use super::{BULK_RUN_MAX, BULK_UNTIL, End, Socket, TcpStream};
use crate::ring::ifaces;
use crate::ring::pipes::Lease;
use crate::ring::uring::{Inner, Op, add};

/// A move this short costs more than a copy.
const SMALL: usize = 8 * 1024;

impl TcpStream {
    /// Whether the peer sends faster than we read, everything that came has been read, and no receive is under way.
    pub fn can_splice(&self) -> bool {
        let recv = self.socket.recv.borrow();
        recv.bulk && recv.armed.is_none() && recv.queue.is_empty() && recv.end.is_none()
    }

    /// Whether the peer is on this machine: no network interface lies between.
    pub fn peer_is_here(&self) -> bool {
        let Ok(peer) = self.peer_addr() else { return false };
        let peer = peer.ip().to_canonical();
        peer.is_loopback() || ifaces::addresses().iter().any(|(ip, _)| *ip == peer)
    }

    /// Moves what comes to another connection, after all that is queued there, as long as that is worth it; then
    /// reading and writing go on as before. An end or an error of this connection is left to the next read. `moved` is
    /// called whenever bytes have gone in or out. Dropping the future loses what is in the pipe: only for connections
    /// that are about to be closed.
    ///
    /// # Errors
    /// The other connection's error.
    pub async fn splice_to(&self, to: &Self, moved: impl Fn()) -> io::Result<()> {
        let ring = &*self.ring.0;
        let Some(lease) = ring.pipes.take() else { return Ok(()) };
        poll_fn(|cx| to.poll_queue_below(0, cx)).await?;
        if !self.can_splice() || to.socket.send.borrow().in_flight.is_some() {
            return Ok(());
        }
        let _unblocked = Unblocked::begin(&to.socket)?;
        let mut passage = Passage { from: self, to, lease: Some(lease), run: 0, small: 0, moved };
        poll_fn(|cx| passage.poll(cx)).await
    }
}

/// A socket that is non-blocking until this is dropped.
struct Unblocked<'a>(&'a Socket);

impl<'a> Unblocked<'a> {
    fn begin(socket: &'a Socket) -> io::Result<Self> {
        SockRef::from(&socket.fd).set_nonblocking(true)?;
        socket.spliced_into.set(true);
        Ok(Self(socket))
    }
}

impl Drop for Unblocked<'_> {
    fn drop(&mut self) {
        self.0.spliced_into.set(false);
        let _ = SockRef::from(&self.0.fd).set_nonblocking(false);
    }
}

struct Passage<'a, F> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    lease: Option<Lease>,
    /// Bytes since other tasks had their turn.
    run: usize,
    /// Small moves in a row.
    small: u8,
    moved: F,
}

/// What came of taking bytes in.
enum Pulled {
    Some,
    Nothing,
    /// Copying is to go on.
    Leave,
}

impl<F: Fn()> Passage<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.lease.as_ref().is_some_and(|lease| lease.held > 0) {
                match self.push() {
                    Ok(()) => continue,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return self.wait_for_room(cx),
                    Err(e) => return Poll::Ready(Err(e)),
                }
            }
            if self.small >= BULK_UNTIL {
                let mut recv = self.from.socket.recv.borrow_mut();
                (recv.bulk, recv.small_streak, recv.full_streak) = (false, 0, 0);
                return Poll::Ready(Ok(()));
            }
            if self.run > BULK_RUN_MAX {
                self.run = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.pull() {
                Pulled::Some => {}
                Pulled::Nothing => return self.wait_for_bytes(cx),
                Pulled::Leave => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Takes in what has come, without waiting.
    fn pull(&mut self) -> Pulled {
        let (ring, socket) = (&*self.from.ring.0, &self.from.socket);
        let mut recv = socket.recv.borrow_mut();
        if recv.end.is_some() {
            return Pulled::Leave;
        }
        if recv.armed.is_some() {
            return Pulled::Nothing;
        }
        let taken = match peek(socket.fd.as_raw_fd()) {
            // the next read meets the end
            Ok(0) => return Pulled::Leave,
            Ok(_) => {
                if self.lease.is_none() {
                    self.lease = ring.pipes.take();
                }
                let Some((lease, (_, write, size))) =
                    self.lease.as_mut().and_then(|lease| lease.ends().map(|ends| (lease, ends)))
                else {
                    return Pulled::Leave;
                };
                splice(socket.fd.as_raw_fd(), write, size).inspect(|n| lease.held = *n)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Pulled::Nothing,
            Err(e) => Err(e),
        };
        match taken {
            Ok(n) if n > 0 => {
                self.run += n;
                self.small = if n < SMALL { self.small + 1 } else { 0 };
                add(&ring.facts.traffic(socket.accepted).received, n);
                add(&ring.facts.spliced, n);
                (self.moved)();
                Pulled::Some
            }
            // there are bytes, but such as cannot be moved: urgent ones
            Ok(_) => Pulled::Leave,
            Err(e) => {
                // these say nothing of the connection; any other was told to us alone
                if !matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINVAL | libc::ENOMEM)) {
                    recv.end = Some(End::Error(e.raw_os_error().unwrap_or(libc::EIO)));
                }
                Pulled::Leave
            }
        }
    }

    /// Gives out what the pipe holds, as far as there is room.
    fn push(&mut self) -> io::Result<()> {
        let socket = &self.to.socket;
        let mut send = socket.send.borrow_mut();
        if let Some(errno) = send.error {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if send.in_flight.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(lease) = &mut self.lease else { return Ok(()) };
        let Some((read, ..)) = lease.ends() else { return Ok(()) };
        match splice(read, socket.fd.as_raw_fd(), lease.held) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                lease.held -= n;
                add(&self.to.ring.0.facts.traffic(socket.accepted).sent, n);
                (self.moved)();
                Ok(())
            }
            Err(e) => {
                if e.kind() != io::ErrorKind::WouldBlock {
                    send.error = Some(e.raw_os_error().unwrap_or(libc::EIO));
                }
                Err(e)
            }
        }
    }

    fn wait_for_bytes(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.lease = None;
        self.run = 0;
        let mut recv = self.from.socket.recv.borrow_mut();
        if recv.armed.is_none() {
            // of a bulk stream: a poll
            self.from.socket.arm(&self.from.ring.0, &mut recv);
        }
        recv.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn wait_for_room(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.run = 0;
        let socket = &self.to.socket;
        let mut send = socket.send.borrow_mut();
        if send.in_flight.is_none() {
            let fd = types::Fd(socket.fd.as_raw_fd());
            let entry = opcode::PollAdd::new(fd, libc::POLLOUT as u32).build();
            send.in_flight = Some(self.to.ring.0.start(Op::Room(socket.clone()), entry));
        }
        send.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Socket {
    /// There is room to send, or an error that the next send will meet.
    pub(in crate::ring) fn has_room(self: &std::rc::Rc<Self>, ring: &Inner) {
        let mut send = self.send.borrow_mut();
        send.in_flight = None;
        if !self.closed.get() {
            self.start_send(ring, &mut send);
        }
        let waker = send.waker.take();
        drop(send);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Whether there are bytes: 0 at the end.
fn peek(fd: RawFd) -> io::Result<usize> {
    let mut byte = 0_u8;
    again(|| {
        // SAFETY: the kernel writes at most the one byte, which lives through the call.
        unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) }
    })
}

/// Moves up to `len` bytes between a socket and a pipe.
fn splice(from: RawFd, to: RawFd, len: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    again(|| {
        // SAFETY: both descriptors are open while their owners live; no offsets are passed.
        unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), len, flags) }
    })
}

fn again(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(n) = usize::try_from(call()) {
            return Ok(n);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener as StdListener, TcpStream as StdStream};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::buf::Chunks;
    use crate::ring::{Ring, RingOptions, runtime};

    const WITHIN: Duration = Duration::from_secs(120);
    const LENGTH: usize = 10 << 20;

    fn pair(ring: &Ring, accepted: bool) -> (TcpStream, StdStream) {
        let listener = StdListener::bind("127.0.0.1:0").expect("a listener");
        let peer = StdStream::connect(listener.local_addr().expect("its address")).expect("connected");
        let (ours, _) = listener.accept().expect("accepted");
        (TcpStream::from_fd(ring, ours.into(), accepted), peer)
    }

    fn on_a_ring<F: Future<Output = ()>>(play: impl FnOnce(Ring) -> F) {
        let options = RingOptions { buffers_max: 256, ..RingOptions::default() };
        let ended = runtime::run(options, |ring| async move {
            tokio::time::timeout(WITHIN, play(ring.clone())).await.expect("it hangs");
            for _ in 0..2_000 {
                if ring.ops_in_flight() == 0 && ring.buffers_in_use() == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("{} operations stay out", ring.ops_in_flight());
        });
        ended.expect("a ring");
    }

    fn pattern(seed: u32) -> Vec<u8> {
        let mut number = seed;
        let next = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (number >> 24) as u8
        };
        std::iter::repeat_with(next).take(LENGTH).collect()
    }

    /// Relays one direction as the TCP layer does: copies until the stream is bulk, moves as long as that goes.
    async fn relay(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        while let Some(buffer) = poll_fn(|cx| from.poll_read(cx)).await? {
            to.queue(Chunks::from(buffer.freeze()))?;
            poll_fn(|cx| to.poll_queue_below(to.queue_max(), cx)).await?;
            if from.can_splice() {
                from.splice_to(to, || ()).await?;
            }
        }
        poll_fn(|cx| to.poll_queue_below(0, cx)).await?;
        to.shutdown_write()
    }

    /// Sends, ends its direction, and gives all that comes; begins to read late.
    fn talk(peer: StdStream, bytes: Vec<u8>, stall: Duration) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let sending = peer.try_clone().expect("a second hand");
            let sends = thread::spawn(move || {
                (&sending).write_all(&bytes).expect("sent");
                sending.shutdown(Shutdown::Write).expect("half-closed");
            });
            thread::sleep(stall);
            let mut got = Vec::new();
            (&peer).read_to_end(&mut got).expect("read");
            sends.join().expect("no panic");
            got
        })
    }

    /// Waits for a peer's thread without stopping the ring, on which that thread may depend.
    async fn over<T>(thread: thread::JoinHandle<T>) -> T {
        while !thread.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        thread.join().expect("no panic")
    }

    async fn both_ways(ring: &Ring, up: usize, down: usize) {
        let ((client, at_client), (server, at_server)) = (pair(ring, true), pair(ring, false));
        let (from_client, from_server) = (pattern(1)[..up].to_vec(), pattern(2)[..down].to_vec());
        let one = talk(at_client, from_client.clone(), Duration::from_millis(300));
        let other = talk(at_server, from_server.clone(), Duration::from_millis(700));
        let done = tokio::try_join!(relay(&client, &server), relay(&server, &client));
        done.expect("relayed");
        assert!(over(one).await == from_server, "what the server sent");
        assert!(over(other).await == from_client, "what the client sent");
    }

    fn is_blocking(stream: &TcpStream) -> bool {
        let flags = nix::fcntl::fcntl(stream.as_fd(), nix::fcntl::FcntlArg::F_GETFL).expect("flags");
        !nix::fcntl::OFlag::from_bits_retain(flags).contains(nix::fcntl::OFlag::O_NONBLOCK)
    }

    #[test]
    fn bytes_arrive_as_they_were_sent_both_ways_past_readers_that_stall() {
        on_a_ring(|ring| async move {
            both_ways(&ring, LENGTH, LENGTH).await;
            let facts = ring.facts();
            assert!(facts.spliced.get() > LENGTH as u64, "{} were moved", facts.spliced.get());
            let counted = [&facts.client, &facts.server].map(|side| (side.received.get(), side.sent.get()));
            assert_eq!(counted, [(LENGTH as u64, LENGTH as u64); 2]);
        });
    }

    #[test]
    fn the_other_direction_may_be_a_trickle_or_nothing() {
        on_a_ring(|ring| async move {
            for (up, down) in [(LENGTH, 0), (0, LENGTH), (LENGTH, 100_000), (70_000, LENGTH)] {
                both_ways(&ring, up, down).await;
            }
            assert!(ring.facts().spliced.get() > 2 * LENGTH as u64);
        });
    }

    #[test]
    fn while_one_direction_is_moved_the_other_answers_message_by_message() {
        on_a_ring(|ring| async move {
            let ((client, at_client), (server, at_server)) = (pair(&ring, true), pair(&ring, false));
            let begins = thread::spawn(move || {
                // a message comes back for every 64 KB: it travels by copy over the sockets that are moved between
                let (mut client, mut server) = (at_client, at_server);
                let answers = thread::spawn(move || {
                    let mut piece = vec![0; 65_536];
                    for round in 0..100_u8 {
                        server.read_exact(&mut piece).expect("a piece");
                        assert!(piece.iter().all(|byte| *byte == round));
                        server.write_all(&[round; 10]).expect("answered");
                    }
                });
                for round in 0..100_u8 {
                    client.write_all(&[round; 65_536]).expect("sent");
                    let mut answer = [0; 10];
                    client.read_exact(&mut answer).expect("an answer");
                    assert_eq!(answer, [round; 10]);
                }
                answers.join().expect("no panic");
            });
            let done = tokio::try_join!(relay(&client, &server), relay(&server, &client));
            done.expect("relayed");
            over(begins).await;
            assert!(ring.facts().spliced.get() > 0);
            assert!(is_blocking(&client) && is_blocking(&server), "they are left as they were");
        });
    }

    #[test]
    fn small_messages_after_a_long_one_are_copied_again() {
        on_a_ring(|ring| async move {
            let ((client, at_client), (server, at_server)) = (pair(&ring, true), pair(&ring, false));
            let begins = thread::spawn(move || {
                let (mut client, mut server) = (at_client, at_server);
                let mut piece = vec![0; 1 << 20];
                for size in std::iter::once(1 << 20).chain([100; 40]) {
                    let mut sending = client.try_clone().expect("a second hand");
                    let sends = thread::spawn(move || sending.write_all(&vec![5; size]).expect("sent"));
                    server.read_exact(&mut piece[..size]).expect("a message");
                    sends.join().expect("no panic");
                }
                for ends in [&client, &server] {
                    ends.shutdown(Shutdown::Write).expect("half-closed");
                }
                assert_eq!(client.read(&mut piece).expect("nothing"), 0);
            });
            let both = async { tokio::try_join!(relay(&client, &server), relay(&server, &client)) };
            both.await.expect("relayed");
            over(begins).await;
            let moved = ring.facts().spliced.get();
            assert!(moved > 0 && moved < (1 << 20) + 40 * 100, "{moved} were moved");
        });
    }

    #[test]
    fn a_reset_of_either_side_is_an_error() {
        on_a_ring(|ring| async move {
            for reset_by_sender in [true, false] {
                let ((client, at_client), (server, at_server)) = (pair(&ring, true), pair(&ring, false));
                let plays = thread::spawn(move || {
                    let half = at_server.try_clone().expect("a second hand");
                    let reads = thread::spawn(move || {
                        let mut piece = vec![0; 4 << 20];
                        (&half).read_exact(&mut piece).expect("the beginning");
                    });
                    (&at_client).write_all(&vec![7; 4 << 20]).expect("sent");
                    reads.join().expect("no panic");
                    let (breaks, stays) = match reset_by_sender {
                        true => (at_client, at_server),
                        false => (at_server, at_client),
                    };
                    SockRef::from(&breaks).set_linger(Some(Duration::ZERO)).expect("a reset");
                    drop(breaks);
                    // an unread byte more, for a writer to meet the reset
                    let _ = (&stays).write_all(&vec![7; 4 << 20]);
                });
                let error = tokio::try_join!(relay(&client, &server), relay(&server, &client));
                let error = error.map(drop).expect_err("no proper end");
                let broken = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
                assert!(broken.contains(&error.kind()), "{error}");
                drop((client, server));
                over(plays).await;
            }
            assert!(ring.facts().spliced.get() > 0);
        });
    }

    #[test]
    fn without_a_pipe_bytes_are_copied() {
        on_a_ring(|ring| async move {
            let all: Vec<_> = std::iter::from_fn(|| ring.0.pipes.take()).collect();
            both_ways(&ring, LENGTH, LENGTH).await;
            assert_eq!(ring.facts().spliced.get(), 0);
            drop(all);
            both_ways(&ring, LENGTH, 0).await;
            assert!(ring.facts().spliced.get() > 0);
        });
    }

    #[test]
    fn a_passage_given_up_with_bytes_in_its_pipe_leaves_none_to_the_next() {
        on_a_ring(|ring| async move {
            let ((client, at_client), (server, at_server)) = (pair(&ring, true), pair(&ring, false));
            let sends = thread::spawn(move || (&at_client).write_all(&vec![9; 64 << 20]).map_err(drop));
            // nobody reads there: it fills up
            let stuck = tokio::time::timeout(Duration::from_secs(2), relay(&client, &server)).await;
            assert!(stuck.is_err(), "it waits for room");
            assert!(is_blocking(&server), "it is left as it was");
            assert!(ring.facts().spliced.get() > 0);
            drop((client, server, at_server));
            over(sends).await.expect_err("it was cut short");
            both_ways(&ring, LENGTH, LENGTH).await;
        });
    }
}
