//! Addresses with a role, so that the wrong one cannot be dialled.

use std::net::{IpAddr, SocketAddr};

/// Where a redirected client wanted to go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OriginalDst(pub SocketAddr);

impl OriginalDst {
    /// IP address, without the port.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// TCP or UDP port.
    pub fn port(self) -> u16 {
        self.0.port()
    }
}

impl From<SocketAddr> for OriginalDst {
    fn from(addr: SocketAddr) -> Self {
        Self(canonical(addr))
    }
}

/// Reduces `::ffff:a.b.c.d` to `a.b.c.d`; anything else is returned as it came.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
