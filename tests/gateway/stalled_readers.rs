//! Two thousand clients that ask for much and read nothing cost a live one less than a second.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use crate::lab::client::{tls, tls_config};
use crate::lab::daemon::TRANSPARENT;
use crate::lab::{Lab, Place, address, eventually, settled};

#[test]
fn a_live_client_is_served_beside_two_thousand_stalled_readers() {
    let lab = Lab::alone();
    // small socket buffers: it is ringtap's memory that is measured, not the kernel's
    for place in [Place::Client, Place::Gateway, Place::Origin] {
        lab.sysctl(place, "ipv4/tcp_rmem", "4096 16384 65536");
        lab.sysctl(place, "ipv4/tcp_wmem", "4096 16384 65536");
    }
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
    // what is opened once and kept (pools, caches) is opened now
    drop(lab.inside(Place::Client, || stall(100, &lab.ringtap_ca())));
    let base_fds = settled(|| daemon.fd_count());
    let base_kb = daemon.rss_kb();

    let held = lab.inside(Place::Client, || stall(2_000, &lab.ringtap_ca()));
    assert!(daemon.fd_count() >= base_fds + 2_000, "the readers are held, not turned away");
    let live = lab.client().within(Duration::from_secs(1));
    for _ in 0..5 {
        for url in ["http://example.test/100k", "https://example.test/100k"] {
            live.curl([url]).expect_status(200);
        }
    }
    let grown_kb = daemon.rss_kb().saturating_sub(base_kb);
    assert!(grown_kb < GROWTH_MAX_KB, "{grown_kb} KB for 2000 stalled readers");

    drop(held);
    eventually("the stalled readers' files are closed", Duration::from_secs(30), || {
        (daemon.fd_count() <= base_fds).then_some(())
    });
    live.curl(["https://example.test/1k"]).expect_status(200);
    daemon.must_be_alive();
}

/// Opens connections, half of them TLS, asks for 10 MB on each and reads none of it.
fn stall(count: usize, ca: &std::path::Path) -> Vec<TcpStream> {
    let config = tls_config(ca);
    let held = Mutex::new(Vec::new());
    let address = |port| SocketAddr::new(address("example.test", 4).parse().expect("an address"), port);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for number in 0..count / 20 {
                    let secure = number % 2 == 0;
                    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
                    let socket = socket.expect("a socket");
                    socket.set_recv_buffer_size(4096).expect("a small buffer");
                    socket.connect(&address(if secure { 443 } else { 80 }).into()).expect("connect");
                    let mut socket = TcpStream::from(socket);
                    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("patience");
                    let request = b"GET /10m HTTP/1.1\r\nHost: example.test\r\n\r\n";
                    if secure {
                        let mut stream = tls(&config, "example.test", socket).expect("a handshake");
                        stream.write_all(request).expect("a request");
                        socket = stream.sock;
                    } else {
                        socket.write_all(request).expect("a request");
                    }
                    held.lock().expect("no panic elsewhere").push(socket);
                }
            });
        }
    });
    held.into_inner().expect("no panic elsewhere")
}

/// A queue of 144 KB for each, and the connections' own state.
const GROWTH_MAX_KB: u64 = 2_000 * 200;
