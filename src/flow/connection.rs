//! The two ends of a conversation: facts about connections, never the sockets themselves.

use std::net::SocketAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::url::{self, UrlError};
use super::{Cert, CertError};

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A negotiated TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// SSL 3.0
    Ssl3,
    /// TLS 1.0
    Tls10,
    /// TLS 1.1
    Tls11,
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
    /// DTLS 0.9
    Dtls09,
    /// DTLS 1.0
    Dtls10,
    /// DTLS 1.2
    Dtls12,
    /// QUIC version 1
    Quic1,
}

impl TlsVersion {
    const NAMES: [(TlsVersion, &'static str); 9] = [
        (TlsVersion::Ssl3, "SSLv3"),
        (TlsVersion::Tls10, "TLSv1"),
        (TlsVersion::Tls11, "TLSv1.1"),
        (TlsVersion::Tls12, "TLSv1.2"),
        (TlsVersion::Tls13, "TLSv1.3"),
        (TlsVersion::Dtls09, "DTLSv0.9"),
        (TlsVersion::Dtls10, "DTLSv1"),
        (TlsVersion::Dtls12, "DTLSv1.2"),
        (TlsVersion::Quic1, "QUICv1"),
    ];

    /// The name as flow files hold it.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(version, _)| *version == self).map_or("", |(_, name)| name)
    }

    /// The version of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, text)| *text == name).map(|(version, _)| *version)
    }
}

/// An upstream proxy between us and the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// `http` or `https`.
    pub scheme: String,
    /// Host name or address, and port.
    pub address: (String, u16),
}

impl Via {
    /// Reads `[scheme://]host[:port]`; what is not written is the default, and the scheme's port.
    ///
    /// # Errors
    /// There is no host, or a port that is none.
    pub fn parse(text: &str, default_scheme: &str) -> Result<Self, UrlError> {
        let text = text.strip_suffix('/').filter(|text| !text.ends_with(":/")).unwrap_or(text);
        let whole = if text.contains("://") { text.to_owned() } else { format!("{default_scheme}://{text}") };
        let parts = url::parse(&whole)?;
        match parts.path.as_str() {
            "/" => Ok(Self { scheme: parts.scheme, address: (parts.host, parts.port) }),
            _ => Err(UrlError::Host(text.to_owned())),
        }
    }
}

/// mitmproxy's name for a [`Via`].
pub type ServerSpec = Via;

/// Which way a connection can be used. A record does not know about half-closed connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not opened yet, or closed.
    Closed,
    /// Open both ways.
    Open,
}

impl Client {
    /// Whether it is open.
    pub fn state(&self) -> ConnectionState {
        if self.timestamp_end.is_some() { ConnectionState::Closed } else { ConnectionState::Open }
    }

    /// It is open.
    pub fn connected(&self) -> bool {
        self.state() == ConnectionState::Open
    }

    /// Its TLS handshake is done.
    pub fn tls_established(&self) -> bool {
        self.timestamp_tls_setup.is_some()
    }

    /// The certificate it showed, if it showed any.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn cert(&self) -> Result<Option<Cert>, CertError> {
        self.certificate_list.first().map(|der| Cert::from_der(der)).transpose()
    }
}

impl Server {
    /// Whether it is open.
    pub fn state(&self) -> ConnectionState {
        let opened = self.timestamp_tcp_setup.or(self.timestamp_start).is_some();
        match opened && self.timestamp_end.is_none() && self.error.is_none() {
            true => ConnectionState::Open,
            false => ConnectionState::Closed,
        }
    }

    /// It is open.
    pub fn connected(&self) -> bool {
        self.state() == ConnectionState::Open
    }

    /// Its TLS handshake is done.
    pub fn tls_established(&self) -> bool {
        self.timestamp_tls_setup.is_some()
    }

    /// The certificate it showed, if it showed any.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn cert(&self) -> Result<Option<Cert>, CertError> {
        self.certificate_list.first().map(|der| Cert::from_der(der)).transpose()
    }
}

/// The client connection of a flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Client {
    /// Connection id.
    pub id: Uuid,
    /// Who reached us.
    pub peername: Option<SocketAddr>,
    /// Where the client connected; in transparent mode the original destination.
    pub sockname: Option<SocketAddr>,
    /// TCP or UDP.
    pub transport_protocol: Transport,
    /// What went wrong with the connection.
    pub error: Option<String>,
    /// TLS is, or should be, spoken.
    pub tls: bool,
    /// The peer's certificates, DER, end entity first.
    pub certificate_list: Arc<[Vec<u8>]>,
    /// Negotiated ALPN; empty: TLS without ALPN; `None`: no TLS.
    pub alpn: Option<Vec<u8>>,
    /// Offered ALPN protocols.
    pub alpn_offers: Vec<Vec<u8>>,
    /// Cipher suite, OpenSSL's name.
    pub cipher: Option<String>,
    /// Offered cipher suites.
    pub cipher_list: Vec<String>,
    /// Negotiated version.
    pub tls_version: Option<TlsVersion>,
    /// Server name indication.
    pub sni: Option<String>,
    /// TCP connection accepted, Unix seconds.
    pub timestamp_start: f64,
    /// Connection closed, Unix seconds.
    pub timestamp_end: Option<f64>,
    /// TLS established, Unix seconds.
    pub timestamp_tls_setup: Option<f64>,
    /// The leaf we showed the client, DER. Flow files have a place for it; nobody fills it today.
    pub mitmcert: Option<Vec<u8>>,
    /// The mode's full spec, e.g. `transparent` or `reverse:http://h:80@8081`.
    pub proxy_mode: String,
}

/// The server connection of a flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server {
    /// Connection id.
    pub id: Uuid,
    /// The address connected to, resolved.
    pub peername: Option<SocketAddr>,
    /// Our own address on that connection.
    pub sockname: Option<SocketAddr>,
    /// TCP or UDP.
    pub transport_protocol: Transport,
    /// What went wrong with the connection.
    pub error: Option<String>,
    /// TLS is, or should be, spoken.
    pub tls: bool,
    /// The peer's certificates, DER, end entity first.
    pub certificate_list: Arc<[Vec<u8>]>,
    /// Negotiated ALPN; empty: TLS without ALPN; `None`: no TLS.
    pub alpn: Option<Vec<u8>>,
    /// Offered ALPN protocols.
    pub alpn_offers: Vec<Vec<u8>>,
    /// Cipher suite, OpenSSL's name.
    pub cipher: Option<String>,
    /// Offered cipher suites.
    pub cipher_list: Vec<String>,
    /// Negotiated version.
    pub tls_version: Option<TlsVersion>,
    /// Server name indication; for an IP target the IP's text.
    pub sni: Option<String>,
    /// Connection attempt began, Unix seconds; `None` if never opened.
    pub timestamp_start: Option<f64>,
    /// Connection closed, Unix seconds.
    pub timestamp_end: Option<f64>,
    /// TLS established, Unix seconds.
    pub timestamp_tls_setup: Option<f64>,
    /// TCP established, Unix seconds.
    pub timestamp_tcp_setup: Option<f64>,
    /// Name or IP, and port.
    pub address: Option<(String, u16)>,
    /// Upstream proxy.
    pub via: Option<Via>,
}

impl Client {
    /// Bytes of memory the contents take, roughly.
    pub fn cost(&self) -> usize {
        size_of::<Self>()
            + tls_cost(&self.certificate_list, &self.alpn_offers, &self.cipher_list)
            + self.error.as_ref().map_or(0, String::len)
            + self.sni.as_ref().map_or(0, String::len)
            + self.mitmcert.as_ref().map_or(0, Vec::len)
            + self.proxy_mode.len()
    }
}

impl Server {
    /// Bytes of memory the contents take, roughly.
    pub fn cost(&self) -> usize {
        size_of::<Self>()
            + tls_cost(&self.certificate_list, &self.alpn_offers, &self.cipher_list)
            + self.error.as_ref().map_or(0, String::len)
            + self.sni.as_ref().map_or(0, String::len)
            + self.address.as_ref().map_or(0, |(host, _)| host.len())
    }
}

fn tls_cost(certificates: &[Vec<u8>], alpn_offers: &[Vec<u8>], ciphers: &[String]) -> usize {
    let bytes = certificates.iter().chain(alpn_offers).map(|item| item.len() + size_of::<Vec<u8>>());
    let texts = ciphers.iter().map(|item| item.len() + size_of::<String>());
    bytes.sum::<usize>() + texts.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_of_servers_are_read() {
        let spec = |text| Via::parse(text, "http").map(|via| (via.scheme, via.address.0, via.address.1));
        let is = |scheme: &str, host: &str, port| Ok((scheme.to_owned(), host.to_owned(), port));
        assert_eq!(spec("proxy.test"), is("http", "proxy.test", 80));
        assert_eq!(spec("https://proxy.test/"), is("https", "proxy.test", 443));
        assert_eq!(spec("http://[::1]:3128"), is("http", "::1", 3128));
        for wrong in ["", "http://", "proxy.test:x", "proxy.test/path"] {
            assert!(spec(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn connections_are_open_until_they_end() {
        let mut server = Server::default();
        assert!(!server.connected());
        server.timestamp_tcp_setup = Some(1.0);
        assert!(server.connected() && !server.tls_established());
        server.timestamp_end = Some(2.0);
        assert_eq!(server.state(), ConnectionState::Closed);
        let client = Client { timestamp_end: Some(2.0), ..Client::default() };
        assert!(Client::default().connected() && !client.connected());
        assert_eq!(client.cert(), Ok(None));
    }

    #[test]
    fn every_tls_version_reads_back_from_its_name() {
        for (version, name) in TlsVersion::NAMES {
            assert_eq!(TlsVersion::parse(name), Some(version));
            assert_eq!(version.as_str(), name);
        }
        assert_eq!(TlsVersion::parse("TLSv9"), None);
    }
}
