//! Chunked transfer coding (RFC 9112 §7.1), walked without copying.
//!
//! ```text
//! Size -> (Extension) -> SizeLf -> Data -> DataCr -> DataLf -> Size ...
//!                           `-- size 0 -> Line -> (Trailer ->) LineLf -> Line ... empty line -> Done
//! ```

use std::ops::Range;

use super::error::HeadReason;
use super::facts::frames;
use super::fields::{Block, diagnose, read_block};
use super::framing::ScanStep;
use super::write::{WriteError, write_fields};
use crate::flow::{Field, Headers};

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Not hexadecimal digits, at least one: signs, `0x`, white space in front.
    #[error("invalid chunk size")]
    BadSize,
    /// More than 16 digits.
    #[error("chunk size too large")]
    SizeTooLarge,
    /// A chunk extension with control characters.
    #[error("invalid chunk extension")]
    BadExtension,
    /// A chunk extension without end.
    #[error("chunk extension longer than {EXTENSION_SIZE_MAX} bytes")]
    ExtensionTooLong,
    /// A line or a chunk that does not end in CRLF.
    #[error("missing CRLF in chunked body")]
    MissingCrlf,
    /// A trailer section without end.
    #[error("trailer section larger than {TRAILER_SIZE_MAX} bytes or {TRAILERS_MAX} lines")]
    TrailersTooLarge,
    /// A malformed trailer line.
    #[error("{0} (in a trailer)")]
    BadTrailer(HeadReason),
    /// A trailer that would frame or route the message (RFC 9110 §6.5.1).
    #[error("trailer field that frames the message")]
    FramingTrailer,
}

/// Walks the wire bytes of a chunked body and says which of them are data.
///
/// The wire itself (sizes, extensions, boundaries) can be forwarded as it came. Trailer lines are kept, since they
/// may come in pieces; without any, nothing is copied or allocated.
#[derive(Clone, Debug)]
pub struct ChunkedScanner {
    state: State,
    /// Size of the chunk, then what is left of it.
    remaining: u64,
    /// Digits of the size, or bytes of the extension, so far.
    count: u32,
    /// The semicolon has come.
    in_extension: bool,
    /// Bytes of the chunk's line so far, or of everything from the last chunk's line on.
    in_line: usize,
    trailer_bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    Line,
    /// Inside one.
    Trailer,
    /// Behind the CR of one.
    TrailerLf,
    /// Behind the CR of the empty line.
    LastLf,
    Done,
}

impl ChunkedScanner {
    /// At the start of a body.
    pub fn new() -> Self {
        Self {
            state: State::Size,
            remaining: 0,
            count: 0,
            in_extension: false,
            in_line: 0,
            trailer_bytes: Vec::new(),
        }
    }

    /// Walks `bytes`, which continue where the last call ended, and reports the ranges of them that are data.
    /// An error is final.
    pub fn scan(
        &mut self,
        bytes: &[u8],
        data: &mut impl FnMut(Range<usize>),
    ) -> Result<ScanStep, ChunkError> {
        let mut at = 0;
        while self.state != State::Done {
            if self.state == State::Data {
                let left = bytes.len() - at;
                let taken = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(left);
                if taken > 0 {
                    data(at..at + taken);
                    at += taken;
                    self.remaining -= taken as u64;
                }
                if self.remaining > 0 {
                    break;
                }
                self.state = State::DataCr;
            }
            let Some(b) = bytes.get(at) else { break };
            self.step(*b)?;
            at += 1;
        }
        Ok(ScanStep { consumed: at, done: self.is_done() })
    }

    /// The last chunk and the trailers have been seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Wire bytes since the beginning of the line that announces a chunk, as long as its data has not begun. Once
    /// the body is done: since the beginning of the last chunk.
    pub fn in_line(&self) -> usize {
        self.in_line
    }

    /// The trailer lines as they came, each with its CRLF, without the empty line behind them.
    pub fn trailer_bytes(&self) -> &[u8] {
        &self.trailer_bytes
    }

    /// The trailer fields, once the body is done; `None` if there are none.
    pub fn trailers(&self) -> Option<Headers> {
        if !self.is_done() || self.trailer_bytes.is_empty() {
            return None;
        }
        parse_trailers(&self.trailer_bytes).ok()
    }

    /// One byte of framing.
    fn step(&mut self, b: u8) -> Result<(), ChunkError> {
        self.in_line += 1;
        self.state = match (self.state, b) {
            (State::Size, _) => self.size(b)?,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) => self.extension(b)?,
            (State::SizeLf, b'\n') if self.remaining == 0 => State::Line,
            (State::SizeLf, b'\n') => {
                self.in_line = 0;
                State::Data
            }
            (State::DataCr, b'\r') => {
                self.in_line = 0;
                State::DataLf
            }
            (State::DataLf, b'\n') => {
                (self.count, self.in_line) = (0, 0);
                State::Size
            }
            (State::Line, b'\r') => State::LastLf,
            (State::Line | State::Trailer, _) => self.trailer(b)?,
            (State::TrailerLf, b'\n') => {
                self.trailer(b)?;
                State::Line
            }
            (State::LastLf, b'\n') => {
                self.check_trailers()?;
                State::Done
            }
            _ => return Err(ChunkError::MissingCrlf),
        };
        Ok(())
    }

    fn size(&mut self, b: u8) -> Result<State, ChunkError> {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            b'A'..=b'F' => b - b'A' + 10,
            b'\r' if self.count > 0 => return Ok(State::SizeLf),
            // White space behind the size is padding that some servers send; everyone skips it alike.
            b';' | b' ' | b'\t' if self.count > 0 => {
                self.count = 1;
                self.in_extension = b == b';';
                return Ok(State::Extension);
            }
            b'\n' if self.count > 0 => return Err(ChunkError::MissingCrlf),
            _ => return Err(ChunkError::BadSize),
        };
        self.count += 1;
        if self.count > SIZE_DIGITS_MAX {
            return Err(ChunkError::SizeTooLarge);
        }
        self.remaining = (self.remaining << 4) | u64::from(digit);
        Ok(State::Size)
    }

    /// Anything but a line end may be in an extension. Until its semicolon has come only white space may:
    /// `5 5` is not a size.
    fn extension(&mut self, b: u8) -> Result<State, ChunkError> {
        match b {
            b'\t' | b' ' => {}
            b'\n' => return Err(ChunkError::MissingCrlf),
            b';' => self.in_extension = true,
            _ if !self.in_extension => return Err(ChunkError::BadSize),
            _ if b < b' ' || b == 0x7f => return Err(ChunkError::BadExtension),
            _ => {}
        }
        self.count += 1;
        if self.count > EXTENSION_SIZE_MAX {
            return Err(ChunkError::ExtensionTooLong);
        }
        Ok(State::Extension)
    }

    fn trailer(&mut self, b: u8) -> Result<State, ChunkError> {
        self.trailer_bytes.push(b);
        if self.trailer_bytes.len() > TRAILER_SIZE_MAX {
            return Err(ChunkError::TrailersTooLarge);
        }
        match b {
            b'\r' => Ok(State::TrailerLf),
            b'\n' if self.state != State::TrailerLf => Err(ChunkError::MissingCrlf),
            _ => Ok(State::Trailer),
        }
    }

    fn check_trailers(&self) -> Result<(), ChunkError> {
        if self.trailer_bytes.is_empty() { Ok(()) } else { parse_trailers(&self.trailer_bytes).map(|_| ()) }
    }
}

impl Default for ChunkedScanner {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes `data` as one chunk; nothing if it is empty, for that would end the body.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        write_chunk_size(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes the line in front of a chunk of `size` bytes, for callers that send the data without copying it. The data
/// and a CRLF follow; `size` is not 0, for that would end the body.
pub fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    out.extend((0..digits).rev().map(|place| b"0123456789abcdef"[size >> (4 * place) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// Ends a chunked body.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&Headers>) -> Result<(), WriteError> {
    let before = out.len();
    out.extend_from_slice(b"0\r\n");
    let written = trailers.map_or(Ok(()), |trailers| write_fields(out, trailers));
    if written.is_err() {
        out.truncate(before);
    }
    written?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn parse_trailers(lines: &[u8]) -> Result<Headers, ChunkError> {
    let mut block = Vec::with_capacity(lines.len() + 2);
    block.extend_from_slice(lines);
    block.extend_from_slice(b"\r\n");
    let mut fields = Vec::new();
    let mut framing = false;
    let outcome = read_block(&block, 0, TRAILERS_MAX, |_, name, value| {
        framing |= frames(name);
        let owned = bytes::Bytes::copy_from_slice;
        fields.push(Field { name: owned(name), value: owned(value) });
    });
    match outcome {
        Block::Complete(_) if framing => Err(ChunkError::FramingTrailer),
        Block::Complete(_) => Ok(Headers::new(fields)),
        Block::TooMany => Err(ChunkError::TrailersTooLarge),
        Block::Partial | Block::Malformed => Err(ChunkError::BadTrailer(diagnose(&block))),
    }
}

/// 64 bits.
const SIZE_DIGITS_MAX: u32 = 16;
/// Bytes of one chunk's extension.
const EXTENSION_SIZE_MAX: u32 = 4 * 1024;
/// Bytes of all trailer lines.
const TRAILER_SIZE_MAX: usize = 16 * 1024;
/// Trailer lines.
const TRAILERS_MAX: usize = 64;
