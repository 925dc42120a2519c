//! Descriptors for another process, over a socket between the two; and listeners that change hands.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::dup2_stdin;
use socket2::SockRef;

use super::sockopt;

/// Descriptors in one message (the kernel takes 253).
pub const DESCRIPTORS_MAX: usize = 64;

/// Sends bytes, at least one, with descriptors, at most [`DESCRIPTORS_MAX`]. The other process gets descriptors of
/// its own for the same open files.
///
/// # Errors
/// What the kernel says: the other process is gone, or takes nothing. A message that was cut short is an error.
pub fn send(to: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let sent = sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives bytes, none at the end, and the descriptors that came with them.
///
/// # Errors
/// What the kernel says, or that descriptors were lost because this process may not open so many.
pub fn receive(from: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; DESCRIPTORS_MAX]);
    let mut bytes = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut bytes, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            descriptors.extend(raw.into_iter().map(owned));
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::other("descriptors were lost: the limit of open files is too low"));
    }
    Ok((message.bytes, descriptors))
}

#[expect(unsafe_code, reason = "a message carries bare descriptors")]
fn owned(fd: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The socket that this process was started with as its standard input, which is empty from then on.
///
/// # Errors
/// Standard input is no socket.
pub fn take_stdin() -> io::Result<UnixStream> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.local_addr()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

/// Where a listening socket listens.
///
/// # Errors
/// It is no socket of the internet.
pub fn listens_on(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    // as it is bound: a dual-stack address is never ours
    SockRef::from(&fd).local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// A socket that is bound and does not listen yet: nothing is lost if it never does.
///
/// # Errors
/// As [`sockopt::listen`].
pub fn bind(addr: SocketAddr, transparent: bool) -> io::Result<OwnedFd> {
    sockopt::bind(addr, transparent)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_listener_goes_on_listening_in_other_hands() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let addr = listener.local_addr().expect("its address");
        // it waits in the listener's queue while that changes hands
        let mut client = std::net::TcpStream::connect(addr).expect("connected");
        send(&ours, b"a listener\n", &[listener.as_fd()]).expect("sent");
        drop((ours, listener));
        let mut bytes = [0; 64];
        let (n, mut descriptors) = receive(&theirs, &mut bytes).expect("received");
        assert_eq!(&bytes[..n], b"a listener\n");
        let taken = descriptors.pop().expect("a descriptor");
        assert_eq!(listens_on(taken.as_fd()).expect("its address"), addr);
        let (mut accepted, _) = std::net::TcpListener::from(taken).accept().expect("the one that waited");
        accepted.write_all(b"hello").expect("written");
        drop(accepted);
        let mut said = String::new();
        client.read_to_string(&mut said).expect("read");
        assert_eq!(said, "hello");
        assert_eq!(receive(&theirs, &mut bytes).expect("the end").0, 0);
    }

    #[test]
    fn a_socket_that_is_only_bound_takes_nobody() {
        let fd = bind("127.0.0.1:0".parse().expect("an address"), false).expect("bound");
        let addr = listens_on(fd.as_fd()).expect("its address");
        assert!(std::net::TcpStream::connect(addr).is_err(), "refused");
        sockopt::start_listening(fd.as_fd()).expect("listens");
        std::net::TcpStream::connect(addr).expect("taken");
    }
}
