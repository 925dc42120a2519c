//! Raw bytes between peers on the gateway itself: the kernel moves them, unless it is told not to or somebody looks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use crate::lab::client::connect;
use crate::lab::exposition::Exposition;
use crate::lab::origin::Sum;
use crate::lab::{Lab, Place, eventually, settled, text};

#[test]
fn a_long_conversation_on_loopback_is_moved_by_the_kernel() {
    let moved = moved_with(|_| vec!["--set=tcp_splice=auto".to_owned()]);
    assert!(moved > LENGTH as f64, "{moved} bytes of 2 × {LENGTH} were moved");
}

#[test]
fn with_tcp_splice_off_nothing_is_moved() {
    let moved = moved_with(|_| vec!["--set=tcp_splice=off".to_owned()]);
    assert!(moved < 0.5, "{moved} bytes were moved");
}

#[test]
fn a_recorded_conversation_is_copied_even_with_tcp_splice_on() {
    let moved = moved_with(|lab| {
        vec!["--set=tcp_splice=on".to_owned(), "-w".to_owned(), text(&lab.fresh_path("flows"))]
    });
    assert!(moved < 0.5, "{moved} bytes were moved past the recorder");
}

/// Sends `LENGTH` bytes each way through ringtap, some times; says how many of those 2 × `LENGTH` were moved.
fn moved_with(options: impl FnOnce(&Lab) -> Vec<String>) -> f64 {
    let lab = Lab::new();
    let listener = lab.inside(Place::Gateway, || TcpListener::bind("127.0.0.1:0").expect("an origin"));
    listener.set_nonblocking(true).expect("nobody waits for ringtap forever");
    let port = listener.local_addr().expect("its address").port();
    let mode = format!("reverse:tcp://127.0.0.1:{port}@8086");
    let options = options(&lab);
    let mut args = vec![
        "--mode",
        &mode,
        "-q",
        "--set=metrics_addr=127.0.0.1:9464",
        "--set=allow_destinations=127.0.0.0/8",
    ];
    args.extend(options.iter().map(String::as_str));
    let mut daemon = lab.start_ringtap(&args);
    converse(&lab, &listener); // what is opened once and kept is opened now
    let open = settled(|| daemon.fd_count());
    let before = scrape(&lab);
    converse(&lab, &listener);
    converse(&lab, &listener);
    eventually("sockets and pipes are closed", Duration::from_secs(30), || {
        (daemon.fd_count() <= open + KEPT_MAX).then_some(())
    });
    let after = scrape(&lab);
    for (direction, leg) in [("in", "client"), ("out", "client"), ("in", "server"), ("out", "server")] {
        let series = format!("ringtap_bytes_total{{dir=\"{direction}\",leg=\"{leg}\"}}");
        let counted = after.of(&series) - before.of(&series);
        assert!((counted - 2.0 * LENGTH as f64).abs() < 0.5, "{series} grew by {counted}");
    }
    daemon.must_be_alive();
    assert!(daemon.terminate().success());
    let moved = |page: &Exposition| page.sum("ringtap_spliced_bytes_total", "");
    (moved(&after) - moved(&before)) / 2.0
}

fn scrape(lab: &Lab) -> Exposition {
    let argv = ["curl", "-qsS", "-m", "20", "http://127.0.0.1:9464/metrics"];
    Exposition::read(&lab.run(Place::Gateway, &argv, Duration::from_secs(25)).succeeded().stdout)
}

/// One conversation, both directions at once, each with its own half-close.
fn converse(lab: &Lab, listener: &TcpListener) {
    lab.inside(Place::Gateway, || {
        let client = connect("127.0.0.1", 8086, PATIENCE).expect("connect");
        let (server, _) = eventually("ringtap comes", PATIENCE, || listener.accept().ok());
        server.set_nonblocking(false).expect("a blocking socket");
        server.set_read_timeout(Some(PATIENCE)).expect("patience");
        std::thread::scope(|scope| {
            let sent =
                [(&client, 1), (&server, 2)].map(|(socket, seed)| scope.spawn(move || send(socket, seed)));
            let got = [&server, &client].map(|socket| scope.spawn(move || receive(socket)));
            let sent = sent.map(|thread| thread.join().expect("sent"));
            let got = got.map(|thread| thread.join().expect("received"));
            assert_eq!(got, sent, "each side has the other's bytes, all of them");
        });
    });
}

fn send(mut socket: &TcpStream, seed: u64) -> (usize, String) {
    let (mut sum, mut number, mut block) = (Sum::new(), seed, vec![0; BLOCK]);
    for _ in 0..LENGTH / BLOCK {
        for word in block.chunks_exact_mut(8) {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&number.to_le_bytes());
        }
        sum.add(&block);
        socket.write_all(&block).expect("write");
    }
    socket.shutdown(Shutdown::Write).expect("half-close");
    (LENGTH, sum.hex())
}

fn receive(mut socket: &TcpStream) -> (usize, String) {
    let (mut sum, mut total, mut buffer) = (Sum::new(), 0, vec![0; 256 << 10]);
    loop {
        let length = socket.read(&mut buffer).expect("read");
        if length == 0 {
            return (total, sum.hex());
        }
        sum.add(&buffer[..length]);
        total += length;
    }
}

const LENGTH: usize = 128 << 20;
const BLOCK: usize = 1 << 20;
/// Both ends of the idle pipes of a worker that the first conversation did not meet: one for each direction.
const KEPT_MAX: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);
