//! What an addon author writes.

use std::rc::Rc;

use super::{Flowed, Hook, Hooks};
use crate::clock::Clock;
use crate::flow::{Client, ClientHelloData, HttpFlow, LayerChoice, ServerConnectionData, TcpFlow, TlsData};

/// What a hook is about.
#[derive(Debug)]
pub enum Subject<'a> {
    /// `client_*`
    Client(&'a mut Client),
    /// `server_*`
    Server(&'a mut ServerConnectionData),
    /// `next_layer`
    NextLayer(&'a mut LayerChoice),
    /// `tls_clienthello`
    ClientHello(&'a mut ClientHelloData),
    /// `tls_start_*`, `tls_established_*`, `tls_failed_*`
    Tls(&'a mut TlsData),
    /// `http_*`, `request*`, `response*`, `error`
    Http(&'a mut HttpFlow),
    /// `tcp_*`
    Tcp(&'a mut TcpFlow),
}

impl Subject<'_> {
    pub(super) fn reborrow(&mut self) -> Subject<'_> {
        match self {
            Subject::Client(it) => Subject::Client(it),
            Subject::Server(it) => Subject::Server(it),
            Subject::NextLayer(it) => Subject::NextLayer(it),
            Subject::ClientHello(it) => Subject::ClientHello(it),
            Subject::Tls(it) => Subject::Tls(it),
            Subject::Http(it) => Subject::Http(it),
            Subject::Tcp(it) => Subject::Tcp(it),
        }
    }
}

/// What an addon may use while a hook runs.
#[derive(Clone, Debug)]
pub struct HookCx {
    /// The moment.
    pub hook: Hook,
    clock: Rc<Clock>,
}

impl HookCx {
    pub(super) fn new(hook: Hook, clock: Rc<Clock>) -> Self {
        Self { hook, clock }
    }

    /// Unix seconds.
    pub fn now(&self) -> f64 {
        self.clock.unix()
    }
}

macro_rules! addon {
    ($($(#[$doc:meta])* $method:ident($subject:ident: $type:ty) $hook:ident $variant:ident;)+) => {
        /// An addon: plain functions named after hooks. One instance per worker; a hook that takes time
        /// returns [`Flowed::Hold`].
        pub trait Addon {
            /// The hooks to be called for. Asked when the addon is added and after each change of options.
            fn wants(&self) -> Hooks;
            /// What warnings call it; by default its type.
            fn name(&self) -> &'static str {
                let path = std::any::type_name::<Self>();
                path.rsplit("::").next().unwrap_or(path)
            }
            $($(#[$doc])*
            fn $method(&mut self, $subject: &mut $type, cx: &mut HookCx) -> Flowed {
                let _ = ($subject, cx);
                Flowed::Continue
            })+
        }

        pub(super) fn call(addon: &mut dyn Addon, subject: Subject<'_>, cx: &mut HookCx) -> Flowed {
            match (cx.hook, subject) {
                $((Hook::$hook, Subject::$variant(it)) => addon.$method(it, cx),)+
                (hook, subject) => {
                    debug_assert!(false, "{hook:?} is not about {subject:?}");
                    Flowed::Continue
                }
            }
        }
    };
}

addon! {
    /// [`Hook::ClientConnected`]
    client_connected(client: Client) ClientConnected Client;
    /// [`Hook::ClientDisconnected`]
    client_disconnected(client: Client) ClientDisconnected Client;
    /// [`Hook::ServerConnect`]
    server_connect(data: ServerConnectionData) ServerConnect Server;
    /// [`Hook::ServerConnected`]
    server_connected(data: ServerConnectionData) ServerConnected Server;
    /// [`Hook::ServerConnectError`]
    server_connect_error(data: ServerConnectionData) ServerConnectError Server;
    /// [`Hook::ServerDisconnected`]
    server_disconnected(data: ServerConnectionData) ServerDisconnected Server;
    /// [`Hook::NextLayer`]
    next_layer(choice: LayerChoice) NextLayer NextLayer;
    /// [`Hook::TlsClienthello`]
    tls_clienthello(data: ClientHelloData) TlsClienthello ClientHello;
    /// [`Hook::TlsStartClient`]
    tls_start_client(data: TlsData) TlsStartClient Tls;
    /// [`Hook::TlsStartServer`]
    tls_start_server(data: TlsData) TlsStartServer Tls;
    /// [`Hook::TlsEstablishedClient`]
    tls_established_client(data: TlsData) TlsEstablishedClient Tls;
    /// [`Hook::TlsEstablishedServer`]
    tls_established_server(data: TlsData) TlsEstablishedServer Tls;
    /// [`Hook::TlsFailedClient`]
    tls_failed_client(data: TlsData) TlsFailedClient Tls;
    /// [`Hook::TlsFailedServer`]
    tls_failed_server(data: TlsData) TlsFailedServer Tls;
    /// [`Hook::HttpConnect`]
    http_connect(flow: HttpFlow) HttpConnect Http;
    /// [`Hook::HttpConnected`]
    http_connected(flow: HttpFlow) HttpConnected Http;
    /// [`Hook::HttpConnectError`]
    http_connect_error(flow: HttpFlow) HttpConnectError Http;
    /// [`Hook::Requestheaders`]
    requestheaders(flow: HttpFlow) Requestheaders Http;
    /// [`Hook::Request`]
    request(flow: HttpFlow) Request Http;
    /// [`Hook::Responseheaders`]
    responseheaders(flow: HttpFlow) Responseheaders Http;
    /// [`Hook::Response`]
    response(flow: HttpFlow) Response Http;
    /// [`Hook::Error`]
    error(flow: HttpFlow) Error Http;
    /// [`Hook::TcpStart`]
    tcp_start(flow: TcpFlow) TcpStart Tcp;
    /// [`Hook::TcpMessage`]
    tcp_message(flow: TcpFlow) TcpMessage Tcp;
    /// [`Hook::TcpEnd`]
    tcp_end(flow: TcpFlow) TcpEnd Tcp;
    /// [`Hook::TcpError`]
    tcp_error(flow: TcpFlow) TcpError Tcp;
}
