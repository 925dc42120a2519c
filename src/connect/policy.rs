//! What may be reached, and by whom: an open proxy into our own machine or in a circle is refused.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use thiserror::Error;

use super::nested::{Nested, NestedMark};
use super::source::SourceAddrs;
use crate::addr::canonical;
use crate::config::{Cidr, Config};

/// Cloud providers' metadata services outside the link-local ranges.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// Upstream connections whose own address is remembered, to recognise a connection that comes back to us.
const UPSTREAM_MAX: usize = 65_536;

/// Why a connection is refused.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Refusal {
    /// It would come back to us.
    #[error("{0} is one of ringtap's own listen addresses: the connection would go round in a circle")]
    Loop(SocketAddr),
    /// A socket of ringtap's own that is not for clients.
    #[error("{0} is ringtap's own metrics address ('metrics_addr'): it is not reached through the proxy")]
    Own(SocketAddr),
    /// A connection of our own was redirected back to us.
    #[error(
        "connection from {0} is one of ringtap's own: the redirect rules catch our upstream traffic; exempt mark 0x52540000/0xffff0000 ('ringtap redirect apply' does)"
    )]
    Reentry(SocketAddr),
    /// Too many of the same kind.
    #[error(
        "{open} connections from {} to {server} are open already: do they go round through another proxy on this machine? (half of 'connections_max' is the most)",
        client.ip()
    )]
    Nested {
        /// Who asked.
        client: SocketAddr,
        /// For what.
        server: SocketAddr,
        /// How many there are.
        open: usize,
    },
    /// Not for this client.
    #[error("{what} address {addr} may not be reached through the proxy; 'allow_destinations' can open it")]
    Destination {
        /// Which kind of address it is.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// The client may not use the proxy.
    #[error("client {0} is not in 'allow_clients' (default: loopback and the networks of our interfaces)")]
    Client(SocketAddr),
    /// The client's address is public.
    #[error("client {0} has a public address and 'block_global' is on")]
    GlobalClient(SocketAddr),
    /// The client's address is private.
    #[error("client {0} has a private address and 'block_private' is on")]
    PrivateClient(SocketAddr),
}

/// Whose choice a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A redirected client's packet: the network's choice.
    Redirect,
    /// The operator's, in a mode's spec.
    Operator,
    /// A client's request in an explicit mode.
    Request {
        /// Who asked.
        client: SocketAddr,
    },
}

/// The rules, shared by all workers.
pub struct Policy {
    listens: RwLock<Vec<SocketAddr>>,
    /// Sockets of ours that nobody reaches through us.
    own: RwLock<Vec<SocketAddr>>,
    local: RwLock<Vec<(IpAddr, u8)>>,
    /// Addresses that our connections leave from: ours, though perhaps no interface has them.
    sources: OnceLock<SourceAddrs>,
    allow_clients: Option<Vec<Cidr>>,
    allow_destinations: Vec<Cidr>,
    block_global: bool,
    block_private: bool,
    /// Our upstream connections: our own end, and where it went.
    upstream: Mutex<HashSet<(SocketAddr, SocketAddr)>>,
    nested: Arc<Nested>,
}

/// The rules as workers hold them.
pub type SharedPolicy = Arc<Policy>;

impl Policy {
    /// The configuration's rules for a machine with these addresses.
    pub fn new(config: &Config, local: Vec<(IpAddr, u8)>) -> SharedPolicy {
        Arc::new(Self {
            listens: RwLock::default(),
            own: RwLock::default(),
            local: RwLock::new(local),
            sources: OnceLock::new(),
            allow_clients: config.allow_clients.clone(),
            allow_destinations: config.allow_destinations.clone(),
            block_global: config.block_global,
            block_private: config.block_private,
            upstream: Mutex::default(),
            nested: Arc::default(),
        })
    }

    /// An address we listen on.
    pub fn add_listen(&self, addr: SocketAddr) {
        if let Ok(mut listens) = self.listens.write() {
            listens.push(addr);
        }
    }

    /// An address of ours that nobody is to reach through us, whoever asks and whatever else is allowed.
    pub fn add_own(&self, addr: SocketAddr) {
        if let Ok(mut own) = self.own.write() {
            own.push(addr);
        }
    }

    /// The machine's addresses have changed.
    pub fn set_local(&self, local: Vec<(IpAddr, u8)>) {
        if let Ok(mut held) = self.local.write() {
            *held = local;
        }
    }

    /// Our connections leave from these addresses, from now on for good.
    pub fn set_sources(&self, sources: SourceAddrs) {
        // said once, at the start
        let _ = self.sources.set(sources);
    }

    /// Whether the address is one of this machine's.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback()
            || self.local.read().is_ok_and(|local| local.iter().any(|(held, _)| *held == ip))
            || self.sources.get().is_some_and(|sources| sources.contains(ip))
    }

    /// May this client use an explicit listener?
    ///
    /// # Errors
    /// Why not.
    pub fn check_client(&self, client: SocketAddr) -> Result<(), Refusal> {
        let ip = client.ip().to_canonical();
        let allowed = match &self.allow_clients {
            Some(ranges) => ranges.iter().any(|range| range.contains(ip)),
            None => ip.is_loopback() || self.is_on_link(ip),
        };
        if ip.is_loopback() && allowed {
            return Ok(());
        }
        // a range the operator wrote down speaks for itself
        if self.block_global && is_global(ip) && self.allow_clients.is_none() {
            return Err(Refusal::GlobalClient(client));
        }
        if self.block_private && !is_global(ip) {
            return Err(Refusal::PrivateClient(client));
        }
        if allowed { Ok(()) } else { Err(Refusal::Client(client)) }
    }

    fn is_on_link(&self, ip: IpAddr) -> bool {
        self.local.read().is_ok_and(|local| {
            let mut networks = local.iter().filter_map(|(held, prefix)| Cidr::new(*held, *prefix));
            networks.any(|network| network.contains(ip))
        })
    }

    /// May this address be connected to?
    ///
    /// # Errors
    /// Why not.
    pub fn check_destination(&self, addr: SocketAddr, origin: Origin) -> Result<(), Refusal> {
        let addr = canonical(addr);
        let ip = addr.ip();
        let is_us = ip.is_unspecified() || self.is_local(ip);
        if is_us && holds(&self.listens, addr) {
            return Err(Refusal::Loop(addr));
        }
        if is_us && holds(&self.own, addr) {
            return Err(Refusal::Own(addr));
        }
        let Origin::Request { client } = origin else { return Ok(()) };
        if client.ip().is_loopback() || self.allow_destinations.iter().any(|range| range.contains(ip)) {
            return Ok(());
        }
        let what = if ip.is_loopback() || ip.is_unspecified() {
            "loopback"
        } else if is_us {
            "this machine's own"
        } else if METADATA.contains(&ip) {
            "metadata service"
        } else if is_link_local(ip) {
            "link-local"
        } else if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
            "multicast"
        } else {
            return Ok(());
        };
        Err(Refusal::Destination { what, addr })
    }

    /// The most connections that one local client may have to one local server through us.
    pub fn set_nested_max(&self, max: usize) {
        self.nested.set_max(max);
    }

    /// A connection of `client` to `server` is about to be made. Between this machine and itself it is counted.
    ///
    /// # Errors
    /// There are so many that they must be going round in a circle.
    pub fn enter(&self, client: Option<SocketAddr>, server: SocketAddr) -> Result<Entry, Refusal> {
        let server = canonical(server);
        match client {
            Some(client) if self.is_local(client.ip()) && self.is_local(server.ip()) => {
                let mark = self.nested.enter(client.ip(), server);
                mark.map(|mark| Entry(Some(mark))).map_err(|open| Refusal::Nested { client, server, open })
            }
            _ => Ok(Entry(None)),
        }
    }

    /// A connection of ours from `own` to `server` is open, as long as the mark lives.
    pub fn upstream_opened(
        self: &Arc<Self>,
        own: SocketAddr,
        server: SocketAddr,
        entry: Entry,
    ) -> UpstreamMark {
        let pair = (own, canonical(server));
        if let Ok(mut held) = self.upstream.lock()
            && held.len() < UPSTREAM_MAX
        {
            held.insert(pair);
        }
        UpstreamMark { policy: self.clone(), pair, _entry: entry }
    }

    /// Is a client's connection one of our own, come back? `wanted` says where it was going to: the kernel gives
    /// one port to several connections of ours and of other local clients, as long as they differ in that.
    ///
    /// # Errors
    /// It is.
    pub fn check_reentry(
        &self,
        peer: SocketAddr,
        wanted: impl FnOnce() -> SocketAddr,
    ) -> Result<(), Refusal> {
        // only this machine's addresses can be ours: others cost no lock
        if !self.is_local(peer.ip()) {
            return Ok(());
        }
        let pair = (peer, canonical(wanted()));
        match self.upstream.lock() {
            Ok(held) if held.contains(&pair) => Err(Refusal::Reentry(peer)),
            _ => Ok(()),
        }
    }
}

/// An open upstream connection, remembered until this is dropped.
pub struct UpstreamMark {
    policy: SharedPolicy,
    pair: (SocketAddr, SocketAddr),
    _entry: Entry,
}

/// A connection that may be made; counted where it might be part of a circle.
pub struct Entry(#[expect(dead_code, reason = "it is held, not read")] Option<NestedMark>);

impl Drop for UpstreamMark {
    fn drop(&mut self) {
        if let Ok(mut held) = self.policy.upstream.lock() {
            held.remove(&self.pair);
        }
    }
}

/// Whether somebody listens at `addr`, an address of this machine.
fn holds(listening: &RwLock<Vec<SocketAddr>>, addr: SocketAddr) -> bool {
    listening.read().is_ok_and(|held| {
        held.iter().any(|held| {
            // the kernel takes "no address" for this machine's loopback
            let meant = held.ip() == addr.ip() || addr.ip().is_unspecified() && held.ip().is_loopback();
            held.port() == addr.port() && (held.ip().is_unspecified() || meant)
        })
    })
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// A public address: neither private (RFC 1918, RFC 4193), shared (RFC 6598), link-local nor loopback.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared || v4.is_unspecified())
        }
        IpAddr::V6(v6) => {
            !(v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, Typed};

    fn policy(assignments: &[&str]) -> SharedPolicy {
        let mut typed = Typed::default();
        for text in assignments {
            typed.set(text, Source::CommandLine).expect(text);
        }
        let local = [("10.1.0.1", 16), ("2001:db8::1", 64), ("127.0.0.1", 8)];
        let local = local.map(|(ip, prefix)| (ip.parse().expect("an address"), prefix)).to_vec();
        let policy = Policy::new(&Config::of(&typed).expect("fits"), local);
        policy.add_listen("0.0.0.0:8080".parse().expect("an address"));
        policy.add_listen("[::]:8080".parse().expect("an address"));
        policy
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn clients_on_our_networks_may_use_explicit_modes_others_may_not() {
        let policy = policy(&[]);
        for (client, allowed) in [
            ("10.1.2.3:5", true),
            ("127.0.0.1:5", true),
            ("10.2.0.1:5", false),
            ("8.8.8.8:5", false),
            ("[2001:db8::7]:5", false),
        ] {
            assert_eq!(policy.check_client(addr(client)).is_ok(), allowed, "{client}");
        }
    }

    #[test]
    fn written_ranges_open_and_close() {
        let policy = policy(&["allow_clients=8.8.8.0/24,10.1.0.0/16", "block_private"]);
        assert_eq!(policy.check_client(addr("8.8.8.8:1")), Ok(()));
        assert!(matches!(policy.check_client(addr("10.1.2.3:1")), Err(Refusal::PrivateClient(_))));
        assert!(matches!(policy.check_client(addr("9.9.9.9:1")), Err(Refusal::Client(_))));
    }

    #[test]
    fn our_own_listeners_are_never_reached() {
        let policy = policy(&[]);
        for origin in [Origin::Redirect, Origin::Operator, Origin::Request { client: addr("127.0.0.1:9") }] {
            for to in
                ["127.0.0.1:8080", "10.1.0.1:8080", "[::1]:8080", "[::ffff:10.1.0.1]:8080", "0.0.0.0:8080"]
            {
                assert!(matches!(policy.check_destination(addr(to), origin), Err(Refusal::Loop(_))), "{to}");
            }
            assert_eq!(policy.check_destination(addr("10.9.9.9:8080"), origin), Ok(()));
        }
    }

    #[test]
    fn nobody_reaches_our_metrics_through_us() {
        let policy = policy(&["allow_destinations=127.0.0.0/8,10.1.0.1"]);
        policy.add_own(addr("127.0.0.1:9464"));
        policy.add_own(addr("[::]:9465"));
        let asked = |client| Origin::Request { client: addr(client) };
        for origin in [asked("127.0.0.1:9"), asked("10.1.2.3:9"), Origin::Operator, Origin::Redirect] {
            for to in [
                "127.0.0.1:9464",
                "0.0.0.0:9464",
                "[::ffff:127.0.0.1]:9464",
                "[::1]:9465",
                "10.1.0.1:9465",
                "127.0.0.1:9465",
            ] {
                assert!(
                    matches!(policy.check_destination(addr(to), origin), Err(Refusal::Own(_))),
                    "{to} {origin:?}"
                );
            }
            // another port, another machine
            assert_eq!(policy.check_destination(addr("192.0.2.9:9464"), origin), Ok(()));
        }
        assert_eq!(policy.check_destination(addr("127.0.0.1:9463"), asked("127.0.0.1:9")), Ok(()));
    }

    #[test]
    fn addresses_that_our_connections_leave_from_are_ours() {
        let policy = policy(&[]);
        let (own, server) = (addr("198.51.100.3:4000"), addr("203.0.113.5:443"));
        let ranges = ["198.51.100.0/30".parse().expect("a range")];
        policy.set_sources(SourceAddrs::of(&ranges, &[], |_| true).expect("ours"));
        let entry = policy.enter(None, server).expect("may be made");
        let _mark = policy.upstream_opened(own, server, entry);
        assert!(matches!(policy.check_reentry(own, || server), Err(Refusal::Reentry(_))));
        let to_us = addr("198.51.100.1:8080");
        assert!(matches!(policy.check_destination(to_us, Origin::Operator), Err(Refusal::Loop(_))));
    }

    #[test]
    fn no_address_means_our_loopback() {
        let config = Config::of(&Typed::default()).expect("fits");
        let policy = Policy::new(&config, Vec::new());
        policy.add_listen(addr("127.0.0.1:8080"));
        policy.add_listen(addr("[::1]:8081"));
        let local = Origin::Request { client: addr("127.0.0.1:9") };
        for to in ["0.0.0.0:8080", "[::]:8081", "[::ffff:0.0.0.0]:8080"] {
            assert!(matches!(policy.check_destination(addr(to), local), Err(Refusal::Loop(_))), "{to}");
        }
        assert_eq!(policy.check_destination(addr("0.0.0.0:8082"), local), Ok(()));
    }

    #[test]
    fn remote_clients_do_not_reach_into_this_machine() {
        let policy = policy(&["allow_destinations=10.1.0.1"]);
        let remote = Origin::Request { client: addr("10.1.2.3:9") };
        let table = [
            ("127.0.0.1:22", false),
            ("[::1]:22", false),
            ("0.0.0.0:22", false),
            ("[2001:db8::1]:22", false),
            ("169.254.169.254:80", false),
            ("[fe80::1]:80", false),
            ("[fd00:ec2::254]:80", false),
            ("224.0.0.1:80", false),
            ("10.1.0.1:22", true),
            ("93.184.216.34:80", true),
            ("192.168.1.1:80", true),
        ];
        for (to, allowed) in table {
            assert_eq!(policy.check_destination(addr(to), remote).is_ok(), allowed, "{to}");
            assert_eq!(policy.check_destination(addr(to), Origin::Redirect), Ok(()), "{to}");
        }
        let local = Origin::Request { client: addr("127.0.0.1:9") };
        assert_eq!(policy.check_destination(addr("127.0.0.1:22"), local), Ok(()));
    }

    #[test]
    fn a_connection_of_our_own_that_comes_back_is_known() {
        let policy = policy(&[]);
        let (own, server) = (addr("10.1.0.1:40000"), addr("93.184.216.34:443"));
        let entry = policy.enter(None, server).expect("nothing is counted");
        let mark = policy.upstream_opened(own, server, entry);
        assert!(policy.check_reentry(own, || server).is_err());
        assert!(policy.check_reentry(addr("10.1.0.1:40001"), || server).is_ok());
        assert!(
            policy.check_reentry(own, || addr("10.1.0.1:8080")).is_ok(),
            "the port is shared, not the connection"
        );
        drop(mark);
        assert!(policy.check_reentry(own, || server).is_ok());
    }
}
