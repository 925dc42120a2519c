//! One port of a client, towards two servers at once: REDIRECT leads both connections to one listener.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::lab::daemon::TRANSPARENT;
use crate::lab::{Lab, Place, address};

#[test]
fn a_client_may_use_one_port_towards_two_servers() {
    for way in ["redirect", "tproxy"] {
        let lab = Lab::new();
        let _daemon = lab.start_ringtap(&TRANSPARENT);
        lab.redirect(way);
        for family in [4, 6] {
            lab.inside(Place::Client, || {
                let one = from_port(29_029, family, 80);
                let other = from_port(29_029, family, 443);
                assert!(is_answered(&one), "{way} IPv{family}: the first connection goes on");
                drop(other);
            });
        }
    }
}

fn from_port(port: u16, family: u8, to: u16) -> TcpStream {
    let to = SocketAddr::new(address("example.test", family).parse().expect("an address"), to);
    let any = if family == 4 { "0.0.0.0" } else { "::" };
    let from = SocketAddr::new(any.parse().expect("an address"), port);
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.set_reuse_address(true).expect("to share the port");
    socket.bind(&from.into()).expect("the port");
    socket.connect_timeout(&to.into(), Duration::from_secs(3)).expect("a connection");
    socket.into()
}

fn is_answered(mut socket: &TcpStream) -> bool {
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("patience");
    socket.write_all(b"GET /1k HTTP/1.1\r\nHost: example.test\r\n\r\n").expect("a request");
    let mut first = [0; 12];
    socket.read_exact(&mut first).is_ok() && &first == b"HTTP/1.1 200"
}
