//! The sign of life, told to the kernel directly: one nf_tables transaction over netlink, without starting `nft`.
//!
//! It comes twice a second from a process full of pinned memory, and under a service's hardening. A few hundred bytes
//! over a socket cost some microseconds there; starting a program costs milliseconds and needs it to be allowed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};

/// Why the kernel refused, as far as it makes a difference to the caller.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Neither the table nor its set `alive` is there.
    Gone,
    /// The element timed out between two steps of one transaction: the same again will do.
    Raced,
    Io(io::Error),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Refusal::Io(errno.into())
    }
}

/// A socket to the packet filter of the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Netlink> {
        let socket = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Makes TCP and UDP alive in `table` for `timeout_ms` from now.
    pub(crate) fn renew(&mut self, table: &str, timeout_ms: u64) -> Result<(), Refusal> {
        // Adding an element that is there does not renew its time (and says nothing): it has to go and come back,
        // and to be there before it can go. Packets see the transaction as one step, so never a gap.
        self.transact(table, &[(ADD, Some(timeout_ms)), (DELETE, None), (ADD, Some(timeout_ms))])
    }

    /// Ends it now. That it had ended already is fine.
    pub(crate) fn expire(&mut self, table: &str) -> Result<(), Refusal> {
        match self.transact(table, &[(DELETE, None)]) {
            Err(Refusal::Raced | Refusal::Gone) => Ok(()),
            done => done,
        }
    }

    fn transact(&mut self, table: &str, steps: &[(u16, Option<u64>)]) -> Result<(), Refusal> {
        let mut batch = Vec::with_capacity(512);
        let first = self.sequence.wrapping_add(1);
        self.message(&mut batch, BATCH_BEGIN, NLM_F_REQUEST, AF_UNSPEC, SUBSYSTEM, |_| {});
        for &(step, timeout_ms) in steps {
            let flags = NLM_F_REQUEST | NLM_F_ACK | if step == ADD { NLM_F_CREATE } else { 0 };
            self.message(&mut batch, SUBSYSTEM << 8 | step, flags, NFPROTO_INET, 0, |out| {
                elements(out, table, timeout_ms);
            });
        }
        self.message(&mut batch, BATCH_END, NLM_F_REQUEST, AF_UNSPEC, SUBSYSTEM, |_| {});
        socket::send(self.socket.as_raw_fd(), &batch, MsgFlags::empty())?;
        // Message 0 is the batch's beginning: step n has sequence first + 1 + n.
        let Some((sequence, errno)) = self.answers(first)? else { return Ok(()) };
        let step =
            usize::try_from(sequence.wrapping_sub(first)).ok().and_then(|n| steps.get(n.checked_sub(1)?));
        match (errno, step) {
            (Errno::ENOENT, Some((DELETE, _))) => Err(Refusal::Raced),
            (Errno::ENOENT, _) => Err(Refusal::Gone),
            (errno, _) => Err(Refusal::Io(errno.into())),
        }
    }

    /// Reads every answer to the transaction that began with `first`, and keeps the first refusal. The kernel works
    /// through a batch inside `send`, so that all answers are here by now.
    fn answers(&self, first: u32) -> Result<Option<(u32, Errno)>, Refusal> {
        let mut buffer = [0; 4096];
        let (mut refused, mut heard) = (None, false);
        loop {
            let length = match socket::recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let mut rest = &buffer[..length];
            while let Some((message, after)) = split_message(rest) {
                rest = after;
                let (Some(kind), Some(sequence), Some(code)) =
                    (u16_at(message, 4), u32_at(message, 8), u32_at(message, 16))
                else {
                    break;
                };
                // Older sequences belong to a transaction somebody gave up on.
                if kind != NLMSG_ERROR || sequence.wrapping_sub(first) > 16 {
                    continue;
                }
                heard = true;
                if code != 0 && refused.is_none() {
                    refused = Some((sequence, Errno::from_raw(code.cast_signed().wrapping_neg())));
                }
            }
        }
        if heard { Ok(refused) } else { Err(Refusal::Io(io::ErrorKind::UnexpectedEof.into())) }
    }

    fn message(
        &mut self,
        out: &mut Vec<u8>,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        self.sequence = self.sequence.wrapping_add(1);
        let start = out.len();
        out.extend_from_slice(&[0; 4]); // length, known at the end
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&flags.to_ne_bytes());
        out.extend_from_slice(&self.sequence.to_ne_bytes());
        out.extend_from_slice(&[0; 4]); // port: the kernel's
        out.extend_from_slice(&[family, 0]);
        out.extend_from_slice(&resource.to_be_bytes());
        body(out);
        let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// The body of NEWSETELEM and DELSETELEM: table, set, and both elements.
fn elements(out: &mut Vec<u8>, table: &str, timeout_ms: Option<u64>) {
    attribute(out, 1, |out| text(out, table));
    attribute(out, 2, |out| text(out, "alive"));
    attribute(out, NESTED | 3, |out| {
        for protocol in [TCP, UDP] {
            attribute(out, NESTED | 1, |out| {
                attribute(out, NESTED | 1, |out| attribute(out, 1, |out| out.push(protocol)));
                if let Some(timeout_ms) = timeout_ms {
                    attribute(out, 4, |out| out.extend_from_slice(&timeout_ms.to_be_bytes()));
                }
            });
        }
    });
}

fn attribute(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&kind.to_ne_bytes());
    body(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    if length < 16 || length > bytes.len() {
        return None;
    }
    Some((&bytes[..length], bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

// linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const ADD: u16 = 12;
const DELETE: u16 = 14;
const NESTED: u16 = 0x8000;
const AF_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_not_counted_so() {
        let mut out = Vec::new();
        attribute(&mut out, 1, |out| text(out, "abcd"));
        assert_eq!(out.len(), 12);
        assert_eq!(u16_at(&out, 0), Some(9));
        assert_eq!(&out[4..], b"abcd\0\0\0\0");
    }

    #[test]
    fn messages_that_claim_more_than_is_there_are_not_read() {
        let mut bytes = vec![0; 32];
        bytes[..4].copy_from_slice(&33u32.to_ne_bytes());
        assert!(split_message(&bytes).is_none());
        bytes[..4].copy_from_slice(&3u32.to_ne_bytes());
        assert!(split_message(&bytes).is_none());
        assert!(split_message(&[]).is_none());
    }
}
