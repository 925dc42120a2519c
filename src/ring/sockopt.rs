//! What sockets are asked and told.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::tcp::ConnectOptions;
use crate::addr::canonical;

/// Connections the kernel completes before we accept them.
const BACKLOG: i32 = 4096;
/// A dead peer is noticed after this much silence, then probed.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// A listening socket, shared with other workers by `SO_REUSEPORT`. Options that accepted sockets inherit are
/// set here once. `transparent` lets it take connections for foreign addresses (TPROXY; `CAP_NET_ADMIN`).
///
/// # Errors
/// What the kernel says: port in use, no right to the port.
pub fn listen(addr: SocketAddr, transparent: bool) -> io::Result<OwnedFd> {
    let socket = bind(addr, transparent)?;
    start_listening(socket.as_fd())?;
    Ok(socket)
}

/// Lets a bound socket listen; one that does already goes on.
///
/// # Errors
/// What the kernel says.
pub fn start_listening(fd: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&fd).listen(BACKLOG)
}

pub(super) fn bind(addr: SocketAddr, transparent: bool) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // IPv4 has a socket of its own
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    limit_unsent(&socket)?;
    if transparent {
        set_transparent(&socket, addr)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Whether another process listens there already: `SO_REUSEPORT` would silently share the port with it.
///
/// # Errors
/// The reason why the address cannot be had.
pub fn check_free(addr: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1)
}

fn set_transparent(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    match addr {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => set_transparent_v6(socket.as_fd(), true),
    }
}

/// A connection that REDIRECT brought is an ordinary one, though its listener is transparent. It must be told:
/// a client may use one port towards two servers at once (:80 and :443), and only for ordinary sockets does the
/// kernel look again for the right one after its address translation has told the two apart.
pub fn make_ordinary(fd: BorrowedFd<'_>, local: SocketAddr) {
    // a socket that stays transparent still works, but for such a clash
    let _ = match local {
        SocketAddr::V4(_) => SockRef::from(&fd).set_ip_transparent_v4(false),
        SocketAddr::V6(_) => set_transparent_v6(fd, false),
    };
}

#[expect(unsafe_code, reason = "no library has this option yet")]
fn set_transparent_v6(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    use nix::libc;
    let on = libc::c_int::from(on);
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is an int that lives through the call.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_IPV6, libc::IPV6_TRANSPARENT, (&raw const on).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A socket for a connection to a server. It stays blocking: the ring does the waiting.
pub(super) fn upstream_socket(addr: SocketAddr, options: ConnectOptions) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    limit_unsent(&socket)?;
    if let Some(bytes) = options.receive_max {
        limit_received(&socket, bytes)?;
    }
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    if let Some(bind) = options.bind {
        bind_address(&socket, bind)?;
    }
    Ok(socket.into())
}

/// The address of ours that a connection was to leave from is not this machine's.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0} (option 'connect_addr') is no address of this machine any more")]
pub struct NotOurs(pub IpAddr);

/// Binds a connection-to-be to an address. Its port is chosen when it connects, so that one port can lead to many
/// destinations (`IP_BIND_ADDRESS_NO_PORT`, which IPv6 sockets take as well); bound at once, each would be used up
/// by one.
fn bind_address(socket: &Socket, bind: SocketAddr) -> io::Result<()> {
    set_bind_address_no_port(socket.as_fd())?;
    socket.bind(&bind.into()).map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => io::Error::new(error.kind(), NotOurs(bind.ip())),
        _ => error,
    })
}

/// Whether connections can leave from an address: it is ours, or foreign ones are allowed.
pub fn can_bind(ip: IpAddr) -> bool {
    let addr = SocketAddr::new(ip, 0);
    Socket::new(Domain::for_address(addr), Type::STREAM.cloexec(), Some(Protocol::TCP))
        .and_then(|socket| bind_address(&socket, addr))
        .is_ok()
}

#[expect(unsafe_code, reason = "no library has this option yet")]
fn set_bind_address_no_port(fd: BorrowedFd<'_>) -> io::Result<()> {
    use nix::libc;
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is an int that lives through the call.
    let result = unsafe {
        let (level, name) = (libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT);
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const on).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes that may wait in the kernel's queue of a connection before they are sent: what a stalled peer makes the
/// kernel keep beyond what is on its way to it. Without a limit that queue grows to megabytes (`tcp_wmem`).
const NOTSENT_MAX: u32 = 256 * 1024;

/// Limits what the kernel keeps unsent. Accepted connections have it from their listener.
fn limit_unsent(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(NOTSENT_MAX)
}

/// The limit to set for what is received and not read, if one is to be set: where the kernel's own is as narrow, it
/// stays.
pub fn receive_limit(wanted: Option<usize>) -> Option<usize> {
    let widest = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").ok();
    let widest = widest.and_then(|text| text.split_whitespace().nth(2)?.parse::<usize>().ok());
    wanted.filter(|wanted| widest.is_none_or(|widest| *wanted < widest))
}

/// Limits what the kernel keeps received and not read: for a transfer whose other side has stalled. Beyond `rmem_max`
/// that needs `CAP_NET_ADMIN`; without it the kernel's own limits stay, which are wider but fast.
fn limit_received(socket: &Socket, bytes: usize) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
    // the kernel doubles it for its own bookkeeping
    let half = bytes / 2;
    match setsockopt(socket, RcvBufForce, &half) {
        Err(nix::errno::Errno::EPERM) => Ok(()),
        other => Ok(other?),
    }
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL).with_retries(4)
}

/// Where a redirected connection wanted to go: what REDIRECT or DNAT replaced (`SO_ORIGINAL_DST`).
/// `None` if the connection was not translated.
pub fn original_dst(fd: BorrowedFd<'_>, local: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(&fd);
    let found = match canonical(local) {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    found.ok().and_then(|addr| addr.as_socket()).map(canonical)
}

pub(super) fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    as_socket(SockRef::from(&fd.as_fd()).local_addr()?)
}

pub(super) fn peer_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    as_socket(SockRef::from(&fd.as_fd()).peer_addr()?)
}

fn as_socket(addr: socket2::SockAddr) -> io::Result<SocketAddr> {
    addr.as_socket().map(canonical).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}
