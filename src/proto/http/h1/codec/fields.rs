//! The block of header lines behind a first line, or of trailer lines behind a chunked body.
//!
//! `httparse` does the walking. It is more lenient than we are about line ends (it takes a bare LF), so those are
//! checked from its ranges, which costs one comparison per line.

use super::error::HeadReason;
use super::head::{FieldSpan, Span};
use super::line::is_token_byte;

/// How far a block got.
pub(super) enum Block {
    /// All lines, and the empty one. That many bytes.
    Complete(usize),
    /// No empty line yet.
    Partial,
    /// Something is wrong; `diagnose` knows what.
    Malformed,
    /// More lines than allowed.
    TooMany,
}

/// Reads the lines of a block that begins at `at` and hands on each field.
pub(super) fn read_block<'b>(
    bytes: &'b [u8],
    at: usize,
    fields_max: usize,
    mut each: impl FnMut(FieldSpan, &'b [u8], &'b [u8]),
) -> Block {
    let block = bytes.get(at..).unwrap_or_default();
    // Clearing the slots costs as much as parsing a line each: few first, the full number for the rare head.
    let mut few = [httparse::EMPTY_HEADER; FIELDS_COMMON];
    let allowed = fields_max.min(FIELDS_COMMON);
    match httparse::parse_headers(block, &mut few[..allowed]) {
        Err(httparse::Error::TooManyHeaders) if fields_max > FIELDS_COMMON => {
            let mut many = vec![httparse::EMPTY_HEADER; fields_max];
            let outcome = httparse::parse_headers(block, &mut many);
            hand_on(block, at, outcome, &mut each)
        }
        outcome => hand_on(block, at, outcome, &mut each),
    }
}

/// What is wrong with a malformed block. Only asked once a head is refused, so it takes its time.
pub(super) fn diagnose(block: &[u8]) -> HeadReason {
    let mut first = true;
    for line in block.split_inclusive(|b| *b == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let Some(line) = line.strip_suffix(b"\r") else { return HeadReason::BareLf };
        if line.contains(&b'\r') {
            return HeadReason::BareCr;
        }
        if line.contains(&0) {
            return HeadReason::Nul;
        }
        if let Some(reason) = diagnose_line(line, first) {
            return reason;
        }
        first = false;
    }
    HeadReason::BadFieldValue
}

fn diagnose_line(line: &[u8], first: bool) -> Option<HeadReason> {
    match line.first()? {
        b' ' | b'\t' if first => return Some(HeadReason::SpaceBeforeFirstField),
        b' ' | b'\t' => return Some(HeadReason::ObsFold),
        b':' => return Some(HeadReason::EmptyFieldName),
        _ => {}
    }
    let Some(colon) = line.iter().position(|b| *b == b':') else { return Some(HeadReason::BadFieldName) };
    let (name, value) = line.split_at(colon);
    let bad_value = |b: &u8| (*b < b' ' && *b != b'\t') || *b == 0x7f;
    let is_token = |bytes: &[u8]| bytes.iter().all(|b| is_token_byte(*b));
    if !is_token(name) && is_token(name.trim_ascii_end()) {
        Some(HeadReason::SpaceBeforeColon)
    } else if !is_token(name) {
        Some(HeadReason::BadFieldName)
    } else {
        value.iter().any(bad_value).then_some(HeadReason::BadFieldValue)
    }
}

fn hand_on<'b>(
    block: &'b [u8],
    at: usize,
    outcome: httparse::Result<(usize, &[httparse::Header<'b>])>,
    each: &mut impl FnMut(FieldSpan, &'b [u8], &'b [u8]),
) -> Block {
    let (used, headers) = match outcome {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) => return Block::Partial,
        Err(httparse::Error::TooManyHeaders) => return Block::TooMany,
        Err(_) => return Block::Malformed,
    };
    for header in headers {
        let name = header.name.as_bytes();
        let name_start = offset(block, name);
        let name_end = name_start + name.len();
        // An empty value may point anywhere.
        let value_start = if header.value.is_empty() { name_end + 1 } else { offset(block, header.value) };
        if name_start > 0 && !block[..name_start].ends_with(b"\r\n") {
            return Block::Malformed;
        }
        let span = FieldSpan {
            name: Span::new(at + name_start, at + name_end),
            value: Span::new(at + value_start, at + value_start + header.value.len()),
        };
        each(span, name, header.value);
    }
    let end: &[u8] = if headers.is_empty() { b"\r\n" } else { b"\r\n\r\n" };
    if !block[..used].ends_with(end) {
        return Block::Malformed;
    }
    Block::Complete(used)
}

/// Where in `block` its part begins.
fn offset(block: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(block.as_ptr().addr())
}

/// More than browsers send; 2 KB of stack.
const FIELDS_COMMON: usize = 64;
