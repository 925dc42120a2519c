//! HTTP/1 on the wire, pure: heads, body framing, chunked coding (RFC 9112).
//!
//! Strict by default. A message that two parsers could read in two ways is how requests are smuggled past a
//! proxy, so whatever is ambiguous is refused with a reason instead of being repaired.
//!
//! Nothing here owns or copies the wire: heads are ranges into the bytes they came in, bodies are ranges of the
//! chunk just read, so that what nobody changes is forwarded as it came.

mod chunked;
mod error;
mod facts;
mod fields;
mod framing;
mod head;
mod line;
mod mend;
mod sniff;
mod target;
mod write;

pub use chunked::{ChunkError, ChunkedScanner, write_chunk, write_chunk_size, write_last_chunk};
pub use error::{HeadError, HeadReason, Side};
pub use facts::{request_framing, response_framing};
pub use framing::{BodyFraming, BodyScanner, ScanStep, Truncated};
pub use head::{
    FieldSpan, HeadLimits, HeadProgress, RequestFacts, RequestHead, ResponseHead, Span, head_end,
    parse_request_head, parse_response_head,
};
pub use mend::mend_head;
pub use sniff::{Sniff, looks_like_http};
pub use target::{TargetError, TargetForm, split_absolute, split_authority};
pub use write::{WriteError, write_request_head, write_response_head, write_simple_response};

#[cfg(test)]
mod tests;
