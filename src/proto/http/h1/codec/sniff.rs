//! Does a connection's first line look like HTTP?

/// What the first bytes of a connection look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// An HTTP/1 request line.
    Http,
    /// The connection preface of HTTP/2 (RFC 9113 §3.4).
    Http2Preface,
    /// Something else.
    NotHttp,
    /// Could still become HTTP.
    NeedMore,
}

/// Judges the first bytes a client sent: a word of letters, a space, and behind it no other protocol.
///
/// For methods that everyone knows the space decides. Other words may be another text protocol's commands
/// (`EHLO host`, `USER name`), so for them the whole line is awaited and must name an HTTP version.
pub fn looks_like_http(first_bytes: &[u8]) -> Sniff {
    let shown = &first_bytes[..first_bytes.len().min(PREFACE.len())];
    if PREFACE.starts_with(shown) {
        return if shown.len() == PREFACE.len() { Sniff::Http2Preface } else { Sniff::NeedMore };
    }
    let is_method_byte = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_');
    let Some(space) = first_bytes.iter().take(METHOD_LEN_MAX + 1).position(|b| !is_method_byte(b)) else {
        return if first_bytes.len() > METHOD_LEN_MAX { Sniff::NotHttp } else { Sniff::NeedMore };
    };
    let method = &first_bytes[..space];
    if first_bytes[space] != b' ' || !method.first().is_some_and(u8::is_ascii_alphabetic) {
        return Sniff::NotHttp;
    }
    if KNOWN_METHODS.contains(&method) {
        return Sniff::Http;
    }
    let line = &first_bytes[..first_bytes.len().min(LINE_LEN_MAX)];
    match line.iter().position(|b| *b == b'\n') {
        Some(end) if line[..end].trim_ascii_end().windows(6).any(|part| part == b" HTTP/") => Sniff::Http,
        Some(_) => Sniff::NotHttp,
        // A line that long is let in, to be refused with a reason if it is not HTTP after all.
        None if first_bytes.len() >= LINE_LEN_MAX => Sniff::Http,
        None => Sniff::NeedMore,
    }
}

/// Enough to tell it from any request.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// Longer than any registered method.
const METHOD_LEN_MAX: usize = 32;
/// How much of the line of an unknown method is looked at.
const LINE_LEN_MAX: usize = 4096;
const KNOWN_METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"DELETE",
    b"OPTIONS",
    b"CONNECT",
    b"PATCH",
    b"TRACE",
    b"PROPFIND",
    b"PROPPATCH",
    b"REPORT",
    b"MKCOL",
    b"LOCK",
    b"UNLOCK",
];
