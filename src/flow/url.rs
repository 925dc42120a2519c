//! URLs and what is encoded in them (RFC 3986), with the habits of forms (`application/x-www-form-urlencoded`).

use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;

use super::MultiDict;

/// A URL that names no server.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UrlError {
    /// No `scheme://` before it.
    #[error("'{0}' has no scheme: write http://{0}")]
    NoScheme(String),
    /// No host, or one that cannot be.
    #[error("'{0}' is no host name or address")]
    Host(String),
    /// No number of 0 to 65535.
    #[error("'{0}' is no port")]
    Port(String),
}

/// A URL in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlParts {
    /// In lower case.
    pub scheme: String,
    /// Name or address, without brackets, in lower case.
    pub host: String,
    /// As written, or the scheme's: 443 for https, else 80.
    pub port: u16,
    /// Path with query and fragment, at least `/`.
    pub path: String,
}

/// Takes a URL apart. What is no ASCII in the path is percent-encoded; a host that is none is put in its IDNA form.
///
/// # Errors
/// Scheme, host or port are missing or wrong.
pub fn parse(url: &str) -> Result<UrlParts, UrlError> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| UrlError::NoScheme(url.to_owned()))?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if scheme.is_empty() || !scheme.chars().all(is_scheme) {
        return Err(UrlError::NoScheme(url.to_owned()));
    }
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => (&authority[..colon], &authority[colon + 1..]),
        _ => (authority, ""),
    };
    let port = match port {
        "" => default_port(scheme.as_bytes()).unwrap_or(80),
        digits if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            digits.parse().map_err(|_| UrlError::Port(digits.to_owned()))?
        }
        other => return Err(UrlError::Port(other.to_owned())),
    };
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let ascii = super::idna::to_ascii(&name.to_lowercase()).filter(|host| is_valid_host(host));
    let host = ascii.ok_or_else(|| UrlError::Host(host.to_owned()))?;
    let mut path = quote(path.as_bytes(), u8::is_ascii_graphic);
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    Ok(UrlParts { scheme, host, port, path })
}

/// The port that need not be written.
pub fn default_port(scheme: &[u8]) -> Option<u16> {
    match scheme {
        b"http" => Some(80),
        b"https" => Some(443),
        _ => None,
    }
}

/// Host and port, without a port that the scheme implies. IPv6 addresses get brackets.
pub fn hostport(scheme: &[u8], host: &str, port: u16) -> String {
    let (open, close) = brackets(host);
    match default_port(scheme) {
        Some(default) if default == port => format!("{open}{host}{close}"),
        _ => format!("{open}{host}{close}:{port}"),
    }
}

/// What stands around a host in a URL (RFC 3986 §3.2.2).
pub(super) fn brackets(host: &str) -> (&'static str, &'static str) {
    if host.contains(':') && host.parse::<Ipv6Addr>().is_ok() { ("[", "]") } else { ("", "") }
}

/// Host and port of a Host field or an authority; all of it as the host if it has no such form.
pub fn parse_authority(authority: &str) -> (&str, Option<u16>) {
    let whole = (authority, None);
    let (host, port) = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => {
            let Ok(port) = parse_digits(&authority[colon + 1..]) else { return whole };
            (&authority[..colon], Some(port))
        }
        _ => (authority, None),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner,
        None if host.contains(':') => return whole,
        None => host,
    };
    if is_valid_host(host) { (host, port) } else { whole }
}

fn parse_digits(text: &str) -> Result<u16, ()> {
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(());
    }
    text.parse().map_err(|_| ())
}

/// A name of at most 255 bytes with labels of at most 63, or an address. Underscores are allowed: they are used.
pub fn is_valid_host(host: &str) -> bool {
    let label = |label: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii();
        (1..=63).contains(&label.len()) && label.chars().all(is_part)
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 255 && name.split('.').all(label) || host.parse::<IpAddr>().is_ok()
}

/// Path, parameters (`;…` of the last segment), query (`?…`) and fragment (`#…`) of a path, each with its mark. A
/// mark with nothing behind it is left out, as where URLs are put together again in Python.
pub(super) fn split_path(path: &str) -> [&str; 4] {
    let (rest, fragment) = path.split_at(path.find('#').unwrap_or(path.len()));
    let (rest, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let segment = rest.rfind('/').unwrap_or(0);
    let mark = rest[segment..].find(';').map_or(rest.len(), |at| segment + at);
    let (path, parameters) = rest.split_at(mark);
    let full = |part| if str::len(part) > 1 { part } else { "" };
    [path, full(parameters), full(query), full(fragment)]
}

/// Pairs of a query or form body. A name without `=` has an empty value.
pub fn decode_form(text: &[u8]) -> MultiDict {
    let mut dict = MultiDict::default();
    for part in text.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
        let mark = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
        let value = part.get(mark + 1..).unwrap_or_default();
        dict.add(unquote_plus(&part[..mark]), unquote_plus(value));
    }
    dict
}

/// Pairs as a query or form body. If `similar_to` has names without `=`, names with empty values get none.
pub fn encode_form(dict: &MultiDict, similar_to: Option<&[u8]>) -> String {
    let lacks_mark = |part: &[u8]| !part.contains(&b'=');
    let bare = similar_to.is_some_and(|text| !text.is_empty() && text.split(|b| *b == b'&').any(lacks_mark));
    let mut out = String::new();
    for (index, (name, value)) in dict.fields().iter().enumerate() {
        if index > 0 {
            out.push('&');
        }
        out.push_str(&quote_plus(name));
        if !(bare && value.is_empty()) {
            out.push('=');
            out.push_str(&quote_plus(value));
        }
    }
    out
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte)
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
pub fn quote_all(bytes: &[u8]) -> String {
    quote(bytes, |byte| is_unreserved(*byte))
}

fn quote_plus(bytes: &[u8]) -> String {
    quote(bytes, |byte| is_unreserved(*byte) || *byte == b' ').replace(' ', "+")
}

fn quote(bytes: &[u8], keep: impl Fn(&u8) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if keep(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn unquote_plus(bytes: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    unquote(&spaced)
}

/// Undoes percent-encoding; what is no such code stays.
pub fn unquote(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        let code = tail.first_chunk::<2>().and_then(|digits| {
            let digit = |index: usize| char::from(digits[index]).to_digit(16);
            u8::try_from(digit(0)? * 16 + digit(1)?).ok()
        });
        match code {
            Some(code) if *byte == b'%' => {
                out.push(code);
                rest = &tail[2..];
            }
            _ => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let parts = |url| parse(url).map(|p| format!("{}|{}|{}|{}", p.scheme, p.host, p.port, p.path));
        let table = [
            ("http://Example.COM", "http|example.com|80|/"),
            ("HTTPS://example.com:8443/a?b#c", "https|example.com|8443|/a?b#c"),
            ("https://user:pw@example.com?q", "https|example.com|443|/?q"),
            ("http://[2001:db8::1]:81/x", "http|2001:db8::1|81|/x"),
            ("http://bücher.example/ü x", "http|xn--bcher-kva.example|80|/%C3%BC%20x"),
            ("ftp://a.b/c", "ftp|a.b|80|/c"),
        ];
        for (url, expected) in table {
            assert_eq!(parts(url).as_deref(), Ok(expected), "{url}");
        }
        for url in
            ["example.com", "http://", "http://a b/", "http://a:99999/", "http://a:x/", "://a", "http://[::1"]
        {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn authorities_come_apart_or_stay_whole() {
        let table = [
            ("example.com", "example.com", None),
            ("example.com:8080", "example.com", Some(8080)),
            ("[::1]:443", "::1", Some(443)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
            ("a b:80", "a b:80", None),
            ("a:b:80", "a:b:80", None),
            ("a:99999", "a:99999", None),
            ("a:", "a:", None),
            ("", "", None),
        ];
        for (text, host, port) in table {
            assert_eq!(parse_authority(text), (host, port), "{text}");
        }
    }

    #[test]
    fn forms_come_back_as_they_were() {
        for text in ["a=1&b=2&a=3", "a+b=c%26d", "x=%FF", "a=&b=1", "%3D=%25"] {
            assert_eq!(encode_form(&decode_form(text.as_bytes()), None), text);
        }
        let bare = decode_form(b"a&&b=1");
        assert_eq!(bare, MultiDict::from_pairs([("a", ""), ("b", "1")]));
        assert_eq!(encode_form(&bare, Some(b"a&b=1")), "a&b=1");
        assert_eq!(encode_form(&bare, Some(b"")), "a=&b=1");
        assert_eq!(unquote(b"%4%41%zz%"), b"%4A%zz%");
    }

    #[test]
    fn paths_come_apart() {
        assert_eq!(split_path("/a;b/c;d?e;f?g#h?i"), ["/a;b/c", ";d", "?e;f?g", "#h?i"]);
        assert_eq!(split_path(""), ["", "", "", ""]);
        assert_eq!(split_path("/a;?#"), ["/a", "", "", ""]);
    }
}
