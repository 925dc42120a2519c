//! Request targets (RFC 9112 §3.2).

/// The four forms of a request target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`: to an origin server, or to us in its place.
    #[default]
    Origin,
    /// `http://host/path`: to a proxy.
    Absolute,
    /// `host:port`: CONNECT.
    Authority,
    /// `*`: OPTIONS about the server as a whole.
    Asterisk,
}

/// Not a host and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No colon with a port behind it.
    #[error("no port in the authority")]
    NoPort,
    /// Not a decimal number from 1 to 65535.
    #[error("invalid port in the authority")]
    BadPort,
    /// Empty, or characters that no host name or address has.
    #[error("invalid host in the authority")]
    BadHost,
}

/// Splits `host:port` or `[v6]:port`; the host comes without brackets.
pub fn split_authority(authority: &[u8]) -> Result<(&str, u16), TargetError> {
    let (host, port) = split_port(authority)?;
    Ok((host, port.ok_or(TargetError::NoPort)?))
}

/// Splits an absolute target into scheme, host (without brackets), port if there is one, and path with query.
///
/// The path is empty if the target has none: `http://host` asks for `/`, or for `*` if the method is OPTIONS
/// (RFC 9112 §3.2.4). User information is refused: it has no place in a target (RFC 9110 §4.2.4).
pub fn split_absolute(target: &[u8]) -> Option<(&str, &str, Option<u16>, &[u8])> {
    let colon = target.iter().position(|b| *b == b':')?;
    let (scheme, rest) = target.split_at_checked(colon)?;
    let is_scheme = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    if !scheme.first()?.is_ascii_alphabetic() || !scheme.iter().all(is_scheme) {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let (host, port) = split_port(authority).ok()?;
    Some((str::from_utf8(scheme).ok()?, host, port, path))
}

/// `host` or `host:port`, where the host may be a bracketed IPv6 address.
fn split_port(authority: &[u8]) -> Result<(&str, Option<u16>), TargetError> {
    let (host, rest) = if let Some(inside) = authority.strip_prefix(b"[") {
        let end = inside.iter().position(|b| *b == b']').ok_or(TargetError::BadHost)?;
        let host = str::from_utf8(&inside[..end]).map_err(|_| TargetError::BadHost)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| TargetError::BadHost)?;
        (host, &inside[end + 1..])
    } else {
        let end = authority.iter().position(|b| *b == b':').unwrap_or(authority.len());
        if end == 0 || !authority[..end].iter().all(|b| is_host_byte(*b)) {
            return Err(TargetError::BadHost);
        }
        let host = str::from_utf8(&authority[..end]).map_err(|_| TargetError::BadHost)?;
        (host, &authority[end..])
    };
    match rest {
        [] => Ok((host, None)),
        [b':', digits @ ..] => Ok((host, Some(port(digits)?))),
        _ => Err(TargetError::BadHost),
    }
}

fn port(digits: &[u8]) -> Result<u16, TargetError> {
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(TargetError::BadPort);
    }
    let port = digits.iter().fold(0_u32, |n, d| n * 10 + u32::from(d - b'0'));
    match u16::try_from(port) {
        Ok(0) | Err(_) => Err(TargetError::BadPort),
        Ok(port) => Ok(port),
    }
}

/// Characters of a registered name or IPv4 address (RFC 3986 §3.2.2) as the field has them: unreserved, percent,
/// and underscore. Sub-delimiters are left out; no resolver takes them and a comma is how two hosts get joined.
pub(super) fn is_host_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'%') || b >= 0x80
}
