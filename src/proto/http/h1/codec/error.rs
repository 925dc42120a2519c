//! Why a head is refused, in words a client can read.

/// Who sent the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A request: the client is at fault.
    Client,
    /// A response: the server is at fault.
    Server,
}

/// A refused head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct HeadError {
    /// Whose fault it is.
    pub side: Side,
    /// What is wrong.
    pub reason: HeadReason,
}

impl HeadError {
    /// Whether the head could be acceptable if it were written anew: it is malformed, and not too large.
    pub fn may_be_mended(&self) -> bool {
        !matches!(
            self.reason,
            HeadReason::HeadTooLarge { .. }
                | HeadReason::FirstLineTooLong { .. }
                | HeadReason::FieldLineTooLong { .. }
                | HeadReason::TooManyFields { .. }
                | HeadReason::TooManyEmptyLines
                | HeadReason::UnsupportedVersion
                | HeadReason::Http2Preface
                | HeadReason::Nul
                | HeadReason::BadTarget
        )
    }

    /// The status of the answer the client gets: 400, 414, 431, 501 or 505 for its own request, 502 for a
    /// server's response.
    pub fn status(&self) -> u16 {
        match (self.side, self.reason) {
            (Side::Server, _) => 502,
            (_, HeadReason::FirstLineTooLong { .. }) => 414,
            (_, HeadReason::HeadTooLarge { .. }) => 431,
            (_, HeadReason::FieldLineTooLong { .. } | HeadReason::TooManyFields { .. }) => 431,
            (_, HeadReason::UnknownTransferEncoding) => 501,
            (_, HeadReason::UnsupportedVersion | HeadReason::Http2Preface) => 505,
            _ => 400,
        }
    }
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadReason {
    /// More than `max` bytes without the empty line that ends a head.
    #[error("the message head is larger than {max} bytes (http_head_size_max)")]
    HeadTooLarge {
        /// The limit.
        max: usize,
    },
    /// The first line has more than `max` bytes.
    #[error("the first line is longer than {max} bytes (http_line_max)")]
    FirstLineTooLong {
        /// The limit.
        max: usize,
    },
    /// A header line has more than `max` bytes.
    #[error("a header line is longer than {max} bytes (http_line_max)")]
    FieldLineTooLong {
        /// The limit.
        max: usize,
    },
    /// More than `max` header lines.
    #[error("more than {max} header lines (http_headers_max)")]
    TooManyFields {
        /// The limit.
        max: usize,
    },
    /// A peer that sends nothing but empty lines.
    #[error("too many empty lines before the request")]
    TooManyEmptyLines,
    /// The first line does not have its parts, each separated by exactly one space.
    #[error("malformed request line")]
    BadRequestLine,
    /// The method is not a token (RFC 9110 §9.1).
    #[error("invalid character in the request method")]
    BadMethod,
    /// The target has a control character, or a form its method does not allow (RFC 9112 §3.2).
    #[error("invalid request target")]
    BadTarget,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("unsupported HTTP version")]
    UnsupportedVersion,
    /// The client speaks HTTP/2 without having negotiated it (RFC 9113 §3.4).
    #[error("HTTP/2 connection preface on an HTTP/1 connection")]
    Http2Preface,
    /// The status line is not `HTTP/1.x NNN reason`, or the status is below 100.
    #[error("malformed status line")]
    BadStatusLine,
    /// A line that ends in LF alone (RFC 9112 §2.2).
    #[error("line feed without carriage return")]
    BareLf,
    /// CR that no LF follows (RFC 9112 §2.2).
    #[error("carriage return without line feed")]
    BareCr,
    /// NUL anywhere.
    #[error("NUL byte in the message head")]
    Nul,
    /// A header line that begins with white space: a continuation (RFC 9112 §5.2).
    #[error("header line continued on the next line")]
    ObsFold,
    /// White space between the first line and the first header (RFC 9112 §2.2).
    #[error("white space before the first header")]
    SpaceBeforeFirstField,
    /// White space between name and colon (RFC 9112 §5.1).
    #[error("white space between header name and colon")]
    SpaceBeforeColon,
    /// A line with nothing before the colon.
    #[error("empty header name")]
    EmptyFieldName,
    /// A name that is not a token, or a line without colon.
    #[error("invalid character in a header name")]
    BadFieldName,
    /// A control character in a value.
    #[error("invalid character in a header value")]
    BadFieldValue,
    /// Two lengths, even if they are the same: the next hop may take the other one.
    #[error("more than one Content-Length header")]
    SeveralContentLengths,
    /// Not a plain decimal number: signs, lists, leading zeros, nothing at all, or too large.
    #[error("invalid Content-Length header")]
    BadContentLength,
    /// Both ways of framing at once (RFC 9112 §6.1).
    #[error("both Content-Length and Transfer-Encoding headers")]
    LengthAndTransferEncoding,
    /// Two transfer encodings.
    #[error("more than one Transfer-Encoding header")]
    SeveralTransferEncodings,
    /// Anything but `chunked`.
    #[error("unknown transfer encoding")]
    UnknownTransferEncoding,
    /// HTTP/1.0 does not know transfer encodings (RFC 9112 §6.1).
    #[error("Transfer-Encoding header in an HTTP/1.0 message")]
    TransferEncodingInHttp10,
    /// A response that cannot have a body claims one (RFC 9110 §8.6, RFC 9112 §6.1).
    #[error("body announced on a response that cannot have one")]
    BodyNotAllowed,
    /// A CONNECT request with a body: its bytes would pass for the tunnel's (RFC 9110 §9.3.6).
    #[error("body announced on a CONNECT request")]
    BodyOnConnect,
    /// Two Host headers (RFC 9112 §3.2).
    #[error("more than one Host header")]
    SeveralHosts,
    /// Not a host with an optional port (RFC 9112 §3.2).
    #[error("invalid Host header")]
    BadHost,
    /// The Connection header asks the next hop to drop a header that frames or routes the message.
    #[error("Connection header names a header that frames the message")]
    ConnectionNamesFraming,
}
