//! What a worker may meet at its limits, on a real ring and real sockets: each time, another client is served.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{SockRef, Socket};

use super::{ConnectOptions, Ring, RingOptions, TcpListener, TcpStream, runtime};
use crate::buf::{Buffer, Chunks};

/// No test needs as long, on any machine.
const WITHIN: Duration = Duration::from_secs(60);
/// Buffers that are lent to the kernel at once.
const LENT: usize = 64;

/// Plays on a ring of its own, which must be quiet in the end.
fn on_a_ring<F: Future<Output = ()>>(options: RingOptions, play: impl FnOnce(Ring) -> F) {
    let ended = runtime::run(options, |ring| async move {
        tokio::time::timeout(WITHIN, play(ring.clone())).await.expect("it hangs");
        for _ in 0..2_000 {
            if ring.ops_in_flight() == 0 && ring.buffers_in_use() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} operations and {} buffers stay out", ring.ops_in_flight(), ring.buffers_in_use());
    });
    ended.expect("a ring");
}

/// Our end, and the other one.
fn pair(ring: &Ring) -> (TcpStream, StdStream) {
    let listener = StdListener::bind("127.0.0.1:0").expect("a listener");
    let peer = StdStream::connect(listener.local_addr().expect("its address")).expect("connected");
    let (ours, _) = listener.accept().expect("accepted");
    (TcpStream::from_fd(ring, ours.into(), true), peer)
}

async fn read(stream: &TcpStream) -> io::Result<Option<Buffer>> {
    poll_fn(|cx| stream.poll_read(cx)).await
}

/// Asks for bytes without waiting for them.
async fn begin_to_read(stream: &TcpStream) {
    poll_fn(|cx| {
        assert!(stream.poll_read(cx).is_pending(), "nothing has been sent");
        std::task::Poll::Ready(())
    })
    .await;
}

async fn sent(stream: &TcpStream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_queue_below(0, cx)).await
}

/// A client that was there all the time is served as if nothing were the matter.
async fn serve((stream, peer): &(TcpStream, StdStream)) {
    let mut peer = peer;
    for round in 0..20_u8 {
        peer.write_all(&[round; 300]).expect("the client writes");
        let mut came = 0;
        while came < 300 {
            let bytes = read(stream).await.expect("the client's bytes").expect("no end");
            assert!(bytes.iter().all(|byte| *byte == round));
            came += bytes.len();
        }
        stream.queue(Chunks::from(vec![round; 200])).expect("queued");
        sent(stream).await.expect("sent");
        let mut answer = [0; 200];
        peer.read_exact(&mut answer).expect("the client reads");
        assert_eq!(answer, [round; 200]);
    }
}

#[test]
fn queues_that_overflow_lose_nothing() {
    let tiny = RingOptions { sq_entries: 4, cq_entries: 8, buffers_max: 512, ..RingOptions::default() };
    on_a_ring(tiny, |ring| async move {
        let live = pair(&ring);
        let others: Vec<_> = (0..200).map(|_| pair(&ring)).collect();
        for (stream, _) in &others {
            begin_to_read(stream).await;
        }
        for round in 1..=10_u8 {
            // all at once, while nobody reaps
            for (_, peer) in &others {
                (&mut &*peer).write_all(&[round]).expect("the client writes");
            }
            for (stream, _) in &others {
                let bytes = read(stream).await.expect("bytes").expect("no end");
                assert_eq!(bytes[..], [round], "each byte comes once, in its turn");
            }
        }
        assert!(ring.facts().cq_overflows.get() > 0, "the completion queue was too short");
        serve(&live).await;
    });
}

#[test]
fn a_pool_that_is_empty_starves_nobody() {
    let small = RingOptions { buffers_max: LENT + 16, ..RingOptions::default() };
    on_a_ring(small, |ring| async move {
        let live = pair(&ring);
        let others: Vec<_> = (0..200).map(|_| pair(&ring)).collect();
        let mut held = Vec::new();
        for (number, (stream, peer)) in others.iter().enumerate() {
            (&mut &*peer).write_all(&[number as u8; 2_000]).expect("the client writes");
            let mut came = 0;
            while came < 2_000 {
                let bytes = read(stream).await.expect("bytes, though no buffer is left").expect("no end");
                assert!(bytes.iter().all(|byte| *byte == number as u8));
                came += bytes.len();
                // kept, as by clients who take nothing of what was read for them
                held.push(bytes);
            }
        }
        let out = ring.buffers_in_use();
        assert!((16..=LENT + 16).contains(&out), "{out} of the pool's buffers are out");
        assert!(held.len() > LENT + 16, "more is held than the pool has");
        serve(&live).await;
        drop(held);
        serve(&live).await;
    });
}

#[test]
fn what_is_given_up_half_way_is_cancelled_and_harms_nobody() {
    on_a_ring(RingOptions::default(), |ring| async move {
        let live = pair(&ring);
        // one place in its queue, and somebody is in it: the next one waits
        let full = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
        full.listen(0).expect("listens");
        let to = full.local_addr().expect("its address").as_socket().expect("an address");
        let _first = StdStream::connect(to).expect("connected");
        for round in 0..20 {
            let reading = pair(&ring);
            begin_to_read(&reading.0).await;
            let sending = pair(&ring);
            sending.0.queue(Chunks::from(vec![7; 16 << 20])).expect("queued, more than the kernel takes");
            let mut connecting = Box::pin(TcpStream::connect(&ring, to, ConnectOptions::default()));
            let begun = poll_fn(|cx| std::task::Poll::Ready(connecting.as_mut().poll(cx).is_pending())).await;
            let idle = StdListener::bind("127.0.0.1:0").expect("a listener");
            let accepting = TcpListener::new(&ring, idle.into());
            let accepts = poll_fn(|cx| {
                let accept = std::pin::pin!(accepting.accept());
                std::task::Poll::Ready(accept.poll(cx).is_pending())
            });
            assert!(accepts.await, "nobody has connected");
            if round % 2 == 0 {
                // the kernel has been asked, and all are under way
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert!(ring.ops_in_flight() >= 3, "{}", ring.ops_in_flight());
            }
            assert!(begun, "the attempt waits");
            drop((connecting, reading, sending, accepting));
            serve(&live).await;
        }
    });
}

#[test]
fn a_reset_ends_one_connection_and_no_other() {
    on_a_ring(RingOptions::default(), |ring| async move {
        let live = pair(&ring);
        for round in 0..30 {
            let (stream, peer) = pair(&ring);
            if round % 3 != 0 {
                begin_to_read(&stream).await;
            }
            if round % 2 == 0 {
                stream.queue(Chunks::from(vec![7; 16 << 20])).expect("queued, more than the kernel takes");
                // read on a thread of its own: here it would keep the ring from sending
                let half = peer.try_clone().expect("a second hand");
                let begins = tokio::task::spawn_blocking(move || (&mut &half).read_exact(&mut [0; 1000]));
                begins.await.expect("no panic").expect("it begins");
            }
            SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("a reset");
            drop(peer);
            let error = read(&stream).await.map(|_| ()).expect_err("no end in order");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert!(read(&stream).await.is_err(), "it stays broken");
            if round % 2 == 0 {
                sent(&stream).await.expect_err("the rest was not sent");
                stream.queue(Chunks::from(vec![7])).expect_err("nothing more is taken");
            }
            serve(&live).await;
        }
    });
}

#[test]
fn a_long_message_to_a_slow_reader_arrives_whole_and_in_order() {
    on_a_ring(RingOptions::default(), |ring| async move {
        let live = pair(&ring);
        let (stream, peer) = pair(&ring);
        // the kernel takes a little at a time
        SockRef::from(&stream.as_fd()).set_send_buffer_size(4_096).expect("a small buffer");
        SockRef::from(&peer).set_recv_buffer_size(4_096).expect("a small buffer");
        let mut expected = Vec::new();
        let mut number = 0_u32;
        for size in (1..400_usize).chain([20_000, 1, 70_000, 3]) {
            // several chunks a call, more in all than one send takes
            let mut chunks = Chunks::default();
            for part in [size, 1, size / 2 + 1] {
                let bytes: Vec<u8> = (0..part)
                    .map(|_| {
                        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (number >> 24) as u8
                    })
                    .collect();
                expected.extend_from_slice(&bytes);
                chunks.push(bytes.into());
            }
            stream.queue(chunks).expect("queued");
        }
        let length = expected.len();
        let reader = std::thread::spawn(move || {
            let (mut peer, mut got, mut piece) = (peer, Vec::new(), [0; 1_777]);
            while got.len() < length {
                std::thread::sleep(Duration::from_micros(200));
                let n = peer.read(&mut piece).expect("bytes");
                assert_ne!(n, 0, "the end comes early");
                got.extend_from_slice(&piece[..n]);
            }
            got
        });
        serve(&live).await;
        sent(&stream).await.expect("sent");
        assert!(reader.join().expect("no panic") == expected, "the bytes arrive as they were sent");
        serve(&live).await;
    });
}

/// Set in the process that plays alone.
const ALONE: &str = "RINGTAP_TEST_PLAYS_ALONE";

/// The limit of open files is a process' own: this plays in one without other tests.
#[test]
fn without_descriptors_accepting_and_connecting_fail_and_go_on_later() {
    if std::env::var_os(ALONE).is_some() {
        return on_a_ring(RingOptions::default(), out_of_descriptors);
    }
    let name = "ring::faults::without_descriptors_accepting_and_connecting_fail_and_go_on_later";
    let this = std::env::current_exe().expect("this program");
    let alone =
        std::process::Command::new(this).args(["--exact", name]).env(ALONE, "1").output().expect("started");
    let said = String::from_utf8_lossy(&alone.stdout).into_owned() + &String::from_utf8_lossy(&alone.stderr);
    assert!(alone.status.success() && said.contains("1 passed"), "{said}");
}

async fn out_of_descriptors(ring: Ring) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let live = pair(&ring);
    let socket = StdListener::bind("127.0.0.1:0").expect("a listener");
    let to = socket.local_addr().expect("its address");
    let listener = TcpListener::new(&ring, socket.into());
    let client = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
    let next = std::fs::File::open("/dev/null").expect("opened").as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(next).expect("a number"), hard).expect("a lower limit");

    client.connect(&to.into()).expect("the kernel completes it");
    for _ in 0..3 {
        let error = listener.accept().await.map(drop).expect_err("no descriptor is left");
        assert_eq!(error.raw_os_error(), Some(nix::libc::EMFILE));
        let error = TcpStream::connect(&ring, to, ConnectOptions::default()).await.map(drop);
        assert_eq!(error.expect_err("no descriptor is left").raw_os_error(), Some(nix::libc::EMFILE));
        serve(&live).await;
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the limit as it was");
    listener.accept().await.expect("who waited is taken");
    TcpStream::connect(&ring, to, ConnectOptions::default()).await.expect("connected");
    listener.pause().await;
    serve(&live).await;
}
