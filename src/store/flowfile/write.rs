//! A flow as the bytes of a flow file. Keys stand here in the order they have on disk.

use std::net::SocketAddr;

use uuid::Uuid;

use super::{VERSION, meta_value, pem};
use crate::flow::{
    Client, DnsMessage, DnsQuestion, DnsRecord, Error, Flow, FlowMeta, FlowRef, Headers, HttpFlow, Replay,
    Request, Response, Server, TlsVersion, Transport, Via, WebSocketData,
};
use crate::store::tnetstring as tnet;

type Out = Vec<u8>;

/// Appends a flow in format 21.
pub fn write_flow(flow: &Flow, out: &mut Vec<u8>) {
    write_flow_ref(flow.into(), out);
}

/// Appends a flow in format 21.
pub(in crate::store) fn write_flow_ref(flow: FlowRef<'_>, out: &mut Vec<u8>) {
    tnet::write_dict(out, |out| {
        match flow {
            FlowRef::Http(flow) => http(flow, out),
            FlowRef::Tcp(flow) => {
                let messages = flow.messages.iter().map(|m| (m.from_client, &m.content[..], m.timestamp));
                transport_messages(messages, out);
            }
            FlowRef::Udp(flow) => {
                let messages = flow.messages.iter().map(|m| (m.from_client, &m.content[..], m.timestamp));
                transport_messages(messages, out);
            }
            FlowRef::Dns(flow) => {
                key("response", out);
                optional(flow.response.as_ref(), out, dns_message);
                key("request", out);
                dns_message(&flow.request, out);
            }
        }
        meta(flow.meta(), flow.kind(), out);
    });
}

fn meta(meta: &FlowMeta, kind: &str, out: &mut Out) {
    key("backup", out);
    optional(meta.backup.as_deref(), out, meta_value::write);
    key("timestamp_created", out);
    tnet::write_float(meta.timestamp_created, out);
    key("comment", out);
    tnet::write_text(&meta.comment, out);
    key("metadata", out);
    meta_value::write_dict(&meta.metadata, out);
    key("marked", out);
    tnet::write_text(&meta.marked, out);
    key("is_replay", out);
    optional(meta.is_replay, out, |replay, out| {
        let text = match replay {
            Replay::Request => "request",
            Replay::Response => "response",
        };
        tnet::write_text(text, out);
    });
    key("intercepted", out);
    tnet::write_bool(meta.intercepted, out);
    key("server_conn", out);
    server(&meta.server_conn, out);
    key("client_conn", out);
    client(&meta.client_conn, out);
    key("error", out);
    optional(meta.error.as_ref(), out, error);
    key("id", out);
    uuid(meta.id, out);
    key("type", out);
    tnet::write_text(kind, out);
    key("version", out);
    tnet::write_int(VERSION, out);
}

fn error(error: &Error, out: &mut Out) {
    tnet::write_dict(out, |out| {
        key("timestamp", out);
        tnet::write_float(error.timestamp, out);
        key("msg", out);
        tnet::write_text(&error.msg, out);
    });
}

fn client(client: &Client, out: &mut Out) {
    tnet::write_dict(out, |out| {
        key("proxy_mode", out);
        tnet::write_text(&client.proxy_mode, out);
        key("mitmcert", out);
        optional(client.mitmcert.as_ref(), out, |der, out| certificate(der, out));
        key("timestamp_tls_setup", out);
        optional_float(client.timestamp_tls_setup, out);
        key("timestamp_end", out);
        optional_float(client.timestamp_end, out);
        key("timestamp_start", out);
        tnet::write_float(client.timestamp_start, out);
        tls_facts(
            &TlsFacts {
                sni: client.sni.as_deref(),
                version: client.tls_version,
                cipher_list: &client.cipher_list,
                cipher: client.cipher.as_deref(),
                alpn_offers: &client.alpn_offers,
                alpn: client.alpn.as_deref(),
                certificates: &client.certificate_list,
                tls: client.tls,
                error: client.error.as_deref(),
            },
            out,
        );
        let transport = client.transport_protocol;
        transport_and_id(transport, client.id, out);
        key("sockname", out);
        client_address(client.sockname, transport, out);
        key("peername", out);
        client_address(client.peername, transport, out);
    });
}

fn server(server: &Server, out: &mut Out) {
    tnet::write_dict(out, |out| {
        key("via", out);
        optional(server.via.as_ref(), out, via);
        key("timestamp_tcp_setup", out);
        optional_float(server.timestamp_tcp_setup, out);
        key("address", out);
        optional(server.address.as_ref(), out, |(host, port), out| host_port(host, *port, out));
        key("timestamp_tls_setup", out);
        optional_float(server.timestamp_tls_setup, out);
        key("timestamp_end", out);
        optional_float(server.timestamp_end, out);
        key("timestamp_start", out);
        optional_float(server.timestamp_start, out);
        tls_facts(
            &TlsFacts {
                sni: server.sni.as_deref(),
                version: server.tls_version,
                cipher_list: &server.cipher_list,
                cipher: server.cipher.as_deref(),
                alpn_offers: &server.alpn_offers,
                alpn: server.alpn.as_deref(),
                certificates: &server.certificate_list,
                tls: server.tls,
                error: server.error.as_deref(),
            },
            out,
        );
        let transport = server.transport_protocol;
        transport_and_id(transport, server.id, out);
        key("sockname", out);
        optional(server.sockname, out, |addr, out| socket_address(addr, transport, out));
        key("peername", out);
        optional(server.peername, out, |addr, out| socket_address(addr, transport, out));
    });
}

/// What both kinds of connection say about TLS.
struct TlsFacts<'a> {
    sni: Option<&'a str>,
    version: Option<TlsVersion>,
    cipher_list: &'a [String],
    cipher: Option<&'a str>,
    alpn_offers: &'a [Vec<u8>],
    alpn: Option<&'a [u8]>,
    certificates: &'a [Vec<u8>],
    tls: bool,
    error: Option<&'a str>,
}

fn tls_facts(facts: &TlsFacts<'_>, out: &mut Out) {
    key("sni", out);
    optional(facts.sni, out, tnet::write_text);
    key("tls_version", out);
    optional(facts.version, out, |version, out| tnet::write_text(version.as_str(), out));
    key("cipher_list", out);
    list(facts.cipher_list, out, |cipher, out| tnet::write_text(cipher, out));
    key("cipher", out);
    optional(facts.cipher, out, tnet::write_text);
    key("alpn_offers", out);
    list(facts.alpn_offers, out, |offer, out| tnet::write_bytes(offer, out));
    key("alpn", out);
    optional(facts.alpn, out, tnet::write_bytes);
    key("certificate_list", out);
    list(facts.certificates, out, |der, out| certificate(der, out));
    key("tls", out);
    tnet::write_bool(facts.tls, out);
    key("error", out);
    optional(facts.error, out, tnet::write_text);
}

fn transport_and_id(transport: Transport, id: Uuid, out: &mut Out) {
    key("transport_protocol", out);
    let text = match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    tnet::write_text(text, out);
    key("id", out);
    uuid(id, out);
}

fn via(via: &Via, out: &mut Out) {
    tnet::write_list(out, |out| {
        tnet::write_text(&via.scheme, out);
        host_port(&via.address.0, via.address.1, out);
    });
}

/// A client's addresses may not be null in a flow file: mitmproxy makes them up like this.
fn client_address(addr: Option<SocketAddr>, transport: Transport, out: &mut Out) {
    match addr {
        Some(addr) => socket_address(addr, transport, out),
        None => host_port("", 0, out),
    }
}

/// Python's stream sockets give IPv6 addresses as four items, mitmproxy's datagram sockets as two.
fn socket_address(addr: SocketAddr, transport: Transport, out: &mut Out) {
    match addr {
        SocketAddr::V6(v6) if transport == Transport::Tcp || v6.flowinfo() != 0 || v6.scope_id() != 0 => {
            tnet::write_list(out, |out| {
                tnet::write_shown(v6.ip(), out);
                tnet::write_int(v6.port().into(), out);
                tnet::write_int(v6.flowinfo().into(), out);
                tnet::write_int(v6.scope_id().into(), out);
            });
        }
        _ => tnet::write_list(out, |out| {
            tnet::write_shown(addr.ip(), out);
            tnet::write_int(addr.port().into(), out);
        }),
    }
}

fn host_port(host: &str, port: u16, out: &mut Out) {
    tnet::write_list(out, |out| {
        tnet::write_text(host, out);
        tnet::write_int(port.into(), out);
    });
}

fn certificate(der: &[u8], out: &mut Out) {
    tnet::write_bytes_of(out, |out| pem::append(der, out));
}

fn http(flow: &HttpFlow, out: &mut Out) {
    key("websocket", out);
    optional(flow.websocket.as_ref(), out, websocket);
    key("response", out);
    optional(flow.response.as_ref(), out, response);
    key("request", out);
    request(&flow.request, out);
}

fn request(request: &Request, out: &mut Out) {
    tnet::write_dict(out, |out| {
        key("path", out);
        tnet::write_bytes(&request.path, out);
        key("authority", out);
        tnet::write_bytes(&request.authority, out);
        key("scheme", out);
        tnet::write_bytes(&request.scheme, out);
        key("method", out);
        tnet::write_bytes(&request.method, out);
        key("port", out);
        tnet::write_int(request.port.into(), out);
        key("host", out);
        tnet::write_text(&request.host, out);
        key("timestamp_end", out);
        optional_float(request.timestamp_end, out);
        key("timestamp_start", out);
        tnet::write_float(request.timestamp_start, out);
        key("trailers", out);
        optional(request.trailers.as_ref(), out, headers);
        key("content", out);
        optional(request.content.as_deref(), out, tnet::write_bytes);
        key("headers", out);
        headers(&request.headers, out);
        key("http_version", out);
        tnet::write_bytes(&request.http_version, out);
    });
}

fn response(response: &Response, out: &mut Out) {
    tnet::write_dict(out, |out| {
        key("reason", out);
        tnet::write_bytes(&response.reason, out);
        key("status_code", out);
        tnet::write_int(response.status_code.into(), out);
        key("timestamp_end", out);
        optional_float(response.timestamp_end, out);
        key("timestamp_start", out);
        tnet::write_float(response.timestamp_start, out);
        key("trailers", out);
        optional(response.trailers.as_ref(), out, headers);
        key("content", out);
        optional(response.content.as_deref(), out, tnet::write_bytes);
        key("headers", out);
        headers(&response.headers, out);
        key("http_version", out);
        tnet::write_bytes(&response.http_version, out);
    });
}

fn headers(headers: &Headers, out: &mut Out) {
    list(headers.fields(), out, |field, out| {
        tnet::write_list(out, |out| {
            tnet::write_bytes(&field.name, out);
            tnet::write_bytes(&field.value, out);
        });
    });
}

fn websocket(data: &WebSocketData, out: &mut Out) {
    tnet::write_dict(out, |out| {
        key("timestamp_end", out);
        optional_float(data.timestamp_end, out);
        key("close_reason", out);
        optional(data.close_reason.as_deref(), out, tnet::write_text);
        key("close_code", out);
        optional(data.close_code, out, |code, out| tnet::write_int(code.into(), out));
        key("closed_by_client", out);
        optional(data.closed_by_client, out, tnet::write_bool);
        key("messages", out);
        list(&data.messages, out, |message, out| {
            tnet::write_list(out, |out| {
                tnet::write_int(message.kind.opcode().into(), out);
                tnet::write_bool(message.from_client, out);
                tnet::write_bytes(&message.content, out);
                tnet::write_float(message.timestamp, out);
                tnet::write_bool(message.dropped, out);
                tnet::write_bool(message.injected, out);
            });
        });
    });
}

fn transport_messages<'a>(messages: impl Iterator<Item = (bool, &'a [u8], f64)>, out: &mut Out) {
    key("messages", out);
    tnet::write_list(out, |out| {
        for (from_client, content, timestamp) in messages {
            tnet::write_list(out, |out| {
                tnet::write_bool(from_client, out);
                tnet::write_bytes(content, out);
                tnet::write_float(timestamp, out);
            });
        }
    });
}

fn dns_message(message: &DnsMessage, out: &mut Out) {
    tnet::write_dict(out, |out| {
        key("timestamp", out);
        optional_float(message.timestamp, out);
        for (name, records) in [
            ("additionals", &message.additionals),
            ("authorities", &message.authorities),
            ("answers", &message.answers),
        ] {
            key(name, out);
            list(records, out, dns_record);
        }
        key("questions", out);
        list(&message.questions, out, dns_question);
        key("response_code", out);
        tnet::write_int(message.response_code.into(), out);
        key("reserved", out);
        tnet::write_int(message.reserved.into(), out);
        for (name, value) in [
            ("recursion_available", message.recursion_available),
            ("recursion_desired", message.recursion_desired),
            ("truncation", message.truncation),
            ("authoritative_answer", message.authoritative_answer),
        ] {
            key(name, out);
            tnet::write_bool(value, out);
        }
        key("op_code", out);
        tnet::write_int(message.op_code.into(), out);
        key("query", out);
        tnet::write_bool(message.query, out);
        key("id", out);
        tnet::write_int(message.id.into(), out);
    });
}

fn dns_question(question: &DnsQuestion, out: &mut Out) {
    tnet::write_dict(out, |out| dns_name_and_kind(&question.name, question.kind, question.class, out));
}

fn dns_record(record: &DnsRecord, out: &mut Out) {
    tnet::write_dict(out, |out| {
        key("data", out);
        tnet::write_bytes(&record.data, out);
        key("ttl", out);
        tnet::write_int(record.ttl.into(), out);
        dns_name_and_kind(&record.name, record.kind, record.class, out);
    });
}

fn dns_name_and_kind(name: &str, kind: u16, class: u16, out: &mut Out) {
    key("class_", out);
    tnet::write_int(class.into(), out);
    key("type", out);
    tnet::write_int(kind.into(), out);
    key("name", out);
    tnet::write_text(name, out);
}

fn key(name: &str, out: &mut Out) {
    tnet::write_text(name, out);
}

fn uuid(id: Uuid, out: &mut Out) {
    tnet::write_text(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()), out);
}

fn optional_float(value: Option<f64>, out: &mut Out) {
    optional(value, out, tnet::write_float);
}

fn optional<T>(value: Option<T>, out: &mut Out, write: impl FnOnce(T, &mut Out)) {
    match value {
        Some(value) => write(value, out),
        None => tnet::write_null(out),
    }
}

fn list<T>(items: &[T], out: &mut Out, mut write: impl FnMut(&T, &mut Out)) {
    tnet::write_list(out, |out| items.iter().for_each(|item| write(item, out)));
}
