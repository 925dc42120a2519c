//! What we saw: flows and the facts around them, as addons, files and UIs meet them.
//!
//! Every type here is `Send`: flows are built on a worker and handed to the control thread.
//! Times are Unix seconds as `f64`, as in mitmproxy's object model.

mod body_stream;
mod cert;
pub mod charset;
mod connection;
mod control;
mod cookies;
pub mod date;
mod dns;
mod headers;
mod hook_data;
mod http;
mod idna;
mod message;
mod multidict;
mod multipart;
mod request;
mod response;
mod status;
mod tcp;
mod udp;
pub mod url;
mod websocket;

pub use body_stream::{BodyStream, BodyTransform, LaterPieces, Pieces};
pub use cert::{Cert, CertError};
pub use connection::{Client, ConnectionState, Server, ServerSpec, TlsVersion, Transport, Via};
pub use control::{FlowRef, NotKillable};
pub use cookies::{SetCookie, format_cookie, format_set_cookie, parse_cookie, parse_set_cookie};
pub use dns::{DnsFlow, DnsMessage, DnsQuestion, DnsRecord};
pub use headers::{Field, Headers};
pub use hook_data::{ClientHello, ClientHelloData, Layer, LayerChoice, ServerConnectionData, Side, TlsData};
pub use http::{HttpFlow, HttpVersion, Request, Response};
pub use message::{ContentError, Message};
pub use multidict::{MultiDict, MultiDictView};
pub use request::FirstLineFormat;
pub use status::reason_phrase;
pub use tcp::{TcpFlow, TcpMessage};
pub use udp::{UdpFlow, UdpMessage};
pub use websocket::{WebSocketData, WebSocketKind, WebSocketMessage};

use std::sync::Arc;

/// The message a killed flow carries as its error.
pub const KILLED_MESSAGE: &str = "Connection killed.";

/// Why a flow or a connection failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// Human-readable reason.
    pub msg: String,
    /// Unix seconds.
    pub timestamp: f64,
}

/// A value in a flow's free metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// No value.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer beyond 64 bits, as decimal digits with an optional sign: Python's have no end.
    BigInt(String),
    /// A floating-point number.
    Float(f64),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<MetaValue>),
    /// A mapping, in insertion order.
    Dict(Vec<(String, MetaValue)>),
}

impl MetaValue {
    /// Bytes of memory the value takes, roughly.
    pub fn cost(&self) -> usize {
        let inside: usize = match self {
            MetaValue::Bytes(bytes) => bytes.len(),
            MetaValue::Text(text) | MetaValue::BigInt(text) => text.len(),
            MetaValue::List(items) => items.iter().map(MetaValue::cost).sum(),
            MetaValue::Dict(entries) => dict_cost(entries),
            MetaValue::Null | MetaValue::Bool(_) | MetaValue::Int(_) | MetaValue::Float(_) => 0,
        };
        size_of::<Self>() + inside
    }
}

fn dict_cost(entries: &[(String, MetaValue)]) -> usize {
    entries.iter().map(|(key, value)| size_of::<String>() + key.len() + value.cost()).sum()
}

/// Who replayed a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// The request was sent again by us.
    Request,
    /// The response came from a recording.
    Response,
}

/// What every flow has, whatever its protocol.
#[derive(Clone, Debug)]
pub struct FlowMeta {
    /// UUID, version 4.
    pub id: uuid::Uuid,
    /// The client's side. Shared by all flows of one client connection.
    pub client_conn: Arc<Client>,
    /// The server's side. Shared by all flows of one server connection.
    pub server_conn: Arc<Server>,
    /// Set when the flow failed.
    pub error: Option<Error>,
    /// Paused by a person.
    pub intercepted: bool,
    /// Part of a replay.
    pub is_replay: Option<Replay>,
    /// Marker text, empty if unmarked.
    pub marked: String,
    /// Free data, in insertion order.
    pub metadata: Vec<(String, MetaValue)>,
    /// A person's comment.
    pub comment: String,
    /// When the flow came to be, Unix seconds.
    pub timestamp_created: f64,
    /// The flow as it was before a person or an addon changed it, as its flow file holds it: kept so that
    /// nothing is lost between reading and writing.
    pub backup: Option<Box<MetaValue>>,
    /// The connection still carries the flow.
    pub live: bool,
}

impl FlowMeta {
    /// A fresh, live flow between two connections.
    pub fn new(client_conn: Arc<Client>, server_conn: Arc<Server>, timestamp_created: f64) -> Self {
        Self {
            id: uuid::Uuid::new_v4(),
            client_conn,
            server_conn,
            error: None,
            intercepted: false,
            is_replay: None,
            marked: String::new(),
            metadata: Vec::new(),
            comment: String::new(),
            timestamp_created,
            backup: None,
            live: true,
        }
    }

    /// Bytes of memory the contents take, roughly, without the struct itself. Connections are counted in
    /// full although flows may share them: a budget must hold for flows that share nothing.
    pub fn cost(&self) -> usize {
        self.client_conn.cost()
            + self.server_conn.cost()
            + self.error.as_ref().map_or(0, |error| error.msg.len())
            + self.marked.len()
            + self.comment.len()
            + dict_cost(&self.metadata)
            + self.backup.as_ref().map_or(0, |backup| backup.cost())
    }

    /// Sets a metadata value, replacing one of the same name in place.
    pub fn note(&mut self, key: &str, value: MetaValue) {
        match self.metadata.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
    }

    /// The metadata value of that name.
    pub fn noted(&self, key: &str) -> Option<&MetaValue> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// One recorded conversation, of any protocol.
#[derive(Clone, Debug)]
pub enum Flow {
    /// One HTTP exchange.
    Http(Box<HttpFlow>),
    /// One raw TCP conversation.
    Tcp(Box<TcpFlow>),
    /// One UDP conversation.
    Udp(Box<UdpFlow>),
    /// One DNS exchange.
    Dns(Box<DnsFlow>),
}

impl Flow {
    /// What every flow has.
    pub fn meta(&self) -> &FlowMeta {
        match self {
            Flow::Http(flow) => &flow.meta,
            Flow::Tcp(flow) => &flow.meta,
            Flow::Udp(flow) => &flow.meta,
            Flow::Dns(flow) => &flow.meta,
        }
    }

    /// What every flow has, to be changed.
    pub fn meta_mut(&mut self) -> &mut FlowMeta {
        match self {
            Flow::Http(flow) => &mut flow.meta,
            Flow::Tcp(flow) => &mut flow.meta,
            Flow::Udp(flow) => &mut flow.meta,
            Flow::Dns(flow) => &mut flow.meta,
        }
    }

    /// Bytes of memory the flow's contents take, roughly: what budgets count.
    pub fn cost(&self) -> usize {
        match self {
            Flow::Http(flow) => flow.cost(),
            Flow::Tcp(flow) => flow.cost(),
            Flow::Udp(flow) => flow.cost(),
            Flow::Dns(flow) => flow.cost(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_type_can_leave_its_worker() {
        fn is_send<T: Send>() {}
        is_send::<Flow>();
        is_send::<FlowMeta>();
        is_send::<MetaValue>();
        fn is_sync<T: Sync>() {}
        is_sync::<Flow>();
    }

    #[test]
    fn a_note_of_the_same_name_replaces_the_first_in_place() {
        let mut meta = FlowMeta::new(Arc::default(), Arc::default(), 0.0);
        meta.note("a", MetaValue::Int(1));
        meta.note("b", MetaValue::Int(2));
        meta.note("a", MetaValue::Int(3));
        assert_eq!(meta.metadata[0], ("a".to_owned(), MetaValue::Int(3)));
        assert_eq!(meta.noted("b"), Some(&MetaValue::Int(2)));
    }
}
