//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    ip: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range of `ip` with that many leading bits fixed.
    pub fn new(ip: IpAddr, prefix: u8) -> Option<Self> {
        let max = if ip.is_ipv4() { 32 } else { 128 };
        (prefix <= max).then_some(Self { ip, prefix })
    }

    /// Every address of the range, or `None` if there are more than `max`.
    pub fn addresses(&self, max: usize) -> Option<Vec<IpAddr>> {
        let bits = if self.ip.is_ipv4() { 32 } else { 128 };
        let count = 1u128.checked_shl(bits - u32::from(self.prefix))?;
        if count > max as u128 {
            return None;
        }
        let nth = |n: u128| match self.ip {
            IpAddr::V4(ip) => {
                let n = u32::try_from(n).unwrap_or_default();
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                IpAddr::from((u32::from(ip) / count * count + n).to_be_bytes())
            }
            IpAddr::V6(ip) => IpAddr::from((u128::from(ip) / count * count + n).to_be_bytes()),
        };
        Some((0..count).map(nth).collect())
    }

    /// Whether the address lies in the range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - u32::from(self.prefix);
                u32::from(a).checked_shr(shift) == u32::from(b).checked_shr(shift)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128 - u32::from(self.prefix);
                u128::from(a).checked_shr(shift) == u128::from(b).checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| format!("'{text}' is no address range like 10.0.0.0/8"))?;
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => max,
            Some(prefix) => prefix.parse().map_err(|_| format!("'{prefix}' is no prefix length"))?,
        };
        Cidr::new(ip, prefix).ok_or_else(|| format!("a prefix length is at most {max}"))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_range_begin_at_its_first() {
        let all = |text: &str| {
            let found = text.parse::<Cidr>().expect("a range").addresses(16);
            found.map(|ips| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(all("192.0.2.6/30").as_deref(), Some("192.0.2.4 192.0.2.5 192.0.2.6 192.0.2.7"));
        assert_eq!(all("192.0.2.6").as_deref(), Some("192.0.2.6"));
        assert_eq!(all("2001:db8::5/127").as_deref(), Some("2001:db8::4 2001:db8::5"));
        for wide in ["192.0.2.0/27", "2001:db8::/64", "0.0.0.0/0", "::/0"] {
            assert_eq!(all(wide), None, "{wide}");
        }
    }

    #[test]
    fn ranges_contain_their_addresses_and_no_others() {
        let table = [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("fd00::/8", "fd12::1", true),
            ("::/0", "2001:db8::1", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
        ];
        for (range, ip, inside) in table {
            let range: Cidr = range.parse().expect("a range");
            assert_eq!(range.contains(ip.parse().expect("an address")), inside, "{range} {ip}");
        }
        for text in ["", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
