//! The addresses of this machine.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// Every address of every interface, with the length of its network's prefix.
pub fn addresses() -> Vec<(IpAddr, u8)> {
    let Ok(list) = getifaddrs() else { return Vec::new() };
    let found = list.filter_map(|iface| {
        let ip = ip_of(iface.address.as_ref()?)?;
        let prefix = iface.netmask.as_ref().and_then(ip_of).map_or(0, prefix_length);
        Some((ip, prefix))
    });
    found.collect()
}

fn ip_of(addr: &SockaddrStorage) -> Option<IpAddr> {
    addr.as_sockaddr_in()
        .map(|v4| IpAddr::V4(v4.ip()))
        .or_else(|| addr.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn prefix_length(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => u32::from(mask).count_ones(),
        IpAddr::V6(mask) => u128::from(mask).count_ones(),
    };
    u8::try_from(ones).unwrap_or(0)
}
