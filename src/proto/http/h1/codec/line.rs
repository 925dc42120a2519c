//! First lines: `GET /path HTTP/1.1`, `HTTP/1.1 200 OK`. Read by hand, since targets and reasons may hold bytes
//! that are not UTF-8, and so that garbage is refused at its first wrong byte instead of at the end of a head.

use super::error::HeadReason;
use super::head::Span;
use crate::flow::HttpVersion;

/// A request line and where it ends, behind its CRLF.
pub(super) struct RequestLine {
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) version: HttpVersion,
    pub(super) end: usize,
}

/// A status line and where it ends, behind its CRLF.
pub(super) struct StatusLine {
    pub(super) version: HttpVersion,
    pub(super) status: u16,
    pub(super) reason: Span,
    pub(super) end: usize,
}

/// Reads `method SP target SP version CRLF` at `start`. `None`: the line goes on.
pub(super) fn request_line(bytes: &[u8], start: usize) -> Result<Option<RequestLine>, HeadReason> {
    let Some(method_end) = find(bytes, start, |b| !is_token_byte(b)) else { return Ok(None) };
    if bytes[method_end] != b' ' || method_end == start {
        return wrong_byte(bytes, method_end, HeadReason::BadMethod);
    }
    let target_start = method_end + 1;
    let Some(target_end) = find(bytes, target_start, is_space_or_control) else { return Ok(None) };
    if bytes[target_end] != b' ' || target_end == target_start {
        return wrong_byte(bytes, target_end, HeadReason::BadTarget);
    }
    let version_start = target_end + 1;
    let rest = &bytes[version_start..];
    let (version, end) = if rest.starts_with(b"HTTP/1.1\r\n") {
        (HttpVersion::Http11, version_start + 10)
    } else if rest.starts_with(b"HTTP/1.0\r\n") {
        (HttpVersion::Http10, version_start + 10)
    } else {
        let preface = bytes[start..].starts_with(b"PRI * ");
        return other_version(bytes, version_start, preface);
    };
    let method = Span::new(start, method_end);
    Ok(Some(RequestLine { method, target: Span::new(target_start, target_end), version, end }))
}

/// Reads `version SP status SP reason CRLF` at `start`. `None`: the line goes on.
///
/// The space before an empty reason may be missing: many servers leave it out, and nothing else can be meant.
pub(super) fn status_line(bytes: &[u8], start: usize) -> Result<Option<StatusLine>, HeadReason> {
    let rest = &bytes[start..];
    let prefix = &rest[..rest.len().min(9)];
    let version = if b"HTTP/1.1 ".starts_with(prefix) {
        HttpVersion::Http11
    } else if b"HTTP/1.0 ".starts_with(prefix) {
        HttpVersion::Http10
    } else if prefix.starts_with(b"HTTP/") {
        return Err(HeadReason::UnsupportedVersion);
    } else {
        return Err(HeadReason::BadStatusLine);
    };
    let digits = rest.get(9..).unwrap_or_default();
    let digits = &digits[..digits.len().min(3)];
    if digits.first() == Some(&b'0') || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadReason::BadStatusLine);
    }
    let Some(after) = rest.get(12) else { return Ok(None) };
    let status = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    let reason_start = match after {
        b' ' => start + 13,
        b'\r' => start + 12,
        _ => return wrong_byte(bytes, start + 12, HeadReason::BadStatusLine),
    };
    let ends = |b| b != b'\t' && (b < b' ' || b == 0x7f);
    let Some(reason_end) = find(bytes, reason_start, ends) else { return Ok(None) };
    match bytes[reason_end..] {
        [b'\r', b'\n', ..] => {
            let reason = Span::new(reason_start, reason_end);
            Ok(Some(StatusLine { version, status, reason, end: reason_end + 2 }))
        }
        _ => wrong_byte(bytes, reason_end, HeadReason::BadStatusLine),
    }
}

/// Characters of a token (RFC 9110 §5.6.2).
pub(super) fn is_token_byte(b: u8) -> bool {
    TOKEN[usize::from(b)]
}

/// Which reason the byte at `at`, where it must not be, stands for. A final CR may yet become a CRLF.
fn wrong_byte<T>(bytes: &[u8], at: usize, otherwise: HeadReason) -> Result<Option<T>, HeadReason> {
    match bytes[at..] {
        [0, ..] => Err(HeadReason::Nul),
        [b'\n', ..] => Err(HeadReason::BareLf),
        [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] | [b' ', ..] => Err(match otherwise {
            HeadReason::BadStatusLine => otherwise,
            _ => HeadReason::BadRequestLine,
        }),
        [b'\r', ..] => Err(HeadReason::BareCr),
        _ => Err(otherwise),
    }
}

/// The end of a request line that is not `HTTP/1.x CRLF`, or not yet.
fn other_version<T>(bytes: &[u8], start: usize, preface: bool) -> Result<Option<T>, HeadReason> {
    let end = find(bytes, start, is_space_or_control);
    let word = &bytes[start..end.unwrap_or(bytes.len())];
    let word = &word[..word.len().min(9)];
    let known = [&b"HTTP/1.1"[..], b"HTTP/1.0"];
    if known.contains(&word) {
        return end.map_or(Ok(None), |end| wrong_byte(bytes, end, HeadReason::BadRequestLine));
    }
    if end.is_none() && word.len() < 9 {
        return Ok(None);
    }
    Err(match word {
        b"HTTP/2.0" if preface => HeadReason::Http2Preface,
        _ if word.starts_with(b"HTTP/") => HeadReason::UnsupportedVersion,
        _ => HeadReason::BadRequestLine,
    })
}

fn find(bytes: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.iter().position(|b| wanted(*b)).map(|at| from + at)
}

fn is_space_or_control(b: u8) -> bool {
    b <= b' ' || b == 0x7f
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        let c = b as u8;
        table[b] = c.is_ascii_alphanumeric()
            || matches!(
                c,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        b += 1;
    }
    table
};
