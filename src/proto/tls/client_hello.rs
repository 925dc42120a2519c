//! The first message of a TLS client, read before anyone answers it (RFC 8446 §4.1.2).
//!
//! Its name and protocol offers decide where to connect and what to speak there, so it is read from peeked bytes,
//! however they are cut into records and segments. Everything in it comes from a stranger: a hello that cannot be
//! read is an error to answer with an alert, never a reason to let the connection pass unseen.

use crate::proto::codec::Parsed;

/// What the first bytes of a connection look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// A TLS handshake record.
    Tls,
    /// Something else.
    NotTls,
    /// Could still become TLS.
    NeedMore,
}

/// A ClientHello as it was sent. Values nobody knows, GREASE among them (RFC 8701), are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The version field from before TLS 1.3; what the client really speaks is in `supported_versions`.
    pub legacy_version: u16,
    /// Cipher suites, in the client's order.
    pub cipher_suites: Vec<u16>,
    /// The server's name. Case as sent, without the final dot; `None` also for an IP address, which has no place
    /// in this extension (RFC 6066 §3).
    pub sni: Option<String>,
    /// Application protocols, in the client's order.
    pub alpn_protocols: Vec<Vec<u8>>,
    /// Every extension with its body, in order.
    pub extensions: Vec<(u16, Vec<u8>)>,
    /// Versions of the `supported_versions` extension; empty if there is none: TLS 1.2 at most.
    pub supported_versions: Vec<u16>,
    /// The handshake message, header included, without record headers.
    pub raw: Vec<u8>,
}

/// Why a hello is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not a handshake record of a TLS version.
    #[error("not a TLS handshake record")]
    NotHandshake,
    /// Empty, or larger than a plaintext record may be (RFC 8446 §5.1).
    #[error("TLS record with an invalid length of {length}")]
    BadRecordLength {
        /// The length it claims.
        length: usize,
    },
    /// Another handshake message where the ClientHello belongs.
    #[error("the first TLS handshake message is of type {kind}, not a ClientHello")]
    NotClientHello {
        /// Its type.
        kind: u8,
    },
    /// Larger than any client's.
    #[error("ClientHello of {length} bytes, at most {HELLO_SIZE_MAX} are accepted")]
    TooLarge {
        /// The length it claims.
        length: usize,
    },
    /// More in the same record: nobody may say more before an answer.
    #[error("data behind the ClientHello in its record")]
    DataBehindHello,
    /// Lengths inside do not fit.
    #[error("malformed ClientHello: {part}")]
    Malformed {
        /// Where.
        part: &'static str,
    },
    /// The same extension twice (RFC 8446 §4.2).
    #[error("extension {kind} twice in the ClientHello")]
    DuplicateExtension {
        /// Its type.
        kind: u16,
    },
    /// Not a host name.
    #[error("invalid server name in the ClientHello")]
    BadServerName,
}

/// Tells TLS from other protocols by the first three bytes.
pub fn looks_like_tls(first_bytes: &[u8]) -> Sniff {
    match first_bytes {
        [HANDSHAKE, 3, 0..=3, ..] => Sniff::Tls,
        [] | [HANDSHAKE] | [HANDSHAKE, 3] => Sniff::NeedMore,
        _ => Sniff::NotTls,
    }
}

/// Reads a ClientHello from the first bytes of a connection. `consumed` counts the records it came in.
///
/// For bytes that trickle in, a [`HelloReader`] does not start over each time.
pub fn parse(bytes: &[u8]) -> Result<Parsed<ClientHello>, HelloError> {
    HelloReader::default().read(bytes)
}

/// Puts a ClientHello together from bytes that grow from call to call.
#[derive(Clone, Debug, Default)]
pub struct HelloReader {
    /// Wire bytes already taken.
    taken: usize,
    /// What is left of the current record.
    record_left: usize,
    message: Vec<u8>,
}

impl HelloReader {
    /// Reads on. `bytes` are all bytes of the connection so far: those of the last call and perhaps more.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Parsed<ClientHello>, HelloError> {
        loop {
            let rest = bytes.get(self.taken..).unwrap_or_default();
            if self.record_left == 0 {
                let Some(length) = record_length(rest)? else { return Ok(Parsed::NeedMore) };
                self.taken += RECORD_HEADER_LEN;
                self.record_left = length;
                continue;
            }
            let part = &rest[..rest.len().min(self.record_left)];
            if part.is_empty() {
                return Ok(Parsed::NeedMore);
            }
            self.message.extend_from_slice(part);
            self.taken += part.len();
            self.record_left -= part.len();
            let Some(length) = message_length(&self.message)? else { continue };
            if self.message.len() > length || (self.message.len() == length && self.record_left > 0) {
                return Err(HelloError::DataBehindHello);
            }
            if self.message.len() == length {
                let value = parse_message(std::mem::take(&mut self.message))?;
                return Ok(Parsed::Done { value, consumed: self.taken });
            }
        }
    }
}

/// The length of the record that begins here, if its header has come.
fn record_length(bytes: &[u8]) -> Result<Option<usize>, HelloError> {
    // The minor version says nothing and is to be ignored (RFC 8446 §5.1).
    if !matches!(bytes, [] | [HANDSHAKE] | [HANDSHAKE, 3, ..]) {
        return Err(HelloError::NotHandshake);
    }
    let [_, _, _, high, low, ..] = bytes else { return Ok(None) };
    match usize::from(u16::from_be_bytes([*high, *low])) {
        length @ 1..=RECORD_LEN_MAX => Ok(Some(length)),
        length => Err(HelloError::BadRecordLength { length }),
    }
}

/// The length of the handshake message with its header, if that has come.
fn message_length(message: &[u8]) -> Result<Option<usize>, HelloError> {
    if let [kind, ..] = message
        && *kind != CLIENT_HELLO
    {
        return Err(HelloError::NotClientHello { kind: *kind });
    }
    let [_, a, b, c, ..] = message else { return Ok(None) };
    let length = MESSAGE_HEADER_LEN + u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if length > HELLO_SIZE_MAX { Err(HelloError::TooLarge { length }) } else { Ok(Some(length)) }
}

fn parse_message(raw: Vec<u8>) -> Result<ClientHello, HelloError> {
    let mut hello = ClientHello::default();
    let mut body = Cut { rest: raw.get(MESSAGE_HEADER_LEN..).unwrap_or_default(), part: "header" };
    hello.legacy_version = body.u16()?;
    body.take(RANDOM_LEN)?;
    body.part = "session id";
    let session_id = body.vec8()?;
    if session_id.rest.len() > SESSION_ID_LEN_MAX {
        return Err(session_id.malformed());
    }
    body.part = "cipher suites";
    hello.cipher_suites = body.vec16()?.list_u16()?;
    body.part = "compression methods";
    if body.vec8()?.rest.is_empty() {
        return Err(body.malformed());
    }
    body.part = "extensions";
    // Before TLS 1.3 the block may be missing altogether.
    if !body.rest.is_empty() {
        let mut extensions = body.vec16()?;
        body.end()?;
        while !extensions.rest.is_empty() {
            let kind = extensions.u16()?;
            let content = extensions.vec16()?;
            parse_extension(&mut hello, kind, content.rest)?;
            hello.extensions.push((kind, content.rest.to_vec()));
        }
    }
    let mut kinds: Vec<u16> = hello.extensions.iter().map(|(kind, _)| *kind).collect();
    kinds.sort_unstable();
    if let Some(pair) = kinds.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(HelloError::DuplicateExtension { kind: pair[0] });
    }
    hello.raw = raw;
    Ok(hello)
}

/// Looks into the extensions that decide something.
fn parse_extension(hello: &mut ClientHello, kind: u16, content: &[u8]) -> Result<(), HelloError> {
    match kind {
        SERVER_NAME => hello.sni = parse_server_name(content)?,
        ALPN => {
            let mut extension = Cut { rest: content, part: "application protocols" };
            let mut names = extension.vec16()?;
            extension.end()?;
            hello.alpn_protocols.clear();
            while !names.rest.is_empty() {
                let name = names.vec8()?.rest;
                if name.is_empty() {
                    return Err(names.malformed());
                }
                hello.alpn_protocols.push(name.to_vec());
            }
            if hello.alpn_protocols.is_empty() {
                return Err(names.malformed());
            }
        }
        SUPPORTED_VERSIONS => {
            let mut extension = Cut { rest: content, part: "supported versions" };
            hello.supported_versions = extension.vec8()?.list_u16()?;
            extension.end()?;
        }
        _ => {}
    }
    Ok(())
}

/// RFC 6066 §3: a list of names, at most one of each type; only host names were ever defined.
fn parse_server_name(content: &[u8]) -> Result<Option<String>, HelloError> {
    let mut extension = Cut { rest: content, part: "server name" };
    let mut names = extension.vec16()?;
    extension.end()?;
    if names.rest.is_empty() {
        return Err(names.malformed());
    }
    let mut host = None;
    while !names.rest.is_empty() {
        let kind = names.u8()?;
        let name = names.vec16()?.rest;
        if kind == HOST_NAME && host.replace(name).is_some() {
            return Err(names.malformed());
        }
    }
    host.map_or(Ok(None), host_name)
}

/// Checks a host name's syntax: it goes into certificates, file names and logs.
fn host_name(name: &[u8]) -> Result<Option<String>, HelloError> {
    let name = str::from_utf8(name).map_err(|_| HelloError::BadServerName)?;
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Ok(None);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    // The underscore is no letter of host names, but names with it resolve and are used.
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_label =
        |label: &str| (1..=LABEL_LEN_MAX).contains(&label.len()) && label.bytes().all(is_name_byte);
    if name.len() > NAME_LEN_MAX || !name.split('.').all(is_label) {
        return Err(HelloError::BadServerName);
    }
    Ok(Some(name.to_owned()))
}

/// Bytes to be cut from the front, and what they are, for errors.
struct Cut<'a> {
    rest: &'a [u8],
    part: &'static str,
}

impl<'a> Cut<'a> {
    fn malformed(&self) -> HelloError {
        HelloError::Malformed { part: self.part }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, HelloError> {
        self.take(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    /// What a one-byte length announces.
    fn vec8(&mut self) -> Result<Cut<'a>, HelloError> {
        let length = self.u8()?;
        Ok(Cut { rest: self.take(usize::from(length))?, part: self.part })
    }

    /// What a two-byte length announces.
    fn vec16(&mut self) -> Result<Cut<'a>, HelloError> {
        let length = self.u16()?;
        Ok(Cut { rest: self.take(usize::from(length))?, part: self.part })
    }

    /// All of it as two-byte numbers, at least one.
    fn list_u16(&self) -> Result<Vec<u16>, HelloError> {
        if self.rest.is_empty() || !self.rest.len().is_multiple_of(2) {
            return Err(self.malformed());
        }
        Ok(self.rest.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
    }

    fn end(&self) -> Result<(), HelloError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

/// A hello with its header. Post-quantum key shares and padding make 2 KB, a session ticket may add a few more.
pub const HELLO_SIZE_MAX: usize = 64 * 1024;
/// Wire bytes that the largest hello takes in the smallest records: what a peek must be able to hold.
pub const HELLO_WIRE_SIZE_MAX: usize = HELLO_SIZE_MAX * (RECORD_HEADER_LEN + 1);
const RECORD_LEN_MAX: usize = 16 * 1024;
const RECORD_HEADER_LEN: usize = 5;
const MESSAGE_HEADER_LEN: usize = 4;
const RANDOM_LEN: usize = 32;
const SESSION_ID_LEN_MAX: usize = 32;
const NAME_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const HOST_NAME: u8 = 0;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

#[cfg(test)]
mod tests;
