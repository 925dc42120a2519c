//! What header fields decide: framing and the fate of the connection. Judged once, for heads off the wire and for
//! headers an addon has edited alike.

use super::error::{HeadError, HeadReason, Side};
use super::framing::BodyFraming;
use super::head::RequestFacts;
use super::target::is_host_byte;
use crate::flow::{Headers, HttpVersion};

/// How the body of a request with these headers is framed, judged as strictly as a head off the wire.
pub fn request_framing(
    version: HttpVersion,
    connect: bool,
    headers: &Headers,
) -> Result<BodyFraming, HeadError> {
    let facts = FieldFacts::of(Side::Client, headers);
    facts.request_body(version, connect).map_err(|reason| HeadError { side: Side::Client, reason })
}

/// How the body of a response with these headers is framed, judged as strictly as a head off the wire.
pub fn response_framing(
    version: HttpVersion,
    status: u16,
    request: RequestFacts,
    headers: &Headers,
) -> Result<BodyFraming, HeadError> {
    let facts = FieldFacts::of(Side::Server, headers);
    facts.response_body(version, status, request).map_err(|reason| HeadError { side: Side::Server, reason })
}

/// What fields said so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldFacts {
    side: Side,
    /// The first thing wrong. Kept until framing is asked for: what a successful answer to CONNECT says about its
    /// body is ignored, right or wrong (RFC 9112 §6.3).
    fault: Option<HeadReason>,
    content_length: Option<u64>,
    length_seen: bool,
    chunked: bool,
    encoding_seen: bool,
    pub(super) host_index: Option<usize>,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade_field: bool,
    pub(super) has_connection_options: bool,
    expect_continue: bool,
    pub(super) te_trailers: bool,
}

impl FieldFacts {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            fault: None,
            content_length: None,
            length_seen: false,
            chunked: false,
            encoding_seen: false,
            host_index: None,
            close: false,
            keep_alive: false,
            upgrade_option: false,
            upgrade_field: false,
            has_connection_options: false,
            expect_continue: false,
            te_trailers: false,
        }
    }

    fn of(side: Side, headers: &Headers) -> Self {
        let mut facts = Self::new(side);
        for (index, field) in headers.fields().iter().enumerate() {
            facts.observe(index, &field.name, &field.value);
        }
        facts
    }

    /// Takes note of one field. Lengths tell almost all names apart, so that most fields cost one comparison.
    pub(super) fn observe(&mut self, index: usize, name: &[u8], value: &[u8]) {
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => {
                self.te_trailers |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers"));
            }
            4 if name.eq_ignore_ascii_case(b"host") => self.observe_host(index, value),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade_field = true,
            10 if name.eq_ignore_ascii_case(b"connection") => self.observe_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.observe_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.observe_encoding(value),
            _ => {}
        }
    }

    pub(super) fn request_body(
        &self,
        version: HttpVersion,
        connect: bool,
    ) -> Result<BodyFraming, HeadReason> {
        let framing = self.announced(version)?;
        match framing {
            Some(BodyFraming::None | BodyFraming::Length(0)) | None => {}
            Some(_) if connect => return Err(HeadReason::BodyOnConnect),
            Some(_) => {}
        }
        Ok(framing.unwrap_or(BodyFraming::None))
    }

    /// RFC 9112 §6.3, in its order.
    pub(super) fn response_body(
        &self,
        version: HttpVersion,
        status: u16,
        request: RequestFacts,
    ) -> Result<BodyFraming, HeadReason> {
        if request.connect && (200..300).contains(&status) {
            return Ok(BodyFraming::None);
        }
        let framing = self.announced(version)?;
        if status < 200 || status == 204 {
            return match framing {
                // `Content-Length: 0` on a 204 is wrong as well, but common and harmless.
                None | Some(BodyFraming::Length(0)) => Ok(BodyFraming::None),
                Some(_) => Err(HeadReason::BodyNotAllowed),
            };
        }
        if request.head || status == 304 {
            return Ok(BodyFraming::None);
        }
        Ok(framing.unwrap_or(BodyFraming::UntilClose))
    }

    /// RFC 9112 §9.3.
    pub(super) fn keeps_alive(&self, version: HttpVersion) -> bool {
        !self.close && (self.keep_alive || version != HttpVersion::Http10)
    }

    /// Both the field and the connection option are there. HTTP/1.0 cannot upgrade (RFC 9110 §7.8).
    pub(super) fn upgrades(&self, version: HttpVersion) -> bool {
        self.upgrade_field && self.upgrade_option && version != HttpVersion::Http10
    }

    /// The client waits for a 100 before it sends its body. HTTP/1.0 cannot (RFC 9110 §10.1.1).
    pub(super) fn expects_continue(&self, version: HttpVersion) -> bool {
        self.expect_continue && version != HttpVersion::Http10
    }

    fn announced(&self, version: HttpVersion) -> Result<Option<BodyFraming>, HeadReason> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(HeadReason::LengthAndTransferEncoding),
            (true, None) if version == HttpVersion::Http10 => Err(HeadReason::TransferEncodingInHttp10),
            (true, None) => Ok(Some(BodyFraming::Chunked)),
            (false, Some(length)) => Ok(Some(BodyFraming::Length(length))),
            (false, None) => Ok(None),
        }
    }

    fn refuse(&mut self, reason: HeadReason) {
        self.fault = self.fault.or(Some(reason));
    }

    fn observe_host(&mut self, index: usize, value: &[u8]) {
        if self.side == Side::Server {
            return;
        }
        if self.host_index.is_some() {
            self.refuse(HeadReason::SeveralHosts);
        } else if !is_host_value(value) {
            self.refuse(HeadReason::BadHost);
        }
        self.host_index = Some(index);
    }

    fn observe_length(&mut self, value: &[u8]) {
        if self.length_seen {
            self.refuse(HeadReason::SeveralContentLengths);
        }
        self.length_seen = true;
        self.content_length = parse_length(value);
        if self.content_length.is_none() {
            self.refuse(HeadReason::BadContentLength);
        }
    }

    fn observe_encoding(&mut self, value: &[u8]) {
        if self.encoding_seen {
            self.refuse(HeadReason::SeveralTransferEncodings);
        }
        self.encoding_seen = true;
        self.chunked = value.eq_ignore_ascii_case(b"chunked");
        if !self.chunked {
            self.refuse(HeadReason::UnknownTransferEncoding);
        }
    }

    fn observe_connection(&mut self, value: &[u8]) {
        for token in tokens(value) {
            match token.len() {
                0 => {}
                5 if token.eq_ignore_ascii_case(b"close") => self.close = true,
                10 if token.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                7 if token.eq_ignore_ascii_case(b"upgrade") => self.upgrade_option = true,
                _ if frames(token) => self.refuse(HeadReason::ConnectionNamesFraming),
                _ => self.has_connection_options = true,
            }
        }
    }
}

/// Fields that frame or route a message: never dropped on a peer's word, never believed in a trailer.
pub(super) fn frames(name: &[u8]) -> bool {
    match name.len() {
        4 => name.eq_ignore_ascii_case(b"host"),
        14 => name.eq_ignore_ascii_case(b"content-length"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

/// A canonical decimal number: what every parser reads alike.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || (value.len() > 1 && value[0] == b'0') {
        return None;
    }
    value.iter().try_fold(0_u64, |length, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

/// `uri-host [":" port]`, or nothing. Looser than the authority of a target: a transparent client is not ours to
/// correct, but white space, commas and user information would make two hosts of one.
fn is_host_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|b| is_host_byte(*b) || matches!(b, b':' | b'[' | b']' | b'!' | b'$' | b'\'' | b'*' | b'+'))
}
