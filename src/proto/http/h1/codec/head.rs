//! Heads: one pass over the bytes, ranges instead of copies, facts on the way.

use std::ops::Range;

use bytes::Bytes;

use super::error::{HeadError, HeadReason, Side};
use super::facts::FieldFacts;
use super::fields::{Block, diagnose, read_block};
use super::framing::BodyFraming;
use super::line;
use super::target::{TargetForm, split_absolute, split_authority};
use crate::flow::{Field, Headers, HttpVersion};
use crate::proto::codec::Parsed;

/// What a head may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes from the first line to the empty line, both included. At most `u32::MAX`: ranges are 32 bits wide.
    pub head_size_max: usize,
    /// Header lines.
    pub headers_max: usize,
    /// Bytes of one line, without its end. As large as the head by default: single headers of 40 KB are real
    /// (Kerberos tickets, content security policies).
    pub line_len_max: usize,
    /// A head that is refused may be written anew ([`mend_head`](super::mend_head)) and judged again. Parsing itself
    /// is as strict as ever.
    pub mends: bool,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_size_max: 64 * 1024, headers_max: 256, line_len_max: 64 * 1024, mends: false }
    }
}

/// A range of the bytes a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// These bytes of `head`; empty if `head` is not what was parsed.
    pub fn of(self, head: &[u8]) -> &[u8] {
        head.get(self.range()).unwrap_or_default()
    }

    /// As a range of indices.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(super) fn new(start: usize, end: usize) -> Self {
        // Heads are cut off at 4 GB long before this saturates.
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { start: narrow(start), end: narrow(end) }
    }

    fn slice(self, head: &Bytes) -> Bytes {
        if self.range().end <= head.len() { head.slice(self.range()) } else { Bytes::new() }
    }
}

/// One header line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSpan {
    /// The name.
    pub name: Span,
    /// The value without the white space around it.
    pub value: Span,
}

/// How far the search for the end of a head has come, so that bytes that trickle in are not looked at again and
/// again. One per head; start with the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadProgress {
    /// Where the header lines begin, once the first line has been read into the head; 0 before.
    fields_at: usize,
    /// Bytes already searched for the empty line; 0: not looked at the header lines yet.
    searched: usize,
}

/// What the framing of a response depends on, of the request it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The method was HEAD.
    pub head: bool,
    /// The method was CONNECT.
    pub connect: bool,
}

/// A request head: ranges into the bytes it was parsed from, and what they mean.
///
/// It owns no bytes. The caller keeps `bytes[..consumed]` beside it and hands them to the methods here.
/// Reused for the next request on a connection, it does not allocate.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Where the request line begins: behind empty lines, if there were any.
    pub start: u32,
    /// The method, case kept.
    pub method: Span,
    /// The target as it came.
    pub target: Span,
    /// Which form the target has, checked against the method.
    pub target_form: TargetForm,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: HttpVersion,
    /// The header lines, in order.
    pub fields: Vec<FieldSpan>,
    /// How the body ends.
    pub framing: BodyFraming,
    /// The client lets the connection live on after this exchange.
    pub keep_alive: bool,
    /// The client offers to switch protocols.
    pub upgrade: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The method is CONNECT.
    pub connect: bool,
    /// The method is HEAD.
    pub is_head: bool,
    /// The value of the Host header. Its absence is for the caller to judge, even in HTTP/1.1: transparent clients
    /// without one exist.
    pub host: Option<Span>,
    /// Connection names fields of this hop, other than `close`, `keep-alive` and `upgrade`.
    pub has_connection_options: bool,
    /// The client takes trailers (`TE: trailers`).
    pub te_trailers: bool,
}

/// A response head, like [`RequestHead`].
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: HttpVersion,
    /// 100 to 999.
    pub status: u16,
    /// The reason phrase, perhaps empty.
    pub reason: Span,
    /// The header lines, in order.
    pub fields: Vec<FieldSpan>,
    /// How the body ends.
    pub framing: BodyFraming,
    /// The connection lives on after this exchange.
    pub keep_alive: bool,
    /// The server switches protocols, or says which it could switch to.
    pub upgrade: bool,
    /// Another response to the same request follows: any 1xx but 101.
    pub interim: bool,
    /// Connection names fields of this hop, other than `close`, `keep-alive` and `upgrade`.
    pub has_connection_options: bool,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            start: 0,
            method: Span::default(),
            target: Span::default(),
            target_form: TargetForm::Origin,
            version: HttpVersion::Http11,
            fields: Vec::new(),
            framing: BodyFraming::None,
            keep_alive: false,
            upgrade: false,
            expect_continue: false,
            connect: false,
            is_head: false,
            host: None,
            has_connection_options: false,
            te_trailers: false,
        }
    }
}

impl RequestHead {
    /// Parses a head into `self`, replacing what was there. After an error or `NeedMore` the contents mean nothing.
    ///
    /// Call again with the same bytes and more behind them; `progress` keeps that linear, however slowly they come.
    pub fn parse_into(
        &mut self,
        bytes: &[u8],
        progress: &mut HeadProgress,
        limits: &HeadLimits,
    ) -> Result<Parsed<()>, HeadError> {
        self.parse(bytes, progress, limits).map_err(|reason| HeadError { side: Side::Client, reason })
    }

    /// The header fields, as slices that share `head`.
    pub fn headers(&self, head: &Bytes) -> Headers {
        headers(&self.fields, head)
    }

    /// What the framing of the response depends on.
    pub fn request_facts(&self) -> RequestFacts {
        RequestFacts { head: self.is_head, connect: self.connect }
    }

    fn parse(
        &mut self,
        bytes: &[u8],
        progress: &mut HeadProgress,
        limits: &HeadLimits,
    ) -> Result<Parsed<()>, HeadReason> {
        if progress.fields_at == 0 && !self.parse_first_line(bytes, progress, limits)? {
            return Ok(Parsed::NeedMore);
        }
        let mut facts = FieldFacts::new(Side::Client);
        let start = self.start as usize;
        let Some(end) = read_fields(&mut self.fields, bytes, start, progress, limits, &mut facts)? else {
            return Ok(Parsed::NeedMore);
        };
        self.framing = facts.request_body(self.version, self.connect)?;
        self.keep_alive = facts.keeps_alive(self.version);
        self.upgrade = facts.upgrades(self.version);
        self.expect_continue = facts.expects_continue(self.version);
        self.host = facts.host_index.and_then(|index| self.fields.get(index)).map(|field| field.value);
        self.has_connection_options = facts.has_connection_options;
        self.te_trailers = facts.te_trailers;
        Ok(Parsed::Done { value: (), consumed: end })
    }

    fn parse_first_line(
        &mut self,
        bytes: &[u8],
        progress: &mut HeadProgress,
        limits: &HeadLimits,
    ) -> Result<bool, HeadReason> {
        let start = skip_empty_lines(bytes)?;
        let (window, cut) = first_line_window(bytes, start, limits);
        let Some(line) = line::request_line(window, start)? else {
            return if cut {
                Err(HeadReason::FirstLineTooLong { max: limits.line_len_max })
            } else {
                Ok(false)
            };
        };
        let method = line.method.of(bytes);
        self.connect = method == b"CONNECT";
        self.is_head = method == b"HEAD";
        self.target_form = target_form(method, line.target.of(bytes))?;
        self.start = Span::new(start, start).start;
        self.method = line.method;
        self.target = line.target;
        self.version = line.version;
        progress.fields_at = line.end;
        Ok(true)
    }
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self {
            version: HttpVersion::Http11,
            status: 0,
            reason: Span::default(),
            fields: Vec::new(),
            framing: BodyFraming::None,
            keep_alive: false,
            upgrade: false,
            interim: false,
            has_connection_options: false,
        }
    }
}

impl ResponseHead {
    /// Parses the head of a response to `request` into `self`; see [`RequestHead::parse_into`].
    pub fn parse_into(
        &mut self,
        bytes: &[u8],
        progress: &mut HeadProgress,
        request: RequestFacts,
        limits: &HeadLimits,
    ) -> Result<Parsed<()>, HeadError> {
        let parsed = self.parse(bytes, progress, request, limits);
        parsed.map_err(|reason| HeadError { side: Side::Server, reason })
    }

    /// The header fields, as slices that share `head`.
    pub fn headers(&self, head: &Bytes) -> Headers {
        headers(&self.fields, head)
    }

    fn parse(
        &mut self,
        bytes: &[u8],
        progress: &mut HeadProgress,
        request: RequestFacts,
        limits: &HeadLimits,
    ) -> Result<Parsed<()>, HeadReason> {
        if progress.fields_at == 0 && !self.parse_first_line(bytes, progress, limits)? {
            return Ok(Parsed::NeedMore);
        }
        let mut facts = FieldFacts::new(Side::Server);
        let Some(end) = read_fields(&mut self.fields, bytes, 0, progress, limits, &mut facts)? else {
            return Ok(Parsed::NeedMore);
        };
        self.framing = facts.response_body(self.version, self.status, request)?;
        self.keep_alive = facts.keeps_alive(self.version) && self.framing != BodyFraming::UntilClose;
        self.upgrade = facts.upgrades(self.version);
        self.interim = self.status < 200 && self.status != 101;
        self.has_connection_options = facts.has_connection_options;
        Ok(Parsed::Done { value: (), consumed: end })
    }

    fn parse_first_line(
        &mut self,
        bytes: &[u8],
        progress: &mut HeadProgress,
        limits: &HeadLimits,
    ) -> Result<bool, HeadReason> {
        let (window, cut) = first_line_window(bytes, 0, limits);
        let Some(line) = line::status_line(window, 0)? else {
            return if cut {
                Err(HeadReason::FirstLineTooLong { max: limits.line_len_max })
            } else {
                Ok(false)
            };
        };
        self.version = line.version;
        self.status = line.status;
        self.reason = line.reason;
        progress.fields_at = line.end;
        Ok(true)
    }
}

/// Parses a request head from all bytes there are. For bytes that trickle in, see [`RequestHead::parse_into`].
pub fn parse_request_head(bytes: &[u8], limits: &HeadLimits) -> Result<Parsed<RequestHead>, HeadError> {
    let mut head = RequestHead::default();
    let parsed = head.parse_into(bytes, &mut HeadProgress::default(), limits)?;
    Ok(parsed.map(|()| head))
}

/// Parses the head of a response to `request` from all bytes there are.
pub fn parse_response_head(
    bytes: &[u8],
    request: RequestFacts,
    limits: &HeadLimits,
) -> Result<Parsed<ResponseHead>, HeadError> {
    let mut head = ResponseHead::default();
    let parsed = head.parse_into(bytes, &mut HeadProgress::default(), request, limits)?;
    Ok(parsed.map(|()| head))
}

/// Where the empty line ends that ends a head, if it has come. The first `from` bytes were searched before.
///
/// Also finds ends made of bare LFs: the head must be seen to end before it can be refused.
pub fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    // An LF and a CR of the end may be among the bytes searched before.
    let mut at = from.saturating_sub(2);
    while let Some(found) = bytes.get(at..)?.iter().position(|b| *b == b'\n') {
        at += found + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Reads the header lines behind the first line; `None` until all of them are there.
fn read_fields(
    fields: &mut Vec<FieldSpan>,
    bytes: &[u8],
    start: usize,
    progress: &mut HeadProgress,
    limits: &HeadLimits,
    facts: &mut FieldFacts,
) -> Result<Option<usize>, HeadReason> {
    let size_max = limits.head_size_max.min(u32::MAX as usize / 2);
    let at = progress.fields_at;
    // The CRLF of the first line is half of the end of a head without fields.
    let end_behind = |searched: usize| head_end(bytes, searched.max(at + 1));
    let fits = |end: usize| {
        if end.saturating_sub(start) > size_max {
            Err(HeadReason::HeadTooLarge { max: size_max })
        } else {
            Ok(end)
        }
    };
    // Mostly a head comes in one piece, and looking for its end first would be a second pass over it.
    if progress.searched > 0 && end_behind(progress.searched).is_none() {
        progress.searched = bytes.len();
        return fits(bytes.len()).map(|_| None);
    }
    fields.clear();
    let mut longest = 0;
    let block = read_block(bytes, at, limits.headers_max, |span, name, value| {
        facts.observe(fields.len(), name, value);
        longest = longest.max(span.value.end - span.name.start);
        fields.push(span);
    });
    if let Block::Complete(used) = block {
        let end = fits(at + used)?;
        let max = limits.line_len_max;
        return if longest as usize > max {
            Err(HeadReason::FieldLineTooLong { max })
        } else {
            Ok(Some(end))
        };
    }
    // A wrong byte is refused at the end of the head, so that the verdict does not depend on how the bytes came.
    let Some(end) = end_behind(0) else {
        progress.searched = bytes.len();
        return fits(bytes.len()).map(|_| None);
    };
    fits(end)?;
    Err(match block {
        Block::TooMany => HeadReason::TooManyFields { max: limits.headers_max },
        _ => diagnose(&bytes[at..end]),
    })
}

/// Clients were seen to send a CRLF too many behind a body (RFC 9112 §2.2).
fn skip_empty_lines(bytes: &[u8]) -> Result<usize, HeadReason> {
    let mut start = 0;
    while bytes[start..].starts_with(b"\r\n") {
        start += 2;
        if start > 2 * EMPTY_LINES_MAX {
            return Err(HeadReason::TooManyEmptyLines);
        }
    }
    Ok(start)
}

/// The bytes a first line may lie in, and whether there are more behind them.
fn first_line_window<'b>(bytes: &'b [u8], start: usize, limits: &HeadLimits) -> (&'b [u8], bool) {
    let end = start.saturating_add(limits.line_len_max.min(limits.head_size_max)).saturating_add(2);
    (&bytes[..bytes.len().min(end)], bytes.len() >= end)
}

/// RFC 9112 §3.2: which form, and whether the method may have it.
fn target_form(method: &[u8], target: &[u8]) -> Result<TargetForm, HeadReason> {
    if method == b"CONNECT" {
        return split_authority(target).map(|_| TargetForm::Authority).map_err(|_| HeadReason::BadTarget);
    }
    match target {
        [b'/', ..] => Ok(TargetForm::Origin),
        b"*" if method == b"OPTIONS" => Ok(TargetForm::Asterisk),
        _ => split_absolute(target).map(|_| TargetForm::Absolute).ok_or(HeadReason::BadTarget),
    }
}

fn headers(fields: &[FieldSpan], head: &Bytes) -> Headers {
    let field = |span: &FieldSpan| Field { name: span.name.slice(head), value: span.value.slice(head) };
    Headers::new(fields.iter().map(field).collect())
}

/// Empty lines before a request line that are forgiven.
const EMPTY_LINES_MAX: usize = 4;
