//! A parsed dict of the current format as a flow.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::fields::{self, FieldError, Fields, Result};
use super::{meta_value, pem};
use crate::flow::{
    BodyStream, Client, DnsFlow, DnsMessage, DnsQuestion, DnsRecord, Error, Field, Flow, FlowMeta, Headers,
    HttpFlow, MetaValue, Replay, Request, Response, Server, TcpFlow, TcpMessage, TlsVersion, Transport,
    UdpFlow, UdpMessage, Via, WebSocketData, WebSocketKind, WebSocketMessage,
};
use crate::store::tnetstring::{Dict, Node, Value};

/// The flow of a dict. Keys we do not know are passed over.
pub(super) fn flow(dict: &Dict<'_>) -> Result<Flow> {
    let fields = Fields::root(dict);
    let kind = fields.text("type")?;
    Ok(match kind.as_str() {
        "http" => Flow::Http(Box::new(HttpFlow {
            meta: meta(fields)?,
            request: request(Fields::of("request", fields.node("request")?)?)?,
            response: fields.optional_dict("response", response)?,
            websocket: fields.optional_dict("websocket", websocket)?,
            killed: false,
        })),
        "tcp" => Flow::Tcp(Box::new(TcpFlow { meta: meta(fields)?, messages: tcp(fields)?, killed: false })),
        "udp" => Flow::Udp(Box::new(UdpFlow { meta: meta(fields)?, messages: udp(fields)?, killed: false })),
        "dns" => Flow::Dns(Box::new(DnsFlow {
            meta: meta(fields)?,
            request: dns_message(Fields::of("request", fields.node("request")?)?)?,
            response: fields.optional_dict("response", dns_message)?,
            killed: false,
        })),
        _ => return fields.read("type", "http, tcp, udp or dns", |_| None),
    })
}

fn meta(fields: Fields<'_, '_>) -> Result<FlowMeta> {
    Ok(FlowMeta {
        id: id(fields)?,
        client_conn: Arc::new(client(Fields::of("client_conn", fields.node("client_conn")?)?)?),
        server_conn: Arc::new(server(Fields::of("server_conn", fields.node("server_conn")?)?)?),
        error: fields.optional_dict("error", |error| {
            Ok(Error { msg: error.text("msg")?, timestamp: error.float("timestamp")? })
        })?,
        intercepted: fields.bool("intercepted")?,
        is_replay: fields.optional("is_replay", "request, response or null", |node| {
            match fields::text(node)?.as_str() {
                "request" => Some(Replay::Request),
                "response" => Some(Replay::Response),
                _ => None,
            }
        })?,
        marked: fields.optional_text("marked")?.unwrap_or_default(),
        metadata: metadata(fields)?,
        comment: fields.text("comment")?,
        timestamp_created: fields.float("timestamp_created")?,
        backup: backup(fields)?,
        live: false,
    })
}

fn metadata(fields: Fields<'_, '_>) -> Result<Vec<(String, MetaValue)>> {
    let node = fields.node("metadata")?;
    match &node.value {
        Value::Dict(entries) => free(fields, "metadata", meta_value::decode_dict(entries)),
        _ => Err(fields.error(node.at, "metadata", "a dict")),
    }
}

/// The one key that may be missing.
fn backup(fields: Fields<'_, '_>) -> Result<Option<Box<MetaValue>>> {
    match fields.find("backup") {
        None | Some(Node { value: Value::Null, .. }) => Ok(None),
        Some(node) => free(fields, "backup", meta_value::decode(node)).map(|value| Some(Box::new(value))),
    }
}

fn free<T>(fields: Fields<'_, '_>, name: &str, decoded: std::result::Result<T, usize>) -> Result<T> {
    decoded.map_err(|at| fields.error(at, name, "a dict whose keys are text"))
}

/// mitmproxy writes UUIDs but reads any text; other text gets an id that depends on nothing else.
fn id(fields: Fields<'_, '_>) -> Result<Uuid> {
    let text = fields.text("id")?;
    let parsed = Uuid::parse_str(&text).ok().filter(|_| text.len() == 36);
    Ok(parsed.unwrap_or_else(|| {
        let hash =
            text.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME));
        uuid::Builder::from_random_bytes(hash.to_be_bytes()).into_uuid()
    }))
}

// FNV-1a, 128 bits.
const FNV_OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

fn client(fields: Fields<'_, '_>) -> Result<Client> {
    Ok(Client {
        id: id(fields)?,
        peername: socket_address(fields, "peername")?,
        sockname: socket_address(fields, "sockname")?,
        transport_protocol: transport(fields)?,
        error: fields.optional_text("error")?,
        tls: fields.bool("tls")?,
        certificate_list: certificates(fields)?,
        alpn: alpn(fields)?,
        alpn_offers: alpn_offers(fields)?,
        cipher: fields.optional_text("cipher")?,
        cipher_list: fields.list("cipher_list", "text", fields::text)?,
        tls_version: tls_version(fields)?,
        sni: fields.optional_text("sni")?,
        timestamp_start: fields.float("timestamp_start")?,
        timestamp_end: fields.optional_float("timestamp_end")?,
        timestamp_tls_setup: fields.optional_float("timestamp_tls_setup")?,
        mitmcert: fields.optional("mitmcert", "a PEM certificate or null", certificate)?,
        proxy_mode: fields.text("proxy_mode")?,
    })
}

fn server(fields: Fields<'_, '_>) -> Result<Server> {
    Ok(Server {
        id: id(fields)?,
        peername: socket_address(fields, "peername")?,
        sockname: socket_address(fields, "sockname")?,
        transport_protocol: transport(fields)?,
        error: fields.optional_text("error")?,
        tls: fields.bool("tls")?,
        certificate_list: certificates(fields)?,
        alpn: alpn(fields)?,
        alpn_offers: alpn_offers(fields)?,
        cipher: fields.optional_text("cipher")?,
        cipher_list: fields.list("cipher_list", "text", fields::text)?,
        tls_version: tls_version(fields)?,
        sni: fields.optional_text("sni")?,
        timestamp_start: fields.optional_float("timestamp_start")?,
        timestamp_end: fields.optional_float("timestamp_end")?,
        timestamp_tls_setup: fields.optional_float("timestamp_tls_setup")?,
        timestamp_tcp_setup: fields.optional_float("timestamp_tcp_setup")?,
        address: fields.optional("address", "a host and a port, or null", address)?,
        via: fields.optional("via", "a scheme with a host and a port, or null", via)?,
    })
}

fn transport(fields: Fields<'_, '_>) -> Result<Transport> {
    fields.read("transport_protocol", "tcp or udp", |node| match fields::text(node)?.as_str() {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        _ => None,
    })
}

fn tls_version(fields: Fields<'_, '_>) -> Result<Option<TlsVersion>> {
    let parse = |node: &Node<'_>| TlsVersion::parse(&fields::text(node)?);
    fields.optional("tls_version", "a TLS version's name or null", parse)
}

fn alpn(fields: Fields<'_, '_>) -> Result<Option<Vec<u8>>> {
    fields.optional("alpn", "bytes or null", |node| fields::raw(node).map(<[u8]>::to_vec))
}

fn alpn_offers(fields: Fields<'_, '_>) -> Result<Vec<Vec<u8>>> {
    fields.list("alpn_offers", "bytes", |node| fields::raw(node).map(<[u8]>::to_vec))
}

fn certificates(fields: Fields<'_, '_>) -> Result<Arc<[Vec<u8>]>> {
    fields.list("certificate_list", "PEM certificates", certificate).map(Arc::from)
}

fn certificate(node: &Node<'_>) -> Option<Vec<u8>> {
    pem::decode(fields::raw(node)?)
}

fn address(node: &Node<'_>) -> Option<(String, u16)> {
    let (host, port, _) = fields::host_port(node)?;
    Some((host.into_owned(), port))
}

fn via(node: &Node<'_>) -> Option<Via> {
    let [scheme, at] = fields::list(node)? else { return None };
    Some(Via { scheme: fields::text(scheme)?, address: address(at)? })
}

/// A socket's address. What mitmproxy made up (`["", 0]`) and names, as other programs' files have them in
/// place of addresses, are no address.
fn socket_address(fields: Fields<'_, '_>, name: &str) -> Result<Option<SocketAddr>> {
    let read = |node: &Node<'_>| {
        let (host, port, rest) = fields::host_port(node)?;
        let host = host.split_once('%').map_or(&*host, |(host, _zone)| host);
        Some(match (host.parse(), rest) {
            (Ok(IpAddr::V6(ip)), [flow_info, scope]) => {
                let v6 = SocketAddrV6::new(ip, port, fields::int(flow_info)?, fields::int(scope)?);
                Some(SocketAddr::V6(v6))
            }
            (Ok(ip), _) => Some(SocketAddr::new(ip, port)),
            (Err(_), _) => None,
        })
    };
    fields.optional(name, "an address and a port, or null", read).map(Option::flatten)
}

fn request(fields: Fields<'_, '_>) -> Result<Request> {
    Ok(Request {
        host: fields.text("host")?,
        port: fields.int("port", "a port")?,
        method: fields.bytes("method")?,
        scheme: fields.bytes("scheme")?,
        authority: fields.bytes("authority")?,
        path: fields.bytes("path")?,
        http_version: fields.bytes("http_version")?,
        headers: fields.read("headers", HEADERS, headers)?,
        content: fields.optional("content", "bytes or null", fields::bytes)?,
        trailers: fields.optional("trailers", HEADERS, headers)?,
        timestamp_start: fields.float("timestamp_start")?,
        timestamp_end: fields.optional_float("timestamp_end")?,
        stream: BodyStream::Auto,
    })
}

fn response(fields: Fields<'_, '_>) -> Result<Response> {
    Ok(Response {
        http_version: fields.bytes("http_version")?,
        status_code: fields.int("status_code", "a status code")?,
        reason: fields.bytes("reason")?,
        headers: fields.read("headers", HEADERS, headers)?,
        content: fields.optional("content", "bytes or null", fields::bytes)?,
        trailers: fields.optional("trailers", HEADERS, headers)?,
        timestamp_start: fields.float("timestamp_start")?,
        timestamp_end: fields.optional_float("timestamp_end")?,
        stream: BodyStream::Auto,
    })
}

const HEADERS: &str = "a list of names and values";

/// All names and values in one allocation: a flow has dozens of them.
fn headers(node: &Node<'_>) -> Option<Headers> {
    let items = fields::list(node)?;
    let mut pairs = Vec::with_capacity(items.len());
    for item in items {
        let [name, value] = fields::list(item)? else { return None };
        pairs.push((fields::raw(name)?, fields::raw(value)?));
    }
    let mut block = Vec::with_capacity(pairs.iter().map(|(name, value)| name.len() + value.len()).sum());
    for (name, value) in &pairs {
        block.extend_from_slice(name);
        block.extend_from_slice(value);
    }
    let mut block = Bytes::from(block);
    let field = |(name, value): (&[u8], &[u8])| Field {
        name: block.split_to(name.len()),
        value: block.split_to(value.len()),
    };
    Some(Headers::new(pairs.into_iter().map(field).collect()))
}

fn websocket(fields: Fields<'_, '_>) -> Result<WebSocketData> {
    Ok(WebSocketData {
        messages: fields.list("messages", "a WebSocket message", websocket_message)?,
        closed_by_client: fields.optional("closed_by_client", "true, false or null", fields::boolean)?,
        close_code: fields.optional("close_code", "a close code or null", fields::int)?,
        close_reason: fields.optional_text("close_reason")?,
        timestamp_end: fields.optional_float("timestamp_end")?,
    })
}

fn websocket_message(node: &Node<'_>) -> Option<WebSocketMessage> {
    let [opcode, from_client, content, timestamp, dropped, injected] = fields::list(node)? else {
        return None;
    };
    Some(WebSocketMessage {
        kind: WebSocketKind::from_opcode(fields::int(opcode)?)?,
        from_client: fields::boolean(from_client)?,
        content: fields::bytes(content)?,
        timestamp: fields::float(timestamp)?,
        dropped: fields::boolean(dropped)?,
        injected: fields::boolean(injected)?,
    })
}

fn tcp(fields: Fields<'_, '_>) -> Result<Vec<TcpMessage>> {
    fields.list("messages", MESSAGE, |node| {
        let (from_client, content, timestamp) = transport_message(node)?;
        Some(TcpMessage { from_client, content, timestamp })
    })
}

fn udp(fields: Fields<'_, '_>) -> Result<Vec<UdpMessage>> {
    fields.list("messages", MESSAGE, |node| {
        let (from_client, content, timestamp) = transport_message(node)?;
        Some(UdpMessage { from_client, content, timestamp })
    })
}

const MESSAGE: &str = "a direction, bytes and a time";

fn transport_message(node: &Node<'_>) -> Option<(bool, Bytes, f64)> {
    let [from_client, content, timestamp] = fields::list(node)? else { return None };
    Some((fields::boolean(from_client)?, fields::bytes(content)?, fields::float(timestamp)?))
}

fn dns_message(fields: Fields<'_, '_>) -> Result<DnsMessage> {
    Ok(DnsMessage {
        id: fields.int("id", "a 16-bit number")?,
        query: fields.bool("query")?,
        op_code: fields.int("op_code", "an operation code")?,
        authoritative_answer: fields.bool("authoritative_answer")?,
        truncation: fields.bool("truncation")?,
        recursion_desired: fields.bool("recursion_desired")?,
        recursion_available: fields.bool("recursion_available")?,
        reserved: fields.int("reserved", "the reserved bits")?,
        response_code: fields.int("response_code", "a response code")?,
        questions: dns_items(fields, "questions", dns_question)?,
        answers: dns_items(fields, "answers", dns_record)?,
        authorities: dns_items(fields, "authorities", dns_record)?,
        additionals: dns_items(fields, "additionals", dns_record)?,
        timestamp: fields.optional_float("timestamp")?,
    })
}

fn dns_items<T>(
    fields: Fields<'_, '_>,
    name: &'static str,
    read: impl Fn(Fields<'_, '_>) -> Result<T>,
) -> Result<Vec<T>> {
    let node = fields.node(name)?;
    let items = fields::list(node).ok_or_else(|| -> FieldError { fields.error(node.at, name, "a list") })?;
    items.iter().map(|item| read(Fields::of(name, item)?)).collect()
}

fn dns_question(fields: Fields<'_, '_>) -> Result<DnsQuestion> {
    Ok(DnsQuestion {
        name: fields.text("name")?,
        kind: fields.int("type", "a 16-bit number")?,
        class: fields.int("class_", "a 16-bit number")?,
    })
}

fn dns_record(fields: Fields<'_, '_>) -> Result<DnsRecord> {
    Ok(DnsRecord {
        name: fields.text("name")?,
        kind: fields.int("type", "a 16-bit number")?,
        class: fields.int("class_", "a 16-bit number")?,
        ttl: fields.int("ttl", "a 32-bit number")?,
        data: fields.bytes("data")?,
    })
}
