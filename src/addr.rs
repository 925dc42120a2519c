//! A role for every `SocketAddr`, so that the wrong one cannot be dialled.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub SocketAddr);

        impl $name {
            /// The address with an IPv4-mapped IPv6 form (`::ffff:a.b.c.d`) reduced to IPv4.
            pub fn canonical(self) -> Self {
                Self(canonical(self.0))
            }
            /// IP address, without the port.
            pub fn ip(self) -> IpAddr {
                self.0.ip()
            }
            /// TCP or UDP port.
            pub fn port(self) -> u16 {
                self.0.port()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<SocketAddr> for $name {
            fn from(addr: SocketAddr) -> Self {
                Self(canonical(addr))
            }
        }
    };
}

role!(
    /// Who reached us: the peer of an accepted connection.
    ClientAddr
);
role!(
    /// Where we listen.
    ListenAddr
);
role!(
    /// Where a redirected client wanted to go.
    OriginalDst
);
role!(
    /// Whom we reach.
    ServerAddr
);

/// Reduces `::ffff:a.b.c.d` to `a.b.c.d`; anything else is returned as it came.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
