//! How clients reach us: `mode[:data][@[listen_host:]listen_port]`.

use std::fmt;
use std::net::IpAddr;

use super::ConfigError;

/// A way in, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeSpec {
    /// As written.
    pub full_spec: String,
    /// What clients are sent to.
    pub target: Target,
    /// Where to listen, if the spec says so.
    pub listen_host: Option<IpAddr>,
    /// Port to listen on, if the spec says so.
    pub listen_port: Option<u16>,
}

/// What a mode does with its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An explicit HTTP proxy: CONNECT and absolute-form.
    Regular,
    /// Redirected connections: to where they wanted to go.
    Transparent,
    /// A fixed server.
    Reverse {
        /// What to speak to it.
        scheme: ReverseScheme,
        /// Name or address.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// What a reverse proxy speaks to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReverseScheme {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// Raw TCP.
    Tcp,
    /// Raw bytes over TLS.
    Tls,
}

impl ReverseScheme {
    /// The server is reached over TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// HTTP is spoken.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// As written in a spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

impl ModeSpec {
    /// Reads a spec.
    ///
    /// # Errors
    /// Which part is wrong, and what is possible.
    pub fn parse(spec: &str) -> Result<Self, ConfigError> {
        let fail = |reason: String| ConfigError::Mode { spec: spec.to_owned(), reason };
        let (head, listen) = match spec.rsplit_once('@') {
            Some((head, listen)) => (head, Some(listen)),
            None => (spec, None),
        };
        let (name, data) = match head.split_once(':') {
            Some((name, data)) => (name, data),
            None => (head, ""),
        };
        let name = name.to_ascii_lowercase();
        let target = match (&*name, data) {
            ("regular", "") => Target::Regular,
            ("transparent", "") => Target::Transparent,
            ("regular" | "transparent", _) => return Err(fail(format!("mode '{name}' takes no argument"))),
            ("reverse", "") => {
                return Err(fail("a server is needed, e.g. reverse:https://example.com".into()));
            }
            ("reverse", data) => parse_reverse(data).map_err(fail)?,
            ("osproxy", _) => return Err(fail("'osproxy' was renamed to 'local'".into())),
            ("socks5" | "upstream" | "dns" | "wireguard" | "local" | "tun", _) => {
                return Err(fail(format!(
                    "mode '{name}' is not part of this version: regular, transparent and reverse are"
                )));
            }
            _ => return Err(fail("known modes are regular, transparent and reverse:SPEC".into())),
        };
        let (listen_host, listen_port) = listen.map_or(Ok((None, None)), parse_listen).map_err(fail)?;
        Ok(Self { full_spec: spec.to_owned(), target, listen_host, listen_port })
    }
}

impl fmt::Display for ModeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full_spec)
    }
}

fn parse_listen(text: &str) -> Result<(Option<IpAddr>, Option<u16>), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (Some(host), port),
        None => (None, text),
    };
    let port = parse_port(port)?;
    if port == 0 {
        return Err("0 is no port to listen on".into());
    }
    let host = match host {
        None | Some("" | "*") => None,
        Some(host) => Some(parse_ip(host).ok_or_else(|| format!("'{host}' is no address to listen on"))?),
    };
    Ok((host, Some(port)))
}

fn parse_ip(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).parse().ok()
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("'{text}' is no port"))
}

/// `[scheme://]host[:port][/]`; the scheme is https unless given.
fn parse_reverse(data: &str) -> Result<Target, String> {
    let (scheme, rest) = match data.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => ("https".to_owned(), data),
    };
    let scheme = match &*scheme {
        "http" => ReverseScheme::Http,
        "https" => ReverseScheme::Https,
        "tcp" => ReverseScheme::Tcp,
        "tls" => ReverseScheme::Tls,
        "http3" | "quic" | "udp" | "dtls" | "dns" => {
            return Err(format!(
                "reverse scheme '{scheme}' is not part of this version: http, https, tcp and tls are"
            ));
        }
        _ => return Err(format!("unknown scheme '{scheme}': http, https, tcp and tls are known")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err("a server is a host and a port, without path or user".into());
    }
    let (host, port) = if let Some(v6) = rest.strip_prefix('[') {
        let (host, tail) = v6.split_once(']').ok_or("a '[' needs its ']'")?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| format!("'{host}' is no IPv6 address"))?;
        (host, if tail.is_empty() { None } else { Some(tail.strip_prefix(':').ok_or("a port follows ':'")?) })
    } else {
        match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        }
    };
    if host.is_empty()
        || !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))
    {
        return Err(format!("'{host}' is no host"));
    }
    let port = match (port, scheme) {
        (Some(port), _) => parse_port(port)?,
        (None, ReverseScheme::Http) => 80,
        (None, ReverseScheme::Https) => 443,
        (None, ReverseScheme::Tcp | ReverseScheme::Tls) => {
            return Err(format!("a port is needed, e.g. reverse:{}://{host}:1234", scheme.as_str()));
        }
    };
    if port == 0 {
        return Err("0 is no port".into());
    }
    Ok(Target::Reverse { scheme, host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reverse(scheme: ReverseScheme, host: &str, port: u16) -> Target {
        Target::Reverse { scheme, host: host.into(), port }
    }

    #[test]
    fn specs_are_read() {
        let table = [
            ("regular", Target::Regular, None, None),
            ("Transparent@8081", Target::Transparent, None, Some(8081)),
            ("regular@127.0.0.1:9", Target::Regular, Some("127.0.0.1"), Some(9)),
            ("regular@[::1]:9", Target::Regular, Some("::1"), Some(9)),
            ("reverse:example.com", reverse(ReverseScheme::Https, "example.com", 443), None, None),
            ("reverse:http://h:81/@1", reverse(ReverseScheme::Http, "h", 81), None, Some(1)),
            ("reverse:tcp://[fd00::1]:7", reverse(ReverseScheme::Tcp, "fd00::1", 7), None, None),
        ];
        for (spec, target, host, port) in table {
            let mode = ModeSpec::parse(spec).expect(spec);
            assert_eq!(mode.target, target, "{spec}");
            assert_eq!(mode.listen_host, host.map(|h| h.parse().expect("an address")), "{spec}");
            assert_eq!(mode.listen_port, port, "{spec}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_spec_is_said() {
        let table = [
            ("", "known modes"),
            ("regular:x", "no argument"),
            ("reverse:", "a server is needed"),
            ("reverse:tcp://h", "a port is needed"),
            ("reverse:gopher://h", "unknown scheme"),
            ("reverse:http://h/x", "without path"),
            ("reverse:http://h:0", "0 is no port"),
            ("regular@99999", "no port"),
            ("regular@0", "no port to listen on"),
            ("regular@nowhere:80", "no address"),
            ("socks5", "not part of this version"),
            ("osproxy", "renamed"),
        ];
        for (spec, part) in table {
            let error = ModeSpec::parse(spec).expect_err(spec).to_string();
            assert!(error.contains(part), "{spec}: {error}");
        }
    }
}
