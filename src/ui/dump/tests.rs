//! Expected text is mitmdump's own for the same recorded flows, unless a test says where we differ.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::flow::{Client, Error, TcpFlow, TcpMessage, WebSocketMessage};
use crate::store::FlowReader;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn dump(flows: &[Flow], detail: u8, color: bool) -> String {
    let sink = Sink::default();
    let mut dumper = Dumper::new(Box::new(sink.clone()), detail, color, false);
    flows.iter().for_each(|flow| dumper.flow(flow).unwrap());
    String::from_utf8(std::mem::take(&mut *sink.0.lock().unwrap())).unwrap()
}

macro_rules! recorded {
    ($name:literal) => {
        read(include_bytes!(concat!("../../../tests/data/mitm/", $name, ".mitm")))
    };
}

fn read(file: &[u8]) -> Vec<Flow> {
    FlowReader::new(file).collect::<Result<_, _>>().unwrap()
}

#[test]
fn detail_1_aligns_the_status_with_the_method() {
    let expected = "\
127.0.0.1:47656: GET http://127.0.0.1:9001/text
              << 200  17b
127.0.0.1:47664: GET http://127.0.0.1:9001/json?a=1&b=two
              << 200  66b
127.0.0.1:47666: GET http://127.0.0.1:9001/png
              << 200  70b
127.0.0.1:47680: GET http://127.0.0.1:9001/bin
              << 200  4.0k
127.0.0.1:47692: GET http://127.0.0.1:9001/gzip
              << 200  72b
127.0.0.1:47694: POST http://127.0.0.1:9001/echo
              << 200  24b
127.0.0.1:47704: POST http://127.0.0.1:9001/echo
              << 200  810b
";
    assert_eq!(dump(&recorded!("p01-http1-text-binary"), 1, false), expected);
}

#[test]
fn versions_are_shown_when_they_are_not_http_1() {
    let expected = "\
127.0.0.1:47746: GET https://localhost:9002/text HTTP/2.0
     << HTTP/2.0 200 OK 17b
127.0.0.1:47746: GET https://localhost:9002/png HTTP/2.0
     << HTTP/2.0 200 OK 70b
127.0.0.1:47752: GET https://localhost:9002/trailers HTTP/2.0
     << HTTP/2.0 200 OK 18b
127.0.0.1:47756: POST https://localhost:9002/echo HTTP/2.0
     << HTTP/2.0 200 OK 1.2k
";
    assert_eq!(dump(&recorded!("p03-http2"), 1, false), expected);
}

#[test]
fn bodies_that_were_streamed_are_missing() {
    let expected = "\
127.0.0.1:56528: GET http://127.0.0.1:9001/bin
              << 200  (content missing)
127.0.0.1:56534: GET http://127.0.0.1:9001/text
              << 200  17b
127.0.0.1:56550: POST http://127.0.0.1:9001/echo
              << 200  (content missing)
";
    assert_eq!(dump(&recorded!("p10-streamed-no-body"), 1, false), expected);
}

#[test]
fn errors_end_a_flow() {
    let expected = "\
127.0.0.1:60732: GET http://127.0.0.1:9/refused
 << [Errno 111] Connect call failed ('127.0.0.1', 9)
127.0.0.1:60740: GET http://127.0.0.1:9105/abort
              << 200 OK (content missing)
 << HTTP/1 protocol error: peer closed connection without sending complete message body (received 12 bytes, expected 1000)
127.0.0.1:60752: GET http://127.0.0.1:9105/drop
 << server closed connection
127.0.0.1:60754: GET http://127.0.0.1:9105/garbage
 << Cannot parse HTTP response: Bad HTTP response line: b'\\x00\\x01\\x02 not http at all'
";
    assert_eq!(dump(&recorded!("p08-errors"), 1, false), expected);
}

#[test]
fn detail_2_adds_headers_and_trailers() {
    let expected = "\
127.0.0.1:47752: GET https://localhost:9002/trailers HTTP/2.0
    user-agent: curl/7.88.1
    accept: */*
    te: trailers
 << HTTP/2.0 200 OK 18b
    content-type: text/plain
    trailer: x-check
    date: Fri, 20 Nov 2026 10:23:34 GMT
    server: hypercorn-h2
    alt-svc: h3=\":9003\"; ma=3600
    --- HTTP Trailers
    x-check: sum=42
";
    assert_eq!(dump(&recorded!("p03-http2")[2..3], 2, false), expected);
}

#[test]
fn detail_3_adds_bodies() {
    let expected = "\
127.0.0.1:47752: GET https://localhost:9002/trailers HTTP/2.0
    user-agent: curl/7.88.1
    accept: */*
    te: trailers

 << HTTP/2.0 200 OK 18b
    content-type: text/plain
    trailer: x-check
    date: Fri, 20 Nov 2026 10:23:34 GMT
    server: hypercorn-h2
    alt-svc: h3=\":9003\"; ma=3600

    body then trailers

    --- HTTP Trailers
    x-check: sum=42
";
    assert_eq!(dump(&recorded!("p03-http2")[2..3], 3, false), expected);
    let expected = "\
127.0.0.1:60740: GET http://127.0.0.1:9105/abort
    Host: 127.0.0.1:9105
    User-Agent: curl/7.88.1
    Accept: */*
    Proxy-Connection: Keep-Alive

 << 200 OK (content missing)
    Content-Length: 1000

    content missing

 << HTTP/1 protocol error: peer closed connection without sending complete message body (received 12 bytes, expected 1000)
";
    assert_eq!(dump(&recorded!("p08-errors")[1..2], 3, false), expected);
}

/// Where we differ from mitmdump for now: it has views for JSON, images, forms and decodes what is encoded.
#[test]
fn encoded_bodies_are_named_and_binary_ones_dumped() {
    let flows = recorded!("p01-http1-text-binary");
    assert!(dump(&flows[4..5], 3, false).contains("\n\n    (gzip body, 72 bytes)\n\n"));
    let binary = dump(&flows[3..4], 3, false);
    let second = "    0000000010 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f   ................\n";
    assert!(binary.contains(second), "{binary}");
}

#[test]
fn websockets_are_messages_and_a_close() {
    let expected = "\
127.0.0.1:60716: GET http://127.0.0.1:9001/ws
              << 101  0b
127.0.0.1:60716 -> WebSocket text message -> 127.0.0.1:9001/ws
127.0.0.1:60716 <- WebSocket text message <- 127.0.0.1:9001/ws
127.0.0.1:60716 -> WebSocket binary message -> 127.0.0.1:9001/ws
127.0.0.1:60716 <- WebSocket binary message <- 127.0.0.1:9001/ws
127.0.0.1:60716 -> WebSocket text message -> 127.0.0.1:9001/ws
127.0.0.1:60716 <- WebSocket text message <- 127.0.0.1:9001/ws
WebSocket connection closed by client: 1000 client done
";
    let mut flows = recorded!("p04-websocket-text-binary");
    assert_eq!(dump(&flows, 1, false), expected);
    let Flow::Http(flow) = &mut flows[0] else { panic!("HTTP") };
    let data = flow.websocket.as_mut().unwrap();
    data.messages.truncate(1);
    data.close_code = Some(1006);
    let expected = "
127.0.0.1:60716 -> WebSocket text message -> 127.0.0.1:9001/ws

    hello text

Error in WebSocket connection to 127.0.0.1:9001: WebSocket Error: ABNORMAL_CLOSURE (reason: client done)
";
    let text = dump(&flows, 3, false);
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn tcp_and_udp_are_messages() {
    let expected = "\
127.0.0.1:35784 -> tcp -> 127.0.0.1:9101

    first

127.0.0.1:35784 <- tcp <- 127.0.0.1:9101

    0000000000 00 01 41 43 4b 0a 0d 74 73 72 69 66               ..ACK..tsrif

";
    let text = dump(&recorded!("p05-tcp"), 3, false);
    assert!(text.starts_with(expected), "{text}");
    let lines = "127.0.0.1:55761 -> udp -> 127.0.0.1:9103\n127.0.0.1:55761 <- udp <- 127.0.0.1:9103\n";
    assert_eq!(dump(&recorded!("p06-udp"), 1, false), lines.repeat(3));
    let mut failed = recorded!("p05-tcp");
    failed[0].meta_mut().error = Some(Error { msg: "reset".into(), timestamp: 0.0 });
    let text = dump(&failed, 1, false);
    assert!(text.ends_with("\nError in TCP connection to 127.0.0.1:9101: reset\n"), "{text}");
}

#[test]
fn dns_is_a_question_and_its_answers() {
    // mitmdump prints the length byte of a TXT string as it is, a control character.
    let expected = "\
127.0.0.1:54761: DNS QUERY (A) www.example.test
 << alias.www.example.test, 192.0.2.7
127.0.0.1:42093: DNS QUERY (AAAA) www.example.test
 << 2001:db8::7
127.0.0.1:48901: DNS QUERY (TXT) txt.example.test
 << lab text
127.0.0.1:36548: DNS QUERY (A) nx.example.test
 << NXDOMAIN
";
    assert_eq!(dump(&recorded!("p07-dns"), 1, false), expected);
    assert_eq!(dump(&recorded!("p07-dns"), 4, false), expected);
}

#[test]
fn colours_are_those_of_mitmdump() {
    let expected = "\
127.0.0.1:60740: \x1b[32m\x1b[1mGET\x1b[0m \x1b[1mhttp://127.0.0.1:9105/abort\x1b[0m
    \x1b[34mHost\x1b[0m: 127.0.0.1:9105
    \x1b[34mUser-Agent\x1b[0m: curl/7.88.1
    \x1b[34mAccept\x1b[0m: */*
    \x1b[34mProxy-Connection\x1b[0m: Keep-Alive

\x1b[1m <<\x1b[0m \x1b[32m\x1b[1m200\x1b[0m \x1b[32m\x1b[1mOK\x1b[0m \x1b[1m(content missing)\x1b[0m
    \x1b[34mContent-Length\x1b[0m: 1000

    content missing

\x1b[31m\x1b[1m << HTTP/1 protocol error: peer closed connection without sending complete message body (received 12 bytes, expected 1000)\x1b[0m
";
    assert_eq!(dump(&recorded!("p08-errors")[1..2], 3, true), expected);
    let expected = "\
127.0.0.1:54761: \x1b[32mDNS QUERY (A)\x1b[0m \x1b[1mwww.example.test\x1b[0m
\x1b[1m <<\x1b[0m \x1b[94malias.www.example.test\x1b[0m, \x1b[94m192.0.2.7\x1b[0m
";
    assert_eq!(dump(&recorded!("p07-dns")[..1], 1, true), expected);
}

#[test]
fn detail_0_prints_nothing() {
    assert_eq!(dump(&recorded!("p01-http1-text-binary"), 0, true), "");
}

#[test]
fn long_urls_are_cut_at_detail_1_only() {
    let mut flows = recorded!("p01-http1-text-binary");
    flows.truncate(1);
    let Flow::Http(flow) = &mut flows[0] else { panic!("HTTP") };
    flow.request.path = Bytes::from(format!("/{}", "a".repeat(200)));
    let line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let cut = format!("127.0.0.1:47656: GET http://127.0.0.1:9001/{}…", "a".repeat(55 - 22));
    assert_eq!(line(&dump(&flows, 1, false)), cut);
    assert!(line(&dump(&flows, 2, false)).ends_with(&"a".repeat(200)));
    let sink = Sink::default();
    let mut wide = Dumper::new(Box::new(sink.clone()), 1, false, false);
    wide.set_columns(400);
    wide.flow(&flows[0]).unwrap();
    assert!(!String::from_utf8_lossy(&sink.0.lock().unwrap()).contains('…'));
}

#[test]
fn replays_and_host_names_are_shown() {
    let mut flows = recorded!("p02-https-http1-connect");
    flows.truncate(1);
    let Flow::Http(flow) = &mut flows[0] else { panic!("HTTP") };
    flow.request.host = "192.0.2.7".into();
    flow.meta.is_replay = Some(Replay::Request);
    assert!(dump(&flows, 2, false).starts_with("[replay]: GET https://192.0.2.7:9002/text\n"));
    let sink = Sink::default();
    Dumper::new(Box::new(sink.clone()), 2, false, true).flow(&flows[0]).unwrap();
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert!(text.starts_with("[replay]: GET https://localhost:9002/text\n"), "{text}");
    flows[0].meta_mut().is_replay = Some(Replay::Response);
    let text = dump(&flows, 1, false);
    assert!(text.ends_with("\n[replay]      << 200  17b\n"), "{text}");
}

/// Whatever the network sends, what reaches the terminal is printable text and our own line ends.
#[test]
fn no_control_character_reaches_the_terminal() {
    let hostile = "a\x1b[2J\x1b]0;title\x07\r\nx: y\t\x00\x08\x7f\u{9b}31m\u{202e}z";
    let bytes = || Bytes::from(hostile);
    let mut flows = [
        recorded!("p01-http1-text-binary"),
        recorded!("p04-websocket-text-binary"),
        recorded!("p05-tcp"),
        recorded!("p06-udp"),
        recorded!("p07-dns"),
    ]
    .concat();
    for flow in &mut flows {
        let meta = flow.meta_mut();
        meta.error = Some(Error { msg: hostile.into(), timestamp: 0.0 });
        Arc::make_mut(&mut meta.server_conn).address = Some((hostile.into(), 80));
        match flow {
            Flow::Http(flow) => poison_http(flow, hostile),
            Flow::Tcp(flow) => flow.messages.iter_mut().for_each(|message| message.content = bytes()),
            Flow::Udp(flow) => flow.messages.iter_mut().for_each(|message| message.content = bytes()),
            Flow::Dns(flow) => {
                flow.request.questions[0].name = hostile.into();
                for record in flow.response.iter_mut().flat_map(|response| &mut response.answers) {
                    record.name = hostile.into();
                    record.data = [&[hostile.len() as u8], hostile.as_bytes()].concat().into();
                }
            }
        }
    }
    for detail in 1..=4 {
        let text = dump(&flows, detail, false);
        let odd = text.chars().find(|char| (char.is_control() && *char != '\n') || *char == '\u{202e}');
        assert_eq!(odd, None, "detail {detail}");
        assert!(!text.lines().any(|line| line.starts_with("x: y")), "no line is forged");
        assert!(text.contains("\\x1b"));
        // With colours, only our own sequences are there.
        let mut coloured = dump(&flows, detail, true);
        for ours in ["0", "1", "2", "31", "32", "33", "34", "35", "94"] {
            coloured = coloured.replace(&format!("\x1b[{ours}m"), "");
        }
        assert_eq!(coloured, text, "detail {detail}");
    }
}

fn poison_http(flow: &mut HttpFlow, hostile: &'static str) {
    let bytes = || Bytes::from(hostile);
    let headers = || Headers::from_pairs([(hostile, hostile)]);
    let request = &mut flow.request;
    request.host = hostile.into();
    for field in [&mut request.method, &mut request.scheme, &mut request.path, &mut request.http_version] {
        *field = bytes();
    }
    (request.headers, request.trailers, request.content) = (headers(), Some(headers()), Some(bytes()));
    if let Some(response) = &mut flow.response {
        (response.reason, response.http_version) = (bytes(), bytes());
        (response.headers, response.trailers, response.content) = (headers(), Some(headers()), Some(bytes()));
        response.headers.add("content-encoding", hostile);
    }
    if let Some(data) = &mut flow.websocket {
        data.close_reason = Some(hostile.into());
        data.messages = vec![WebSocketMessage { content: bytes(), ..data.messages[0].clone() }];
    }
}

#[test]
fn addresses_are_written_as_people_know_them() {
    let flow = |peername: Option<&str>, host: &str| {
        let peername = peername.map(|addr| addr.parse().unwrap());
        let client = Arc::new(Client { peername, ..Client::default() });
        let address = Some((host.to_owned(), 80));
        let server = Arc::new(crate::flow::Server { address, ..crate::flow::Server::default() });
        let messages = vec![TcpMessage { from_client: true, content: Bytes::new(), timestamp: 0.0 }];
        Flow::Tcp(Box::new(TcpFlow { meta: FlowMeta::new(client, server, 0.0), messages, killed: false }))
    };
    for (peername, host, line) in [
        (Some("[::ffff:192.0.2.1]:5"), "example.test", "192.0.2.1:5 -> tcp -> example.test:80\n"),
        (Some("[2001:db8::1]:5"), "2001:db8::2", "[2001:db8::1]:5 -> tcp -> [2001:db8::2]:80\n"),
        (Some("0.0.0.0:5"), "192.0.2.1", "*:5 -> tcp -> 192.0.2.1:80\n"),
        (None, "", "<no address> -> tcp -> :80\n"),
    ] {
        assert_eq!(dump(&[flow(peername, host)], 1, false), line);
    }
}
