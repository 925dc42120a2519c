//! Which address of ours a connection to a server leaves from (`connect_addr`): several give a busy gateway several
//! times the ports.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;

use crate::config::Cidr;

/// Addresses of ours in use at once; a range with more is refused.
const ADDRESSES_MAX: usize = 4096;
/// Destinations whose turns are counted apart; others share one of these.
const TURNS: usize = 256;
/// Addresses tried for one connection while the kernel finds no port: each try may look at every port there is.
const TRIES_MAX: usize = 4;

/// `connect_addr` does not fit this machine.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A single address is somebody else's.
    #[error(
        "option 'connect_addr': {0} is no address of this machine: add it to an interface ('ip addr add'), or allow foreign ones (net.ipv4.ip_nonlocal_bind=1, net.ipv6.ip_nonlocal_bind=1) if its packets come back to us"
    )]
    NotOurs(IpAddr),
    /// None in a range is ours.
    #[error(
        "option 'connect_addr': this machine has no address in {0}: add some to an interface, or the whole range ('ip route add local {0} dev lo')"
    )]
    NoneOurs(Cidr),
    /// The range is too wide.
    #[error("option 'connect_addr': {0} has more than {ADDRESSES_MAX} addresses: name a smaller range")]
    TooMany(Cidr),
}

/// The addresses that connections to servers leave from; none: the kernel's choice.
#[derive(Clone, Debug, Default)]
pub struct SourceAddrs {
    v4: Arc<[IpAddr]>,
    v6: Arc<[IpAddr]>,
}

impl SourceAddrs {
    /// Those of the ranges that are ours. `can_bind` asks the kernel about one; `local` are this machine's addresses
    /// with their networks' prefixes.
    ///
    /// # Errors
    /// What is not ours, or too wide.
    pub fn of(
        ranges: &[Cidr],
        local: &[(IpAddr, u8)],
        can_bind: impl Fn(IpAddr) -> bool,
    ) -> Result<Self, SourceError> {
        let mut found: Vec<IpAddr> = Vec::new();
        for range in ranges {
            let wanted = range.addresses(ADDRESSES_MAX).ok_or(SourceError::TooMany(*range))?;
            if let [single] = wanted[..] {
                if !can_bind(single) {
                    return Err(SourceError::NotOurs(single));
                }
                found.push(single);
                continue;
            }
            let before = found.len();
            found.extend(wanted.into_iter().filter(|ip| !is_edge(*ip, local) && can_bind(*ip)));
            if found.len() == before {
                return Err(SourceError::NoneOurs(*range));
            }
        }
        found.sort_unstable();
        found.dedup();
        if let (Some(range), true) = (ranges.first(), found.len() > ADDRESSES_MAX) {
            return Err(SourceError::TooMany(*range));
        }
        let (v4, v6): (Vec<_>, Vec<_>) = found.into_iter().partition(IpAddr::is_ipv4);
        Ok(Self { v4: v4.into(), v6: v6.into() })
    }

    /// How many there are of IPv4 and of IPv6.
    pub fn counts(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }

    /// Whether connections of ours may leave from that address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let addrs = if ip.is_ipv4() { &self.v4 } else { &self.v6 };
        addrs.binary_search(&ip).is_ok()
    }

    fn towards(&self, to: SocketAddr) -> &[IpAddr] {
        if to.ip().to_canonical().is_ipv4() { &self.v4 } else { &self.v6 }
    }
}

/// The network's own or its broadcast address: the kernel would bind it, and nothing would come back.
fn is_edge(ip: IpAddr, local: &[(IpAddr, u8)]) -> bool {
    local.iter().any(|(held, prefix)| match (ip, held) {
        (IpAddr::V4(ip), IpAddr::V4(held)) if *prefix > 0 && *prefix < 31 && ip != *held => {
            let host = u32::MAX >> prefix;
            let same = u32::from(ip) & !host == u32::from(*held) & !host;
            same && (u32::from(ip) & host == 0 || u32::from(ip) & host == host)
        }
        _ => false,
    })
}

/// One worker's turns: each destination gets the addresses one after the other.
#[derive(Debug)]
pub struct SourceTurns {
    addrs: SourceAddrs,
    hasher: RandomState,
    turns: Box<[Cell<u32>]>,
}

impl SourceTurns {
    /// Turns that begin at `start`: workers begin at different ones.
    pub fn new(addrs: SourceAddrs, start: usize) -> Self {
        let many = addrs.v4.len() > 1 || addrs.v6.len() > 1;
        let start = u32::try_from(start).unwrap_or_default();
        let turns = (0..if many { TURNS } else { 0 }).map(|_| Cell::new(start)).collect();
        Self { addrs, hasher: RandomState::new(), turns }
    }

    /// The addresses to try for a connection, best first; empty: the kernel's choice.
    pub fn next(&self, to: SocketAddr) -> impl Iterator<Item = SocketAddr> + use<'_> {
        let addrs = self.addrs.towards(to);
        let first = if addrs.len() < 2 { 0 } else { self.turn(to) };
        (0..addrs.len().min(TRIES_MAX))
            .map(move |n| SocketAddr::new(addrs[first.wrapping_add(n) % addrs.len()], 0))
    }

    fn turn(&self, to: SocketAddr) -> usize {
        let slot = usize::try_from(self.hasher.hash_one(to)).unwrap_or_default() % TURNS;
        let turn = &self.turns[slot];
        turn.set(turn.get().wrapping_add(1));
        turn.get() as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_range_means_our_addresses_in_it_without_the_networks_edges() {
        let local = [(ip("192.0.2.1"), 28)];
        let all = SourceAddrs::of(&ranges(&["192.0.2.0/28", "2001:db8::/126"]), &local, |_| true);
        assert_eq!(all.expect("ours").counts(), (14, 4));
        // routed to us whole, no interface has it: every address serves
        let routed = SourceAddrs::of(&ranges(&["198.51.100.0/30"]), &local, |_| true);
        assert_eq!(routed.expect("ours").counts(), (4, 0));
        let some = SourceAddrs::of(&ranges(&["192.0.2.0/28"]), &local, |held| held == ip("192.0.2.5"));
        assert_eq!(some.expect("one is ours").counts(), (1, 0));
        let twice = SourceAddrs::of(&ranges(&["192.0.2.5", "192.0.2.4/31"]), &local, |_| true);
        let twice = twice.expect("ours");
        assert_eq!(twice.counts(), (2, 0));
        assert!(
            twice.contains(ip("192.0.2.4")) && !twice.contains(ip("192.0.2.6")) && !twice.contains(ip("::1"))
        );
    }

    #[test]
    fn what_is_not_ours_is_refused_with_the_mend() {
        let table = [
            ("192.0.2.7", "192.0.2.7 is no address of this machine"),
            ("192.0.2.0/28", "ip route add local 192.0.2.0/28 dev lo"),
            ("10.0.0.0/8", "more than 4096"),
            ("2001:db8::/64", "more than 4096"),
        ];
        for (range, part) in table {
            let error = SourceAddrs::of(&ranges(&[range]), &[], |_| false).expect_err(range).to_string();
            assert!(error.contains(part) && error.contains("connect_addr"), "{error}");
        }
    }

    #[test]
    fn each_destination_gets_every_address_in_turn() {
        let addrs = SourceAddrs::of(&ranges(&["192.0.2.8/29"]), &[], |_| true).expect("ours");
        let turns = SourceTurns::new(addrs, 3);
        for port in [80, 443] {
            let to = SocketAddr::from(([203, 0, 113, 5], port));
            let mut used: HashMap<SocketAddr, usize> = HashMap::new();
            for _ in 0..80 {
                let tried: Vec<_> = turns.next(to).collect();
                assert_eq!(tried.len(), TRIES_MAX);
                *used.entry(tried[0]).or_default() += 1;
            }
            assert_eq!(used.values().copied().collect::<Vec<_>>(), [10; 8]);
        }
    }

    #[test]
    fn without_an_address_of_its_family_the_kernel_chooses() {
        let addrs = SourceAddrs::of(&ranges(&["192.0.2.8"]), &[], |_| true).expect("ours");
        let turns = SourceTurns::new(addrs, 0);
        assert_eq!(turns.next(SocketAddr::new(ip("2001:db8::1"), 443)).count(), 0);
        assert_eq!(turns.next(SocketAddr::new(ip("203.0.113.5"), 443)).count(), 1);
        assert_eq!(turns.next(SocketAddr::new(ip("::ffff:203.0.113.5"), 443)).count(), 1);
        assert_eq!(SourceTurns::new(SourceAddrs::default(), 0).next(([127, 0, 0, 1], 1).into()).count(), 0);
    }
}
