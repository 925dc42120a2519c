//! The far ends of a session's connections.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use rustls::Connection;

use super::tls;
use crate::stream::Pipe;

/// How a far end saw its connection end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    /// In the middle of TLS.
    Cut,
    Reset,
}

/// One peer's end of a pipe.
pub(super) struct FarEnd {
    pipe: Option<Pipe>,
    tls: Option<Connection>,
    /// What has come and is not accounted for, with the number of acts before it.
    got: VecDeque<(usize, Vec<u8>)>,
    pub(super) end: Option<End>,
    pub(super) tls_error: Option<String>,
    said_goodbye: bool,
    /// To be written, piece by piece.
    pending: VecDeque<u8>,
    closing: bool,
}

impl FarEnd {
    pub(super) fn new(pipe: Pipe, tls: Option<Connection>) -> Self {
        Self {
            pipe: Some(pipe),
            tls,
            got: VecDeque::new(),
            end: None,
            tls_error: None,
            said_goodbye: false,
            pending: VecDeque::new(),
            closing: false,
        }
    }

    /// Takes what has arrived.
    pub(super) fn drain(&mut self, acts: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        while self.end.is_none() {
            let Some(pipe) = &self.pipe else { return };
            match pipe.poll_read(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => self.end = Some(End::Reset),
                Poll::Ready(Ok(chunk)) if chunk.is_empty() => {
                    let cut = self.tls.is_some() && !self.said_goodbye;
                    self.end = Some(if cut { End::Cut } else { End::Closed });
                }
                Poll::Ready(Ok(chunk)) => self.take(acts, &chunk),
            }
        }
    }

    fn take(&mut self, acts: usize, wire: &[u8]) {
        let Some(connection) = &mut self.tls else {
            self.got.push_back((acts, wire.to_vec()));
            return;
        };
        let opened = tls::open(connection, wire);
        self.said_goodbye |= opened.closed;
        if opened.error.is_some() {
            self.tls_error = opened.error;
        }
        if !opened.plain.is_empty() {
            self.got.push_back((acts, opened.plain));
        }
        self.pending.extend(tls::wire_of(connection));
    }

    pub(super) fn start_tls(&mut self, mut connection: Connection) {
        self.pending.extend(tls::wire_of(&mut connection));
        self.tls = Some(connection);
    }

    pub(super) fn tls(&self) -> Option<&Connection> {
        self.tls.as_ref()
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => self.pending.extend(bytes),
            // nothing can be said inside TLS that has failed
            Some(_) if self.tls_error.is_some() => {}
            Some(connection) => {
                tls::seal(connection, bytes);
                self.pending.extend(tls::wire_of(connection));
            }
        }
    }

    /// Ends this direction behind all that is to be sent; with TLS's goodbye.
    pub(super) fn close(&mut self, with_goodbye: bool) {
        if let (Some(connection), true) = (&mut self.tls, with_goodbye) {
            connection.send_close_notify();
            self.pending.extend(tls::wire_of(connection));
        }
        self.closing = true;
    }

    pub(super) fn reset(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.reset();
        }
        self.end.get_or_insert(End::Reset);
    }

    /// The process behind this end is gone.
    pub(super) fn vanish(&mut self) {
        self.pipe = None;
    }

    /// Writes the next piece; whether there was one.
    pub(super) fn send_piece(&mut self, most: usize) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        if self.pending.is_empty() {
            if std::mem::take(&mut self.closing) {
                pipe.shutdown_write();
                return true;
            }
            return false;
        }
        let most = most.min(self.pending.len());
        let piece: Vec<u8> = self.pending.drain(..most).collect();
        // whoever has gone does not hear it
        let _ = pipe.queue(piece.into());
        true
    }

    /// What has come and is not accounted for.
    pub(super) fn unread(&self) -> Vec<u8> {
        self.got.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect()
    }

    /// The number of acts before the first byte that is not accounted for.
    pub(super) fn unread_since(&self) -> Option<usize> {
        self.got.front().map(|(acts, _)| *acts)
    }

    /// Accounts for the first `n` bytes; the number of acts before the last of them.
    pub(super) fn account(&mut self, mut n: usize) -> usize {
        let mut last = 0;
        while n > 0 {
            let Some((acts, bytes)) = self.got.front_mut() else { break };
            last = *acts;
            if bytes.len() > n {
                bytes.drain(..n);
                break;
            }
            n -= bytes.len();
            self.got.pop_front();
        }
        last
    }
}
