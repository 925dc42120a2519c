//! What may be written after the flags: networks, hardware addresses, ports, marks, times.
//!
//! Each type parses from text, prints as the firewall tools want to read it, and travels through the state file as
//! text, so that what is read back there passes the same checks as what was typed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// IPv4 or IPv6, where the two need different words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];
}

/// A network. One address is a network of full length and prints without its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    pub(crate) fn family(self) -> Family {
        if self.address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn contains(self, other: Cidr) -> bool {
        self.family() == other.family()
            && self.length <= other.length
            && masked(other.address, self.length) == self.address
    }

    /// Sorted, without the networks that lie inside another one: nft refuses sets that overlap.
    pub(crate) fn disjoint(mut all: Vec<Cidr>) -> Vec<Cidr> {
        all.sort_by_key(|cidr| (cidr.length, cidr.address));
        let mut kept: Vec<Cidr> = Vec::new();
        for cidr in all {
            if !kept.iter().any(|wider| wider.contains(cidr)) {
                kept.push(cidr);
            }
        }
        kept.sort();
        kept
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| "not a network; write it like 192.168.1.0/24, fd00:1::/64 or 10.0.0.7".to_owned())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => longest,
            Some(text) => match text.parse::<u8>() {
                Ok(length) if length <= longest => length,
                _ => return Err(format!("the length after `/` must be 0 to {longest}")),
            },
        };
        let network = masked(address, length);
        if network != address {
            return Err(format!("has bits set behind its length; did you mean {network}/{length}?"));
        }
        Ok(Cidr { address, length })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = if self.address.is_ipv4() { 32 } else { 128 };
        if self.length == longest {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.length)
        }
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// A hardware address: always the client's, since only the segment's own frames carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mac([u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRONG: &str = "not a hardware address; write it like 02:00:5e:10:00:01";
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(WRONG)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| WRONG)?;
        }
        if parts.next().is_some() { Err(WRONG.to_owned()) } else { Ok(Mac(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Whom the rules leave alone: a network (as client or as server) or one client's hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Exemption {
    Network(Cidr),
    Client(Mac),
}

impl FromStr for Exemption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Six groups of two digits are no valid IPv6 text (it would need `::` or eight groups), so the order of
        // trying cannot mistake one for the other.
        if let Ok(mac) = text.parse() {
            return Ok(Exemption::Client(mac));
        }
        match text.parse() {
            Ok(cidr) => Ok(Exemption::Network(cidr)),
            Err(problem) if text.contains('/') => Err(problem),
            Err(_) => Err("neither a network (192.168.1.0/24, fd00:1::/64) nor a hardware address \
                           (02:00:5e:10:00:01)"
                .to_owned()),
        }
    }
}

impl fmt::Display for Exemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exemption::Network(cidr) => cidr.fmt(f),
            Exemption::Client(mac) => mac.fmt(f),
        }
    }
}

/// Destination ports to intercept: sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Ports(Vec<(u16, u16)>);

impl Ports {
    pub(crate) fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                return Err(format!("the range {part} runs backwards; write it as {last}-{first}"));
            }
            ranges.push((first, last));
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ok(Ports(merged))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

/// One TCP port, which cannot be 0.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    match text.trim().parse::<u16>() {
        Ok(0) | Err(_) => Err(format!("`{}` is not a port; use 1 to 65535", text.trim())),
        Ok(port) => Ok(port),
    }
}

/// A packet mark with the bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Mark {
    pub(crate) value: u32,
    pub(crate) mask: u32,
}

impl FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (value, mask) = text.split_once('/').unwrap_or((text, "0xffff0000"));
        let mark = Mark { value: number(value)?, mask: number(mask)? };
        if mark.value & !mark.mask != 0 {
            return Err(format!("has bits outside its mask {:#010x}; write VALUE/MASK", mark.mask));
        }
        if mark.value == 0 {
            return Err("is 0, which every unmarked packet has; choose another mark".to_owned());
        }
        Ok(mark)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}/{:#010x}", self.value, self.mask)
    }
}

/// A 32-bit number, decimal or with `0x`.
pub(crate) fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is not a 32-bit number; write it like 0x52530001"))
}

/// How long an exemption lives, in seconds: `30s`, `10m`, `2h`, `1d`.
pub(crate) fn lifetime_s(text: &str) -> Result<u64, String> {
    const WRONG: &str = "not a time; write it like 30s, 10m, 2h or 1d";
    let unit = text.chars().last().ok_or(WRONG)?;
    let scale = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(WRONG.to_owned()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| WRONG)?;
    match count.checked_mul(scale) {
        Some(0) => Err("is no time at all; give at least 1s".to_owned()),
        Some(seconds) if seconds <= LIFETIME_S_MAX => Ok(seconds),
        _ => Err("is longer than a year; leave --ttl out for an exemption without end".to_owned()),
    }
}

const LIFETIME_S_MAX: u64 = 366 * 86_400;

macro_rules! travels_as_text {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> { text.parse() }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String { value.to_string() }
        }
    )*};
}
travels_as_text!(Cidr, Exemption, Ports, Mark);

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(all: &[&str]) -> Vec<Cidr> {
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn networks_print_as_they_were_written() {
        for text in ["10.0.0.0/8", "10.0.0.7", "0.0.0.0/0", "fd00:1::/64", "::/0", "fd00::1"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.7/32".parse::<Cidr>().unwrap().to_string(), "10.0.0.7");
    }

    #[test]
    fn refuses_networks_that_are_none() {
        for text in
            ["", "10.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/-1", "lan0", "10.0.0.0/8/8"]
        {
            assert!(text.parse::<Cidr>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn host_bits_are_refused_with_the_network_that_was_meant() {
        let problem = "10.0.0.7/24".parse::<Cidr>().unwrap_err();
        assert!(problem.contains("10.0.0.0/24"), "{problem}");
    }

    #[test]
    fn networks_inside_another_are_left_out() {
        let all = cidrs(&["10.1.0.0/16", "10.0.0.0/8", "10.1.2.3", "fd00::/8", "192.0.2.0/24", "10.0.0.0/8"]);
        assert_eq!(Cidr::disjoint(all), cidrs(&["10.0.0.0/8", "192.0.2.0/24", "fd00::/8"]));
    }

    #[test]
    fn exemptions_tell_hardware_addresses_from_networks() {
        assert!(matches!("02:00:5E:10:00:01".parse(), Ok(Exemption::Client(_))));
        assert!(matches!("fd00::/64".parse(), Ok(Exemption::Network(_))));
        for text in ["02:00:5e:10:00", "02:00:5e:10:00:01:02", "0g:00:5e:10:00:01", "host"] {
            assert!(text.parse::<Exemption>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn ports_are_sorted_and_merged() {
        assert_eq!("443,80".parse::<Ports>().unwrap().to_string(), "80,443");
        assert_eq!("1000-2000, 1500-2500,80,81".parse::<Ports>().unwrap().to_string(), "80-81,1000-2500");
        assert_eq!("1-65535,65535".parse::<Ports>().unwrap().to_string(), "1-65535");
    }

    #[test]
    fn refuses_ports_that_are_none() {
        for text in ["", "0", "80,", "65536", "443-80", "http", "80-", "-80", "0-10"] {
            assert!(text.parse::<Ports>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn marks_have_a_value_inside_their_mask() {
        let mark: Mark = "0x52540000".parse().unwrap();
        assert_eq!(mark.to_string(), "0x52540000/0xffff0000");
        assert_eq!("1/0xff".parse::<Mark>().unwrap(), Mark { value: 1, mask: 0xff });
        for text in ["0x5254", "0", "0/0", "0x100000000", "mark", "0x12/0x1"] {
            assert!(text.parse::<Mark>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn lifetimes_need_a_unit() {
        assert_eq!(lifetime_s("10m"), Ok(600));
        assert_eq!(lifetime_s("1d"), Ok(86_400));
        for text in ["", "10", "m", "0s", "-1s", "10 m", "9999999d", "10min", "5é"] {
            assert!(lifetime_s(text).is_err(), "{text:?} passed");
        }
    }
}
