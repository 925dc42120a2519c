//! An addon of one closure: what playbooks record, edit and hold with.

use crate::flow::{Client, ClientHelloData, HttpFlow, LayerChoice, ServerConnectionData, TcpFlow, TlsData};
use crate::hooks::{Addon, Flowed, Hook, HookCx, Hooks, Subject};

type Heard = Box<dyn FnMut(Hook, Subject<'_>) -> Flowed>;

/// Calls its closure at every hook it wants.
pub(crate) struct Listener {
    wants: Hooks,
    heard: Heard,
}

impl Listener {
    pub(crate) fn new(wants: Hooks, heard: impl FnMut(Hook, Subject<'_>) -> Flowed + 'static) -> Self {
        Self { wants, heard: Box::new(heard) }
    }
}

macro_rules! every_hook {
    ($($method:ident($type:ty) $variant:ident;)+) => {
        impl Addon for Listener {
            fn wants(&self) -> Hooks {
                self.wants
            }
            $(fn $method(&mut self, it: &mut $type, cx: &mut HookCx) -> Flowed {
                (self.heard)(cx.hook, Subject::$variant(it))
            })+
        }
    };
}

every_hook! {
    client_connected(Client) Client;
    client_disconnected(Client) Client;
    server_connect(ServerConnectionData) Server;
    server_connected(ServerConnectionData) Server;
    server_connect_error(ServerConnectionData) Server;
    server_disconnected(ServerConnectionData) Server;
    next_layer(LayerChoice) NextLayer;
    tls_clienthello(ClientHelloData) ClientHello;
    tls_start_client(TlsData) Tls;
    tls_start_server(TlsData) Tls;
    tls_established_client(TlsData) Tls;
    tls_established_server(TlsData) Tls;
    tls_failed_client(TlsData) Tls;
    tls_failed_server(TlsData) Tls;
    http_connect(HttpFlow) Http;
    http_connected(HttpFlow) Http;
    http_connect_error(HttpFlow) Http;
    requestheaders(HttpFlow) Http;
    request(HttpFlow) Http;
    responseheaders(HttpFlow) Http;
    response(HttpFlow) Http;
    error(HttpFlow) Http;
    tcp_start(TcpFlow) Tcp;
    tcp_message(TcpFlow) Tcp;
    tcp_end(TcpFlow) Tcp;
    tcp_error(TcpFlow) Tcp;
}
