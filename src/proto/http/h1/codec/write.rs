//! Heads as bytes, and the small pages we answer with ourselves.
//!
//! Addons may put anything into a flow; what would end a line or split a message is refused here, at the last gate.

use super::line::is_token_byte;
use crate::flow::{Headers, HttpVersion};

/// Why a head is not written. Nothing has been appended then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Not a token.
    #[error("the method is not valid on the wire")]
    Method,
    /// Empty, or white space or control characters in it.
    #[error("the request target is not valid on the wire")]
    Target,
    /// Below 100 or above 999.
    #[error("the status code does not have three digits")]
    Status,
    /// A line end or NUL in it.
    #[error("the reason phrase is not valid on the wire")]
    Reason,
    /// Not a token.
    #[error("a header name is not valid on the wire")]
    FieldName,
    /// A line end or NUL in it.
    #[error("a header value is not valid on the wire")]
    FieldValue,
}

/// Appends a request head, with its empty line. Versions other than HTTP/1.0 are written as HTTP/1.1: the flow came
/// in another way, the wire is HTTP/1.
pub fn write_request_head(
    out: &mut Vec<u8>,
    method: &[u8],
    target: &[u8],
    version: HttpVersion,
    headers: &Headers,
) -> Result<(), WriteError> {
    if method.is_empty() || !method.iter().all(|b| is_token_byte(*b)) {
        return Err(WriteError::Method);
    }
    if target.is_empty() || target.iter().any(|b| *b <= b' ' || *b == 0x7f) {
        return Err(WriteError::Target);
    }
    let before = out.len();
    for part in [method, b" ", target, b" ", wire_version(version), b"\r\n"] {
        out.extend_from_slice(part);
    }
    finish(out, before, headers)
}

/// Appends a response head, with its empty line; versions as in [`write_request_head`].
pub fn write_response_head(
    out: &mut Vec<u8>,
    version: HttpVersion,
    status: u16,
    reason: &[u8],
    headers: &Headers,
) -> Result<(), WriteError> {
    if !(100..1000).contains(&status) {
        return Err(WriteError::Status);
    }
    if reason.iter().any(|b| ends_line(*b)) {
        return Err(WriteError::Reason);
    }
    let before = out.len();
    for part in [wire_version(version), b" ", status.to_string().as_bytes(), b" ", reason, b"\r\n"] {
        out.extend_from_slice(part);
    }
    finish(out, before, headers)
}

/// Appends a whole response of our own: a small page that says what went wrong.
pub fn write_simple_response(out: &mut Vec<u8>, status: u16, reason: &str, body_text: &str, close: bool) {
    let status = status.clamp(100, 999);
    let (title, text) = (escaped(reason), escaped(body_text));
    let body = format!(
        "<html><head><title>{status} {title}</title></head><body><h1>{status} {title}</h1><p>{text}</p></body></html>\n"
    );
    let length = body.len().to_string();
    let mut fields = vec![
        ("Server", "ringtap"),
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", &length),
    ];
    if close {
        fields.push(("Connection", "close"));
    }
    let phrase: Vec<u8> = reason.bytes().map(|b| if ends_line(b) { b' ' } else { b }).collect();
    if write_response_head(out, HttpVersion::Http11, status, &phrase, &Headers::from_pairs(fields)).is_ok() {
        out.extend_from_slice(body.as_bytes());
    }
}

/// Appends header lines without the empty line. Leaves a part of them behind on error; callers cut it off.
pub(super) fn write_fields(out: &mut Vec<u8>, headers: &Headers) -> Result<(), WriteError> {
    for field in headers.fields() {
        if field.name.is_empty() || !field.name.iter().all(|b| is_token_byte(*b)) {
            return Err(WriteError::FieldName);
        }
        if field.value.iter().any(|b| ends_line(*b)) {
            return Err(WriteError::FieldValue);
        }
        for part in [&field.name[..], b": ", &field.value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    Ok(())
}

fn finish(out: &mut Vec<u8>, before: usize, headers: &Headers) -> Result<(), WriteError> {
    let written = write_fields(out, headers);
    match written {
        Ok(()) => out.extend_from_slice(b"\r\n"),
        Err(_) => out.truncate(before),
    }
    written
}

fn wire_version(version: HttpVersion) -> &'static [u8] {
    match version {
        HttpVersion::Http10 => b"HTTP/1.0",
        _ => b"HTTP/1.1",
    }
}

fn ends_line(b: u8) -> bool {
    matches!(b, b'\r' | b'\n' | 0)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}
