//! Flow files recorded with mitmproxy are read as mitmproxy reads them, and written back byte for byte.

#![expect(clippy::unwrap_used, reason = "a test says no by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use ringtap::flow::{
    Client, DnsFlow, Flow, HttpFlow, MetaValue, Replay, Request, Response, Server, Transport,
};
use ringtap::store::flowfile::FormatVersion;
use ringtap::store::{FlowReader, ReadError, write_flow};
use serde_json::{Value, json};

const CURRENT: [&str; 11] = [
    "p01-http1-text-binary",
    "p02-https-http1-connect",
    "p03-http2",
    "p04-websocket-text-binary",
    "p05-tcp",
    "p06-udp",
    "p07-dns",
    "p08-errors",
    "p09-annotated-modified",
    "p10-streamed-no-body",
    "p13-dns-mode",
];

#[test]
fn recorded_flows_are_what_mitmproxy_reads() {
    let expected: BTreeMap<String, Vec<Value>> = serde_json::from_slice(&data("expected.json")).unwrap();
    for name in CURRENT {
        let flows = read(&data(&format!("{name}.mitm")));
        let expected = &expected[&format!("{name}.mitm")];
        assert_eq!(flows.len(), expected.len(), "{name}");
        for (flow, expected) in flows.iter().zip(expected) {
            check(name, flow, expected);
        }
    }
}

#[test]
fn what_was_read_is_written_byte_for_byte() {
    for name in CURRENT {
        let original = data(&format!("{name}.mitm"));
        let mut written = Vec::new();
        read(&original).iter().for_each(|flow| write_flow(flow, &mut written));
        assert!(written == original, "{name} changed");
    }
}

#[test]
fn older_formats_are_refused_by_their_number() {
    for (name, version) in [("p11-old-format-v9-mitmproxy-5.3", 9), ("p12-old-format-v14-mitmproxy-7.0", 14)]
    {
        let bytes = data(&format!("{name}.mitm"));
        let error = FlowReader::new(&bytes[..]).next().unwrap().unwrap_err();
        assert!(
            matches!(error, ReadError::TooOld { offset: 0, version: FormatVersion(v, 0) } if v == version),
            "{error}"
        );
        let text = format!("the flow at byte 0 has format version {version}; versions 19 to 21 are read");
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn formats_19_and_20_are_read() {
    let original = data("p04-websocket-text-binary.mitm");
    for version in ["19", "20"] {
        let older = replace(&original, b"7:version;2:21#", format!("7:version;2:{version}#").as_bytes());
        let mut written = Vec::new();
        read(&older).iter().for_each(|flow| write_flow(flow, &mut written));
        assert!(written == original, "version {version}");
    }
    let newer = replace(&original, b"7:version;2:21#", b"7:version;2:22#");
    let error = FlowReader::new(&newer[..]).next().unwrap().unwrap_err();
    assert!(matches!(error, ReadError::TooNew { .. }), "{error}");
}

#[test]
fn a_file_cut_anywhere_gives_the_flows_before_the_cut() {
    let whole = data("p05-tcp.mitm");
    let two = [&whole[..], &whole[..]].concat();
    for end in 0..two.len() {
        let mut reader = FlowReader::new(&two[..end]);
        if end >= whole.len() {
            assert!(matches!(reader.next(), Some(Ok(Flow::Tcp(_)))), "cut at {end}");
        }
        let rest = reader.next();
        if end % whole.len() == 0 {
            assert!(rest.is_none(), "cut at {end}");
            continue;
        }
        let flow_begins = if end > whole.len() { whole.len() as u64 } else { 0 };
        let Some(Err(ReadError::Truncated { offset, flow_at })) = rest else {
            panic!("cut at {end}: {rest:?}")
        };
        assert_eq!((offset, flow_at), (end as u64, flow_begins));
        assert!(reader.next().is_none(), "cut at {end}");
    }
}

#[test]
fn damage_is_named_by_its_place_after_the_flows_before_it() {
    let whole = data("p05-tcp.mitm");
    let at = whole.len() as u64;
    for (junk, offset, text) in [
        (&b"\n"[..], at, "a length should be decimal digits and a colon"),
        (b"abc", at, "a length should be decimal digits and a colon"),
        (b"3:abc,", at, "is not a flow"),
        (b"3:abc?", at + 5, "0x3f is no type"),
        (b"4:9:a}}", at + 2, "a value is longer than what is left"),
        (b"2000000000:", at, "more than flow_size_max (1073741824)"),
        (b"0:}", at, "is not a flow"),
    ] {
        let bytes = [&whole[..], junk].concat();
        let mut reader = FlowReader::new(&bytes[..]);
        assert!(reader.next().unwrap().is_ok());
        let error = reader.next().unwrap().unwrap_err();
        assert_eq!(error.offset(), offset, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_flow_that_is_not_understood_does_not_hide_the_next() {
    let whole =
        String::from_utf8_lossy(&data("p13-dns-mode.mitm")).replacen("4:type;3:dns;", "4:type;3:xns;", 1);
    let results: Vec<_> = FlowReader::new(whole.as_bytes()).collect();
    let error = results[0].as_ref().unwrap_err();
    assert_eq!(error.offset() as usize, whole.find("xns").unwrap());
    assert!(error.to_string().ends_with("flow.type should be http, tcp, udp or dns"), "{error}");
    assert!(matches!(results[1], Ok(Flow::Dns(_))));
}

#[test]
fn damage_inside_a_flow_does_not_hide_the_next() {
    let whole = data("p05-tcp.mitm");
    let bytes = [replace(&whole, b"8:sockname;", b"9:sockname;"), whole].concat();
    let results: Vec<_> = FlowReader::new(&bytes[..]).collect();
    assert!(matches!(results[0], Err(ReadError::Damaged { .. })), "{:?}", results[0]);
    assert!(matches!(results[1], Ok(Flow::Tcp(_))));
    assert_eq!(results.len(), 2);
}

#[test]
fn other_files_are_named() {
    let first = |bytes: &[u8]| FlowReader::new(bytes).next().map(|result| result.unwrap_err());
    assert!(matches!(first(b"{\"log\":{}}"), Some(ReadError::Har)));
    assert!(matches!(first(b"\xef\xbb\xbf{\"log\":{}}"), Some(ReadError::Har)));
    assert!(first(b"").is_none());
}

#[test]
fn text_and_bytes_stand_for_one_another_where_mitmproxy_takes_both() {
    let lenient = String::from_utf8(data("p10-streamed-no-body.mitm")).unwrap();
    let original = read(lenient.as_bytes());
    for (strict, lenient_form) in [
        ("6:method;3:GET,", "6:method;3:GET;"),
        ("6:scheme;4:http,", "6:scheme;4:http;"),
        ("4:path;4:/bin,", "4:path;4:/bin;"),
        ("12:http_version;8:HTTP/1.1,", "12:http_version;8:HTTP/1.1;"),
        ("4:host;9:127.0.0.1;", "4:host;9:127.0.0.1,"),
        ("6:marked;0:;", "6:marked;0:~"),
    ] {
        assert!(lenient.contains(strict), "{strict}");
        let flows = read(lenient.replace(strict, lenient_form).as_bytes());
        let (mut written, mut expected) = (Vec::new(), Vec::new());
        flows.iter().for_each(|flow| write_flow(flow, &mut written));
        original.iter().for_each(|flow| write_flow(flow, &mut expected));
        assert!(written == expected, "{lenient_form}");
    }
    let refused = lenient.replace("11:status_code;3:200#", "11:status_code;3:200;");
    let error = FlowReader::new(refused.as_bytes()).next().unwrap().unwrap_err();
    assert!(error.to_string().ends_with("response.status_code should be a status code"), "{error}");
}

/// Whatever happens to a file, reading it ends, without a panic.
#[test]
fn mutated_files_never_panic() {
    let files: Vec<_> = CURRENT.iter().map(|name| data(&format!("{name}.mitm"))).collect();
    let mut random = XorShift(0x9e37_79b9_7f4a_7c15);
    let mut understood = 0;
    for round in 0..20_000 {
        let mut bytes = first_flow(&files[round % files.len()]);
        for _ in 0..=random.below(3) {
            mutate(&mut bytes, &mut random);
        }
        let mut out = Vec::new();
        for flow in FlowReader::new(&bytes[..]).take(50).flatten() {
            understood += 1;
            write_flow(&flow, &mut out);
            assert!(flow.cost() > 0);
        }
        let again: Result<Vec<_>, _> = FlowReader::new(&out[..]).collect();
        assert!(again.is_ok(), "what was read once is written readable: {again:?}");
    }
    // Many mutations hit a body or a number: those must be among what is tested.
    assert!(understood > 500, "{understood}");
}

fn mutate(bytes: &mut Vec<u8>, random: &mut XorShift) {
    let at = random.below(bytes.len().max(1));
    match random.below(6) {
        0 if at < bytes.len() => bytes[at] = random.next() as u8,
        1 if at < bytes.len() => bytes[at] = b"0123456789:,;#^!~]}"[random.below(19)],
        2 => bytes.truncate(at),
        3 if at < bytes.len() => drop(bytes.remove(at)),
        4 => bytes.insert(at, random.next() as u8),
        // A length that is as wrong as it can be.
        _ => drop(bytes.splice(at..at, b"99999999:".iter().copied())),
    }
}

struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn first_flow(file: &[u8]) -> Vec<u8> {
    let mut reader = FlowReader::new(file);
    reader.next().unwrap().unwrap();
    file[..reader.offset() as usize].to_vec()
}

fn data(name: &str) -> Vec<u8> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mitm").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("a place to change");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

fn read(bytes: &[u8]) -> Vec<Flow> {
    FlowReader::new(bytes).collect::<Result<_, _>>().unwrap()
}

fn check(file: &str, flow: &Flow, expected: &Value) {
    let meta = flow.meta();
    let place = format!("{file}, flow {}", meta.id);
    let mut actual = json!({
        "id": meta.id.to_string(),
        "error": meta.error.as_ref().map(|error| error.msg.clone()),
        "marked": meta.marked,
        "comment": meta.comment,
        "is_replay": meta.is_replay.map(|replay| if replay == Replay::Request { "request" } else { "response" }),
        "metadata_keys": sorted(&meta.metadata),
        "has_backup": meta.backup.is_some(),
        "client_conn": client(&meta.client_conn),
        "server_conn": server(&meta.server_conn),
    });
    let of_kind = match flow {
        Flow::Http(flow) => http(flow),
        Flow::Tcp(flow) => {
            let message = |m: &ringtap::flow::TcpMessage| message(m.from_client, &m.content);
            json!({ "type": "tcp", "messages": flow.messages.iter().map(message).collect::<Vec<_>>() })
        }
        Flow::Udp(flow) => {
            let message = |m: &ringtap::flow::UdpMessage| message(m.from_client, &m.content);
            json!({ "type": "udp", "messages": flow.messages.iter().map(message).collect::<Vec<_>>() })
        }
        Flow::Dns(flow) => {
            dns(&place, flow, expected);
            json!({ "type": "dns", "request": expected["request"], "response": expected["response"] })
        }
    };
    merge(&mut actual, of_kind);
    let mut expected = expected.clone();
    // Decoded bodies are the business of content codings, not of files.
    if let Some(response) = expected.get_mut("response").and_then(Value::as_object_mut) {
        response.remove("decoded_content");
    }
    if let Some(keys) = expected["metadata_keys"].as_array_mut() {
        keys.sort_by_key(ToString::to_string);
    }
    assert_eq!(actual, expected, "{place}");
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn sorted(metadata: &[(String, MetaValue)]) -> Vec<&str> {
    let mut keys: Vec<_> = metadata.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys
}

fn client(client: &Client) -> Value {
    json!({
        "id": client.id.to_string(),
        "peername": address(client.peername),
        "sockname": address(client.sockname),
        "transport": transport(client.transport_protocol),
        "tls": client.tls,
        "alpn": client.alpn.as_deref().map(text),
        "sni": client.sni,
        "tls_version": client.tls_version.map(ringtap::flow::TlsVersion::as_str),
        "cipher": client.cipher,
        "certs": client.certificate_list.len(),
        "proxy_mode": client.proxy_mode,
    })
}

fn server(server: &Server) -> Value {
    json!({
        "id": server.id.to_string(),
        "peername": address(server.peername),
        "sockname": address(server.sockname),
        "transport": transport(server.transport_protocol),
        "tls": server.tls,
        "alpn": server.alpn.as_deref().map(text),
        "sni": server.sni,
        "tls_version": server.tls_version.map(ringtap::flow::TlsVersion::as_str),
        "cipher": server.cipher,
        "certs": server.certificate_list.len(),
        "address": server.address,
        "via": server.via.as_ref().map(|via| json!([via.scheme, via.address])),
    })
}

fn address(addr: Option<std::net::SocketAddr>) -> Value {
    json!(addr.map(|addr| (addr.ip().to_string(), addr.port())))
}

fn transport(transport: Transport) -> &'static str {
    if transport == Transport::Tcp { "tcp" } else { "udp" }
}

fn http(flow: &HttpFlow) -> Value {
    json!({
        "type": "http",
        "request": request(&flow.request),
        "response": flow.response.as_ref().map(response),
        "websocket": flow.websocket.as_ref().map(|data| json!({
            "messages": data.messages.iter().map(|m| json!({
                "opcode": m.kind.opcode(),
                "from_client": m.from_client,
                "dropped": m.dropped,
                "injected": m.injected,
                "content": content(Some(&m.content)),
            })).collect::<Vec<_>>(),
            "closed_by_client": data.closed_by_client,
            "close_code": data.close_code,
            "close_reason": data.close_reason,
        })),
    })
}

fn request(request: &Request) -> Value {
    json!({
        "method": text(&request.method),
        "url": request.url(),
        "pretty_url": request.pretty_url(),
        "http_version": text(&request.http_version),
        "headers": headers(&request.headers),
        "trailers": request.trailers.as_ref().map(headers),
        "content": content(request.content.as_deref()),
    })
}

fn response(response: &Response) -> Value {
    json!({
        "status": response.status_code,
        "reason": text(&response.reason),
        "http_version": text(&response.http_version),
        "headers": headers(&response.headers),
        "trailers": response.trailers.as_ref().map(headers),
        "raw_content": content(response.content.as_deref()),
    })
}

fn headers(headers: &ringtap::flow::Headers) -> Value {
    json!(headers.fields().iter().map(|field| (text(&field.name), text(&field.value))).collect::<Vec<_>>())
}

fn message(from_client: bool, bytes: &[u8]) -> Value {
    json!({ "from_client": from_client, "content": content(Some(bytes)) })
}

fn dns(place: &str, flow: &DnsFlow, expected: &Value) {
    for (message, expected) in
        [(Some(&flow.request), &expected["request"]), (flow.response.as_ref(), &expected["response"])]
    {
        let Some(message) = message else {
            assert!(expected.is_null(), "{place}");
            continue;
        };
        assert_eq!(json!(message.id), expected["id"], "{place}");
        assert_eq!(json!(message.query), expected["query"], "{place}");
        assert_eq!(json!(message.truncation), expected["truncation"], "{place}");
        assert_eq!(json!(message.authoritative_answer), expected["authoritative_answer"], "{place}");
        assert_eq!(json!(message.recursion_available), expected["recursion_available"], "{place}");
        // serde_json reads a float's last digit loosely; the byte for byte test keeps it exact.
        let (time, expected_time) = (message.timestamp.unwrap(), expected["timestamp"].as_f64().unwrap());
        assert!((time - expected_time).abs() < 1e-6, "{place}");
        assert_eq!(json!(message.questions[0].name), expected["questions"][0]["name"], "{place}");
        let answers = expected["answers"].as_array().unwrap();
        assert_eq!(message.answers.len(), answers.len(), "{place}");
        for (record, expected) in message.answers.iter().zip(answers) {
            assert_eq!(json!(record.name), expected["name"], "{place}");
            assert_eq!(json!(record.ttl), expected["ttl"], "{place}");
        }
        let records = message.answers.iter().chain(&message.authorities).chain(&message.additionals);
        assert_eq!(
            json!(records.map(|record| record.data.len()).sum::<usize>()),
            expected["size"],
            "{place}"
        );
    }
}

fn content(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| json!({ "len": bytes.len(), "sha256": sha256(bytes) }))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
