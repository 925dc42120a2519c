//! The contract between conversations and addons: named moments, who listens to them, and how a listener that
//! needs time asks for it.
//!
//! A conversation calls [`Chain::run`] at each moment. If nobody listens, that costs one bit test and no
//! `await` point that suspends. An addon answers [`Flowed::Continue`], or [`Flowed::Hold`] with a [`Ticket`];
//! then this flow (and nothing else) waits until the ticket is answered, and goes on with the next addon.

mod addon;
mod chain;
mod hold;

pub use addon::{Addon, HookCx, Subject};
pub use chain::{AddonFactory, Chain, WorkerId};
pub use hold::{Answer, Flowed, Ticket, hold};

use std::ops::{BitOr, BitOrAssign};

macro_rules! hooks {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A named moment. Names are mitmproxy's, letter for letter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Hook {
            $($(#[$doc])* $variant,)+
        }

        impl Hook {
            /// Every hook.
            pub const ALL: &[Hook] = &[$(Hook::$variant,)+];

            /// The name scripts know.
            pub fn name(self) -> &'static str {
                match self { $(Hook::$variant => $name,)+ }
            }
        }
    };
}

hooks! {
    /// A client has connected. An addon may set `client.error` to close the connection.
    ClientConnected = "client_connected",
    /// A client's connection is closed.
    ClientDisconnected = "client_disconnected",
    /// Before a connection to a server is made. An addon may change the address or refuse.
    ServerConnect = "server_connect",
    /// Connected to a server.
    ServerConnected = "server_connected",
    /// A server could not be reached. Exactly one of this and `server_connected` fires.
    ServerConnectError = "server_connect_error",
    /// A server's connection is closed.
    ServerDisconnected = "server_disconnected",
    /// The next layer was chosen.
    NextLayer = "next_layer",
    /// A whole ClientHello has come.
    TlsClienthello = "tls_clienthello",
    /// Before the handshake with the client.
    TlsStartClient = "tls_start_client",
    /// Before the handshake with the server.
    TlsStartServer = "tls_start_server",
    /// The handshake with the client is done.
    TlsEstablishedClient = "tls_established_client",
    /// The handshake with the server is done.
    TlsEstablishedServer = "tls_established_server",
    /// The handshake with the client failed.
    TlsFailedClient = "tls_failed_client",
    /// The handshake with the server failed.
    TlsFailedServer = "tls_failed_server",
    /// A CONNECT request has come. An addon may set a response to refuse it.
    HttpConnect = "http_connect",
    /// A CONNECT request was answered with success.
    HttpConnected = "http_connected",
    /// A CONNECT request was not answered with success.
    HttpConnectError = "http_connect_error",
    /// A request's head has come, its body has not.
    Requestheaders = "requestheaders",
    /// A whole request has come (or has been streamed past).
    Request = "request",
    /// A response's head has come, its body has not.
    Responseheaders = "responseheaders",
    /// A whole response has come (or has been streamed past).
    Response = "response",
    /// The exchange failed. Every flow gets either this or `response`, never both.
    Error = "error",
    /// A raw TCP conversation begins.
    TcpStart = "tcp_start",
    /// A raw TCP message has come: the last of `messages`.
    TcpMessage = "tcp_message",
    /// A raw TCP conversation has ended.
    TcpEnd = "tcp_end",
    /// A raw TCP conversation failed. Every one gets either this or `tcp_end`.
    TcpError = "tcp_error",
}

/// A set of hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks(u64);

impl Hooks {
    /// No hook.
    pub const NONE: Hooks = Hooks(0);
    /// Every hook.
    pub const ALL: Hooks = Hooks(u64::MAX);
    /// What has to do with HTTP exchanges: whoever wants one of these wants flows to be built.
    pub const HTTP: Hooks = Hooks::of(&[
        Hook::HttpConnect,
        Hook::HttpConnected,
        Hook::HttpConnectError,
        Hook::Requestheaders,
        Hook::Request,
        Hook::Responseheaders,
        Hook::Response,
        Hook::Error,
    ]);
    /// What has to do with raw TCP.
    pub const TCP: Hooks = Hooks::of(&[Hook::TcpStart, Hook::TcpMessage, Hook::TcpEnd, Hook::TcpError]);

    /// The set of these hooks.
    pub const fn of(hooks: &[Hook]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < hooks.len() {
            bits |= 1 << hooks[index] as u8;
            index += 1;
        }
        Hooks(bits)
    }

    /// Whether the hook is in the set.
    pub const fn contains(self, hook: Hook) -> bool {
        self.0 & (1 << hook as u8) != 0
    }

    /// Whether the sets have a hook in common.
    pub const fn intersects(self, other: Hooks) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Hooks {
    type Output = Hooks;
    fn bitor(self, other: Hooks) -> Hooks {
        Hooks(self.0 | other.0)
    }
}

impl BitOrAssign for Hooks {
    fn bitor_assign(&mut self, other: Hooks) {
        self.0 |= other.0;
    }
}
