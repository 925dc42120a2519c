//! What has come from one side and is not used up: heads are parsed here, bodies are taken from here.

use std::io;

use super::codec::{
    HeadError, HeadLimits, HeadProgress, RequestFacts, RequestHead, ResponseHead, head_end, mend_head,
};
use crate::buf::Chunk;
use crate::clock::Timers;
use crate::proto::codec::Parsed;
use crate::stream::Stream;

/// Bytes read and not consumed.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    carry: Chunk,
    /// A head that comes in pieces, as far as it has come.
    gathered: Vec<u8>,
}

/// Why no head came.
#[derive(Debug)]
pub(super) enum NoHead {
    /// The peer closed before the first byte.
    Closed,
    /// The peer closed in the middle.
    Truncated,
    /// The connection failed before the first byte.
    Broken(io::Error),
    /// The connection failed in the middle.
    BrokenInside(io::Error),
    /// The server closed behind an interim response.
    OnlyInterim,
    /// One interim response after the other.
    TooManyInterim,
    /// The head is not acceptable.
    Refused(HeadError),
    /// Nobody waits for it any more: the client has gone.
    Unwanted,
    /// It did not come in time, though its first byte did.
    Slow,
}

impl Inbox {
    /// What is there, without reading.
    pub(super) fn peek(&self) -> &[u8] {
        &self.carry
    }

    /// Takes the first `n` bytes.
    pub(super) fn take(&mut self, n: usize) -> Chunk {
        self.carry.split_to(n)
    }

    /// Takes all there is.
    pub(super) fn take_all(&mut self) -> Chunk {
        std::mem::take(&mut self.carry)
    }

    /// What is there, or the next bytes; empty at the end.
    pub(super) async fn more(&mut self, stream: &Stream) -> io::Result<()> {
        if self.carry.is_empty() {
            self.carry = stream.read().await?;
        }
        Ok(())
    }

    /// Waits until a request's head is there; says how long it is. It stays in the inbox.
    pub(super) async fn request_head(
        &mut self,
        stream: &Stream,
        head: &mut RequestHead,
        limits: &HeadLimits,
        timers: &Timers,
        head_ms: u64,
    ) -> Result<usize, NoHead> {
        if self.carry.is_empty() {
            self.carry = stream.read().await.map_err(NoHead::Broken)?;
        }
        let reading = self.head(stream, limits, |bytes, progress| head.parse_into(bytes, progress, limits));
        match timers.timeout(head_ms, reading).await {
            Ok(read) => read,
            Err(_) => {
                // what has come of it stays, to be shown
                self.carry = std::mem::take(&mut self.gathered).into();
                Err(NoHead::Slow)
            }
        }
    }

    /// Waits until a response's head is there; says how long it is. It stays in the inbox.
    pub(super) async fn response_head(
        &mut self,
        stream: &Stream,
        head: &mut ResponseHead,
        request: RequestFacts,
        limits: &HeadLimits,
    ) -> Result<usize, NoHead> {
        if self.carry.is_empty() {
            self.carry = stream.read().await.map_err(NoHead::Broken)?;
        }
        self.head(stream, limits, |bytes, progress| head.parse_into(bytes, progress, request, limits)).await
    }

    async fn head(
        &mut self,
        stream: &Stream,
        limits: &HeadLimits,
        mut parse: impl FnMut(&[u8], &mut HeadProgress) -> Result<Parsed<()>, HeadError>,
    ) -> Result<usize, NoHead> {
        if self.carry.is_empty() {
            return Err(NoHead::Closed);
        }
        let mut progress = HeadProgress::default();
        match parse(&self.carry, &mut progress) {
            Ok(Parsed::Done { consumed, .. }) => return Ok(consumed),
            Ok(Parsed::NeedMore) => {}
            Err(error) => return Box::pin(self.mend(stream, limits, error, parse)).await,
        }
        // a head in pieces is gathered on the heap: no buffer of the ring waits for a slow client
        self.gathered = self.carry.to_vec();
        self.carry = Chunk::default();
        loop {
            let next = stream.read().await.map_err(NoHead::BrokenInside)?;
            if next.is_empty() {
                let only_blank = self.gathered.iter().all(|b| matches!(b, b'\r' | b'\n'));
                return Err(if only_blank { NoHead::Closed } else { NoHead::Truncated });
            }
            self.gathered.extend_from_slice(&next);
            match parse(&self.gathered, &mut progress) {
                Ok(Parsed::Done { consumed, .. }) => {
                    self.carry = std::mem::take(&mut self.gathered).into();
                    return Ok(consumed);
                }
                Ok(Parsed::NeedMore) => {}
                Err(error) => {
                    self.carry = std::mem::take(&mut self.gathered).into();
                    return Box::pin(self.mend(stream, limits, error, parse)).await;
                }
            }
        }
    }

    /// A refused head, written anew where that is wished and possible. What is refused stays here, to be shown.
    async fn mend(
        &mut self,
        stream: &Stream,
        limits: &HeadLimits,
        error: HeadError,
        mut parse: impl FnMut(&[u8], &mut HeadProgress) -> Result<Parsed<()>, HeadError>,
    ) -> Result<usize, NoHead> {
        if !limits.mends || !error.may_be_mended() {
            return Err(NoHead::Refused(error));
        }
        let mut bytes = self.carry.to_vec();
        let end = loop {
            match head_end(&bytes, 0) {
                Some(end) => break end,
                None if bytes.len() > limits.head_size_max => return Err(NoHead::Refused(error)),
                None => {}
            }
            let next = stream.read().await.map_err(NoHead::BrokenInside)?;
            if next.is_empty() {
                return Err(NoHead::Truncated);
            }
            bytes.extend_from_slice(&next);
        };
        let Some(mut mended) = mend_head(error.side, &bytes[..end]) else {
            return Err(NoHead::Refused(error));
        };
        match parse(&mended, &mut HeadProgress::default()) {
            Ok(Parsed::Done { consumed, .. }) if consumed == mended.len() => {
                mended.extend_from_slice(&bytes[end..]);
                self.carry = mended.into();
                Ok(consumed)
            }
            _ => Err(NoHead::Refused(error)),
        }
    }
}
