//! How a body ends, and a scanner that finds the end without copying.

use std::ops::Range;

use super::chunked::{ChunkError, ChunkedScanner};

/// How the end of a message's body is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    #[default]
    None,
    /// That many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Everything until the server closes. Responses only.
    UntilClose,
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanStep {
    /// Wire bytes that belong to this body, from the start of the input.
    pub consumed: usize,
    /// The body is complete; what follows `consumed` belongs to the next message.
    pub done: bool,
}

/// The connection ended inside a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection closed before the end of the message body")]
pub struct Truncated;

/// Walks the wire bytes of one body.
#[derive(Clone, Debug)]
pub enum BodyScanner {
    /// No body, or nothing left of it.
    None,
    /// So many bytes are left.
    Length(u64),
    /// Chunked.
    Chunked(ChunkedScanner),
    /// Until the peer closes.
    UntilClose,
}

impl BodyScanner {
    /// A scanner at the start of a body.
    pub fn new(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::None | BodyFraming::Length(0) => BodyScanner::None,
            BodyFraming::Length(length) => BodyScanner::Length(length),
            BodyFraming::Chunked => BodyScanner::Chunked(ChunkedScanner::new()),
            BodyFraming::UntilClose => BodyScanner::UntilClose,
        }
    }

    /// Walks `bytes` and reports which ranges of them are body data; framing in between is not reported.
    pub fn scan(
        &mut self,
        bytes: &[u8],
        data: &mut impl FnMut(Range<usize>),
    ) -> Result<ScanStep, ChunkError> {
        match self {
            BodyScanner::None => Ok(ScanStep { consumed: 0, done: true }),
            BodyScanner::Length(remaining) => {
                let consumed = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                if consumed > 0 {
                    data(0..consumed);
                }
                *remaining -= consumed as u64;
                Ok(ScanStep { consumed, done: *remaining == 0 })
            }
            BodyScanner::Chunked(scanner) => scanner.scan(bytes, data),
            BodyScanner::UntilClose => {
                if !bytes.is_empty() {
                    data(0..bytes.len());
                }
                Ok(ScanStep { consumed: bytes.len(), done: false })
            }
        }
    }

    /// The whole body was seen. Never true before the close for a body that ends with it.
    pub fn is_done(&self) -> bool {
        match self {
            BodyScanner::None => true,
            BodyScanner::Length(remaining) => *remaining == 0,
            BodyScanner::Chunked(scanner) => scanner.is_done(),
            BodyScanner::UntilClose => false,
        }
    }

    /// Whether the body may end here, now that the peer has closed.
    pub fn at_eof(&self) -> Result<(), Truncated> {
        match self {
            BodyScanner::UntilClose => Ok(()),
            _ if self.is_done() => Ok(()),
            _ => Err(Truncated),
        }
    }
}
