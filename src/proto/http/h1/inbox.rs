//! What has come from one side and is not used up: heads are parsed here, bodies are taken from here.

use std::io;

use super::codec::{HeadError, HeadLimits, HeadProgress, RequestFacts, RequestHead, ResponseHead};
use crate::buf::Chunk;
use crate::clock::Timers;
use crate::proto::codec::Parsed;
use crate::stream::Stream;

/// Bytes read and not consumed.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    carry: Chunk,
}

/// Why no head came.
#[derive(Debug)]
pub(super) enum NoHead {
    /// The peer closed before the first byte.
    Closed,
    /// The peer closed in the middle.
    Truncated,
    /// The connection failed.
    Broken(io::Error),
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
        let reading = self.head(stream, |bytes, progress| head.parse_into(bytes, progress, limits));
        timers.timeout(head_ms, reading).await.unwrap_or(Err(NoHead::Slow))
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
        self.head(stream, |bytes, progress| head.parse_into(bytes, progress, request, limits)).await
    }

    async fn head(
        &mut self,
        stream: &Stream,
        mut parse: impl FnMut(&[u8], &mut HeadProgress) -> Result<Parsed<()>, HeadError>,
    ) -> Result<usize, NoHead> {
        if self.carry.is_empty() {
            return Err(NoHead::Closed);
        }
        let mut progress = HeadProgress::default();
        if let Parsed::Done { consumed, .. } = parse(&self.carry, &mut progress).map_err(NoHead::Refused)? {
            return Ok(consumed);
        }
        // a head in pieces is gathered on the heap: no buffer of the ring waits for a slow client
        let mut gathered = self.carry.to_vec();
        self.carry = Chunk::default();
        loop {
            let next = stream.read().await.map_err(NoHead::Broken)?;
            if next.is_empty() {
                let only_blank = gathered.iter().all(|b| matches!(b, b'\r' | b'\n'));
                return Err(if only_blank { NoHead::Closed } else { NoHead::Truncated });
            }
            gathered.extend_from_slice(&next);
            if let Parsed::Done { consumed, .. } = parse(&gathered, &mut progress).map_err(NoHead::Refused)? {
                self.carry = gathered.into();
                return Ok(consumed);
            }
        }
    }
}
