//! Why a connection to a server cannot be made: named, so that it can be counted, with the mend for what is this
//! machine's fault.

use std::io;
use std::net::SocketAddr;

use crate::ring::sockopt::NotOurs;

/// The kind of a failure: a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server said no.
    Refused,
    /// No answer in time.
    Timeout,
    /// There is no way there.
    Unreachable,
    /// The name has no address.
    Resolve,
    /// No local port is left for this destination.
    Ports,
    /// The kernel's table of tracked connections is full: it drops what would need a new entry.
    Conntrack,
    /// No descriptor is left, for this process or the machine.
    Descriptors,
    /// The kernel has no memory for a socket.
    Memory,
    /// An address of `connect_addr` is not, or no longer, this machine's.
    Source,
    /// A rule of this machine's forbids it.
    Forbidden,
    /// Anything else.
    Other,
}

impl Failure {
    /// Every kind.
    pub const ALL: [Failure; 11] = [
        Failure::Refused,
        Failure::Timeout,
        Failure::Unreachable,
        Failure::Resolve,
        Failure::Ports,
        Failure::Conntrack,
        Failure::Descriptors,
        Failure::Memory,
        Failure::Source,
        Failure::Forbidden,
        Failure::Other,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::Timeout => "timeout",
            Failure::Unreachable => "unreachable",
            Failure::Resolve => "resolve",
            Failure::Ports => "ports",
            Failure::Conntrack => "conntrack",
            Failure::Descriptors => "descriptors",
            Failure::Memory => "memory",
            Failure::Source => "source",
            Failure::Forbidden => "forbidden",
            Failure::Other => "other",
        }
    }

    /// What a failed `connect` was.
    pub fn of(error: &io::Error) -> Self {
        if let Some(inner) = error.get_ref()
            && inner.is::<NotOurs>()
        {
            return Failure::Source;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Refused,
            io::ErrorKind::TimedOut => Failure::Timeout,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Failure::Unreachable,
            io::ErrorKind::AddrNotAvailable => Failure::Ports,
            io::ErrorKind::PermissionDenied => Failure::Forbidden,
            io::ErrorKind::OutOfMemory => Failure::Memory,
            _ => match error.raw_os_error() {
                Some(EMFILE | ENFILE) => Failure::Descriptors,
                Some(ENOBUFS) => Failure::Memory,
                _ => Failure::Other,
            },
        }
    }

    /// What a person reads, with the mend where there is one.
    pub fn explain(self, to: SocketAddr, error: &io::Error) -> String {
        let why = match self {
            Failure::Refused => "connection refused".to_owned(),
            Failure::Ports => {
                "no local port is free for this destination: widen net.ipv4.ip_local_port_range, \
                               or give 'connect_addr' several addresses"
                    .to_owned()
            }
            Failure::Descriptors => format!(
                "no file descriptor is left ({error}): raise 'ulimit -n' or LimitNOFILE=, or fs.file-max for the \
                 whole machine"
            ),
            Failure::Memory => format!(
                "the kernel has no memory for a socket ({error}): see net.ipv4.tcp_mem and the machine's memory"
            ),
            Failure::Source => error.to_string(),
            Failure::Forbidden => {
                format!("forbidden by a rule of this machine, a firewall's or an eBPF program's ({error})")
            }
            _ => error.to_string(),
        };
        format!("cannot connect to {to}: {why}")
    }
}

// errno(3), the same on every architecture of Linux that we serve
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;

/// The kernel's table of tracked connections, when it is full. Nothing else tells: the kernel drops the first packet
/// of a connection it cannot track, and the attempt looks like one to a server that is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConntrackFull {
    /// Entries.
    pub count: u64,
    /// The most there may be.
    pub max: u64,
}

impl ConntrackFull {
    /// Looks; `None`: there is room, or no table.
    pub fn now() -> Option<Self> {
        let number = |name: &str| -> Option<u64> {
            std::fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).ok()?.trim().parse().ok()
        };
        Self::judge(number("nf_conntrack_count")?, number("nf_conntrack_max")?)
    }

    /// A full table hovers a little below its limit: entries of unanswered attempts are thrown out early.
    fn judge(count: u64, max: u64) -> Option<Self> {
        (max > 0 && count >= max - max / 100).then_some(Self { count, max })
    }

    /// What a person reads.
    pub fn explain(self, to: &str) -> String {
        format!(
            "cannot connect to {to}: no answer, and the kernel's table of tracked connections is full ({} of {}), \
             so that it drops new ones: raise net.netfilter.nf_conntrack_max",
            self.count, self.max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_a_connect_has_a_name_and_those_we_can_mend_say_how() {
        let not_ours =
            io::Error::new(io::ErrorKind::AddrNotAvailable, NotOurs(std::net::IpAddr::from([192, 0, 2, 1])));
        let table = [
            (io::Error::from_raw_os_error(111), Failure::Refused, "connection refused"),
            (io::Error::from_raw_os_error(110), Failure::Timeout, "timed out"),
            (io::Error::from_raw_os_error(113), Failure::Unreachable, "No route to host"),
            (io::Error::from_raw_os_error(101), Failure::Unreachable, "unreachable"),
            (io::Error::from_raw_os_error(99), Failure::Ports, "ip_local_port_range"),
            (not_ours, Failure::Source, "connect_addr"),
            (io::Error::from_raw_os_error(EMFILE), Failure::Descriptors, "LimitNOFILE"),
            (io::Error::from_raw_os_error(ENFILE), Failure::Descriptors, "fs.file-max"),
            (io::Error::from_raw_os_error(ENOBUFS), Failure::Memory, "tcp_mem"),
            (io::Error::from_raw_os_error(12), Failure::Memory, "tcp_mem"),
            (io::Error::from_raw_os_error(1), Failure::Forbidden, "firewall"),
            (io::Error::from_raw_os_error(22), Failure::Other, "Invalid argument"),
        ];
        let to = SocketAddr::from(([192, 0, 2, 9], 443));
        for (error, failure, part) in table {
            assert_eq!(Failure::of(&error), failure, "{error}");
            let said = failure.explain(to, &error);
            assert!(said.starts_with("cannot connect to 192.0.2.9:443: ") && said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_table_is_full_a_little_below_its_limit() {
        assert_eq!(ConntrackFull::judge(0, 0), None);
        assert_eq!(ConntrackFull::judge(250_000, 262_144), None);
        assert_eq!(ConntrackFull::judge(262_139, 262_144).map(|full| full.count), Some(262_139));
        assert!(ConntrackFull { count: 5, max: 5 }.explain("a:1").contains("nf_conntrack_max"));
    }

    #[test]
    fn labels_differ() {
        let mut labels: Vec<_> = Failure::ALL.iter().map(|failure| failure.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Failure::ALL.len());
    }
}
