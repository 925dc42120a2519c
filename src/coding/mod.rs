//! Content codings (RFC 9110 §8.4.1): gzip, deflate, br, zstd and identity, from bytes to bytes.
//!
//! What is decoded came from a stranger: every decoder stops at [`Limits`] and never has more than that in
//! memory (and its window, at most [`WINDOW_MAX`]). A body that would be larger is an error that says so, not a
//! prefix.
//!
//! | coding | decodes | encodes |
//! |---|---|---|
//! | `gzip`, `x-gzip` | gzip members one after another; also zlib data | one member, no time stamp |
//! | `deflate` | zlib data, or raw deflate as some servers send it | zlib data |
//! | `br` | brotli without large windows (RFC 7932) | fastest |
//! | `zstd` | Zstandard frames (RFC 8878), skippable ones passed over | fastest |
//! | `identity`, `none` | as it is | as it is |
//!
//! A gzip or zstd body that was cut off decodes to what had arrived, as browsers and mitmproxy do; of the other
//! two nothing is left. A list of codings, `gzip, br`, is undone from its end (RFC 9110 §8.4), at most
//! [`CODINGS_MAX`] of them.

mod brotli;
mod inflate;
mod sink;
#[cfg(test)]
mod tests;
mod zstd;

use std::borrow::Cow;

use sink::Sink;
use thiserror::Error;

/// Bytes a body may decode to, unless the caller says otherwise.
pub const OUTPUT_MAX: usize = 256 << 20;
/// Times its own size that a body may decode to, beyond [`RATIO_FREE`]: what people send is 3 to 100 times
/// smaller than itself, and what is made to fill memory a thousand times and more.
pub const RATIO_MAX: usize = 200;
/// Bytes a body may decode to whatever its ratio.
pub const RATIO_FREE: usize = 16 << 20;
/// Codings in one list.
pub const CODINGS_MAX: usize = 4;
/// Bytes of history a decoder may keep: what br can ask for (RFC 7932 §9.1), and twice what zstd may over HTTP
/// (RFC 9659 §3).
pub const WINDOW_MAX: u64 = 16 << 20;

/// How much a body may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of output.
    pub output_max: usize,
    /// Times the size of the input, beyond [`ratio_free`](Self::ratio_free).
    pub ratio_max: usize,
    /// Bytes of output that are allowed whatever the ratio.
    pub ratio_free: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { output_max: OUTPUT_MAX, ratio_max: RATIO_MAX, ratio_free: RATIO_FREE }
    }
}

/// One content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// No coding.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, and RFC 1951 without its frame.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// The coding of that name, in any case; white space around it is allowed.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim_matches([' ', '\t']);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        Some(match () {
            () if is("identity") || is("none") => Coding::Identity,
            () if is("gzip") || is("x-gzip") => Coding::Gzip,
            () if is("deflate") || is("deflateraw") => Coding::Deflate,
            () if is("br") => Coding::Brotli,
            () if is("zstd") => Coding::Zstd,
            () => return None,
        })
    }

    /// The name as `Content-Encoding` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }
}

/// Why a body cannot be decoded or encoded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CodingError {
    /// No such coding.
    #[error("unknown content coding '{0}'")]
    Unknown(String),
    /// More than [`CODINGS_MAX`].
    #[error("more than {CODINGS_MAX} content codings")]
    TooMany,
    /// The data are not what the coding says.
    #[error("damaged {coding} data: {reason}")]
    Damaged {
        /// The coding.
        coding: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// More output than [`Limits::output_max`].
    #[error("{coding} data decode to more than {max} bytes")]
    TooLarge {
        /// The coding.
        coding: &'static str,
        /// The limit.
        max: usize,
    },
    /// More output than [`Limits::ratio_max`] allows.
    #[error("{coding} data decode to more than {max} bytes, {ratio} times their size")]
    Bomb {
        /// The coding.
        coding: &'static str,
        /// Where it was stopped.
        max: usize,
        /// The limit.
        ratio: usize,
    },
}

/// The codings of a `Content-Encoding` value, in the order they were applied. An empty value is none.
///
/// # Errors
/// A name is unknown, or there are too many.
pub fn parse_list(content_encoding: &str) -> Result<Vec<Coding>, CodingError> {
    let mut codings = Vec::new();
    for name in content_encoding.split(',').map(|name| name.trim_matches([' ', '\t'])) {
        if name.is_empty() {
            continue;
        }
        let coding = Coding::parse(name).ok_or_else(|| {
            CodingError::Unknown(name.chars().take(40).flat_map(char::escape_debug).collect())
        })?;
        if coding != Coding::Identity {
            codings.push(coding);
        }
        if codings.len() > CODINGS_MAX {
            return Err(CodingError::TooMany);
        }
    }
    Ok(codings)
}

/// Undoes what a `Content-Encoding` value says. Bodies without coding are borrowed.
///
/// # Errors
/// An unknown coding, damaged data, or more output than the limits allow.
pub fn decode<'a>(
    data: &'a [u8],
    content_encoding: &str,
    limits: &Limits,
) -> Result<Cow<'a, [u8]>, CodingError> {
    let mut data = Cow::Borrowed(data);
    for coding in parse_list(content_encoding)?.into_iter().rev() {
        data = Cow::Owned(decode_one(&data, coding, limits)?);
    }
    Ok(data)
}

/// Undoes one coding. Nothing decodes to nothing, whatever the coding.
///
/// # Errors
/// Damaged data, or more output than the limits allow.
pub fn decode_one(data: &[u8], coding: Coding, limits: &Limits) -> Result<Vec<u8>, CodingError> {
    let mut sink = Sink::new(coding.as_str(), data.len(), limits);
    if data.is_empty() {
        return Ok(Vec::new());
    }
    match coding {
        Coding::Identity => sink.extend(data)?,
        Coding::Gzip => inflate::gzip(data, &mut sink)?,
        Coding::Deflate => inflate::deflate(data, &mut sink)?,
        Coding::Brotli => brotli::decode(data, &mut sink)?,
        Coding::Zstd => zstd::decode(data, &mut sink)?,
    }
    Ok(sink.done())
}

/// Applies what a `Content-Encoding` value says. Bodies without coding are borrowed.
///
/// # Errors
/// An unknown coding.
pub fn encode<'a>(data: &'a [u8], content_encoding: &str) -> Result<Cow<'a, [u8]>, CodingError> {
    let mut data = Cow::Borrowed(data);
    for coding in parse_list(content_encoding)? {
        data = Cow::Owned(encode_one(&data, coding)?);
    }
    Ok(data)
}

/// Applies one coding, for speed rather than size: what we encode goes to somebody near, or is looked at.
///
/// # Errors
/// None with the encoders of today.
pub fn encode_one(data: &[u8], coding: Coding) -> Result<Vec<u8>, CodingError> {
    match coding {
        Coding::Identity => Ok(data.to_vec()),
        Coding::Gzip => inflate::encode_gzip(data),
        Coding::Deflate => inflate::encode_deflate(data),
        Coding::Brotli => brotli::encode(data),
        Coding::Zstd => Ok(zstd::encode(data)),
    }
}
