//! What hooks are given besides flows.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Client, Server};

/// A TLS client's first message (RFC 8446 §4.1.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientHello {
    /// Offered cipher suites.
    pub cipher_suites: Vec<u16>,
    /// Server name, if one was sent.
    pub sni: Option<String>,
    /// Offered application protocols, in order of preference.
    pub alpn_protocols: Vec<Vec<u8>>,
    /// All extensions: type and contents.
    pub extensions: Vec<(u16, Vec<u8>)>,
    /// The handshake message, without record headers.
    pub raw: Vec<u8>,
}

/// Argument of `tls_clienthello`.
#[derive(Clone, Debug)]
pub struct ClientHelloData {
    /// Who sent it.
    pub client: Arc<Client>,
    /// Where it wants to go.
    pub server: Arc<Server>,
    /// The message.
    pub client_hello: ClientHello,
    /// Set by an addon: pass the connection through untouched.
    pub ignore_connection: bool,
    /// Set by an addon: the server's handshake comes first.
    pub establish_server_tls_first: bool,
}

/// Argument of `server_connect`, `server_connected`, `server_connect_error`, `server_disconnected`.
#[derive(Clone, Debug)]
pub struct ServerConnectionData {
    /// The connection. In `server_connect` an addon may change `address`, or set `error` to refuse.
    pub server: Server,
    /// On whose behalf.
    pub client: Arc<Client>,
}

/// Which side of us a handshake is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Between the client and us.
    Client,
    /// Between us and the server.
    Server,
}

/// Argument of `tls_start_*`, `tls_established_*`, `tls_failed_*`.
#[derive(Clone, Debug)]
pub struct TlsData {
    /// Which handshake.
    pub side: Side,
    /// The client's side of the session.
    pub client: Arc<Client>,
    /// The server's side of the session.
    pub server: Arc<Server>,
    /// What went wrong, in `tls_failed_*`.
    pub error: Option<String>,
}

/// A protocol's turn in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// TLS, intercepted.
    Tls,
    /// HTTP/1.
    Http1,
    /// Raw TCP, recorded if someone wants it.
    Tcp,
    /// Raw TCP that makes no flow.
    Passthrough,
}

impl Layer {
    /// Short name, for layer trails in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Tls => "tls",
            Layer::Http1 => "h1",
            Layer::Tcp => "tcp",
            Layer::Passthrough => "pass",
        }
    }
}

/// Argument of `next_layer`.
#[derive(Clone, Debug)]
pub struct LayerChoice {
    /// The client's side.
    pub client: Arc<Client>,
    /// First bytes of the client, as far as they have come.
    pub data_client: Vec<u8>,
    /// Where the session is going, if that is known.
    pub destination: Option<SocketAddr>,
    /// What we would choose; an addon may choose otherwise.
    pub layer: Layer,
}
