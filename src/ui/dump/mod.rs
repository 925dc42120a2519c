//! Flows as text, in mitmdump's manner: one call per finished flow, five levels of detail.
//!
//! | detail | what is printed |
//! |---|---|
//! | 0 | nothing |
//! | 1 | URL, cut to the terminal's width, and status; a line per message |
//! | 2 | the whole URL, and headers |
//! | 3 | and bodies, up to [`BODY_LINES_MAX`] lines |
//! | 4 | and bodies in full, up to [`BODY_BYTES_MAX`] |
//!
//! Everything that comes from the network goes through `style::safe` or `style::safe_bytes` before it
//! is printed: a terminal never sees a control character that we did not make.

mod body;
mod dns;
mod names;
mod style;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use crate::flow::{
    Flow, FlowMeta, Headers, HttpFlow, MetaValue, Replay, Request, Response, TlsVersion, WebSocketData,
    WebSocketKind, reason_phrase,
};
pub use body::{BODY_BYTES_MAX, BODY_LINES_MAX};
use style::{Colour, Paint, safe, safe_bytes};

/// Prints flows.
pub struct Dumper {
    out: Box<dyn Write + Send>,
    look: Look,
}

/// What the operator wants to see.
#[derive(Clone, Copy)]
struct Look {
    detail: u8,
    paint: Paint,
    showhost: bool,
    columns: usize,
}

/// The width that is assumed until someone knows better.
const COLUMNS: usize = 80;
/// Columns that a URL leaves free at detail 1, for the client's address before it.
const URL_MARGIN: usize = 25;
/// Text that is gathered before it is printed.
const SPILL_SIZE: usize = 64 << 10;
/// Columns that a URL has at detail 1 in any terminal.
const URL_MIN: usize = 50;

impl Dumper {
    /// Prints to `out`. `showhost`: URLs have the name of the Host header, not the address connected to.
    pub fn new(out: Box<dyn Write + Send>, detail: u8, color: bool, showhost: bool) -> Self {
        Self { out, look: Look { detail, paint: Paint { on: color }, showhost, columns: COLUMNS } }
    }

    /// Tells how wide the terminal is.
    pub fn set_columns(&mut self, columns: usize) {
        self.look.columns = columns;
    }

    /// Prints a finished flow.
    pub fn flow(&mut self, flow: &Flow) -> io::Result<()> {
        if self.look.detail == 0 {
            return Ok(());
        }
        let look = self.look;
        let mut page = Page { out: &mut *self.out, text: String::new(), result: Ok(()), look };
        match flow {
            Flow::Http(flow) => http(flow, &mut page),
            Flow::Tcp(flow) => {
                let messages = flow.messages.iter().map(|m| (m.from_client, &m.content[..]));
                transport(&flow.meta, "tcp", messages, &mut page);
            }
            Flow::Udp(flow) => {
                let messages = flow.messages.iter().map(|m| (m.from_client, &m.content[..]));
                transport(&flow.meta, "udp", messages, &mut page);
            }
            Flow::Dns(flow) => dns::print(flow, &mut page),
        }
        page.spill();
        page.result?;
        self.out.flush()
    }
}

fn http(flow: &HttpFlow, page: &mut Page<'_>) {
    request_line(flow, page);
    page.message(&flow.request.headers, flow.request.content.as_deref(), flow.request.trailers.as_ref());
    if let Some(response) = &flow.response {
        response_line(flow, response, page);
        page.message(&response.headers, response.content.as_deref(), response.trailers.as_ref());
    }
    if let Some(data) = &flow.websocket {
        websocket(flow, data, page);
    }
    if let Some(error) = &flow.meta.error {
        page.error(&error.msg);
    }
}

fn request_line(flow: &HttpFlow, page: &mut Page<'_>) {
    let (paint, request) = (page.look.paint, &flow.request);
    let colour = match request.method.to_ascii_uppercase().as_slice() {
        b"GET" => Colour::Green,
        b"DELETE" => Colour::Red,
        _ => Colour::Magenta,
    };
    let mut method = safe_bytes(&request.method);
    if flow.meta.noted("h2-pushed-stream").is_some() {
        method.push_str(" PUSH_PROMISE");
    }
    let mut url = safe(&if page.look.showhost { request.pretty_url() } else { request.url() });
    let room = page.look.columns.saturating_sub(URL_MARGIN).max(URL_MIN);
    if page.look.detail == 1 && url.chars().count() > room {
        url = url.chars().take(room).chain(['…']).collect();
    }
    page.line(&format!(
        "{}: {} {}{}",
        client(&flow.meta, paint),
        paint.bold(Some(colour), &method),
        paint.bold(None, &url),
        request_version(request, flow.response.as_ref()),
    ));
}

/// HTTP/1 on both sides is what one expects: the version is not shown.
fn request_version(request: &Request, response: Option<&Response>) -> String {
    let of_response = response.map_or(&b"HTTP/1.1"[..], |response| &response.http_version);
    if is_http1(&request.http_version) && request.http_version == of_response {
        return String::new();
    }
    format!(" {}", safe_bytes(&request.http_version))
}

fn is_http1(version: &[u8]) -> bool {
    matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
}

fn response_line(flow: &HttpFlow, response: &Response, page: &mut Page<'_>) {
    let paint = page.look.paint;
    let replay = if flow.meta.is_replay == Some(Replay::Response) { "[replay]" } else { "" };
    let mut version = String::new();
    if !is_http1(&response.http_version) || response.http_version != flow.request.http_version {
        version = format!("{} ", safe_bytes(&response.http_version));
    }
    let colour = match response.status_code {
        200..300 => Some(Colour::Green),
        300..400 => Some(Colour::Magenta),
        400..600 => Some(Colour::Red),
        _ => None,
    };
    // HTTP/2 and 3 have no reason phrase; the code's name is shown in its place.
    let reason = match &response.http_version[..] {
        b"HTTP/2.0" | b"HTTP/3" => reason_phrase(response.status_code).to_owned(),
        _ => safe_bytes(&response.reason),
    };
    let size = match &response.content {
        Some(content) => body::size(content.len() as u64),
        None => "(content missing)".to_owned(),
    };
    // At detail 1 the code stands under the method of the line above.
    let address = socket_address(flow.meta.client_conn.peername);
    let pad = address.chars().count().saturating_sub(2 + version.chars().count() + replay.len());
    let pad = if page.look.detail == 1 { " ".repeat(pad) } else { String::new() };
    page.line(&format!(
        "{}{pad}{} {version}{} {} {}",
        paint.bold(Some(Colour::Yellow), replay),
        paint.bold(None, " <<"),
        paint.bold(colour, &response.status_code.to_string()),
        paint.bold(colour, &reason),
        paint.bold(None, &size),
    ));
}

fn websocket(flow: &HttpFlow, data: &WebSocketData, page: &mut Page<'_>) {
    let (client, server) = (socket_address(flow.meta.client_conn.peername), server(&flow.meta));
    for message in &data.messages {
        let arrow = arrow(message.from_client);
        let kind = match message.kind {
            WebSocketKind::Text => "text",
            WebSocketKind::Binary => "binary",
        };
        let path = safe_bytes(&flow.request.path);
        page.line(&format!("{client} {arrow} WebSocket {kind} message {arrow} {server}{path}"));
        page.body(Some(&message.content), None);
    }
    let reason = safe(data.close_reason.as_deref().unwrap_or_default());
    match (data.close_code, data.closed_by_client) {
        (Some(code @ (1000 | 1001 | 1005)), by_client) => {
            let by = if by_client == Some(true) { "client" } else { "server" };
            page.line(format!("WebSocket connection closed by {by}: {code} {reason}").trim_end());
        }
        (Some(code), _) => {
            let reason = if reason.is_empty() { reason } else { format!(" (reason: {reason})") };
            let name = names::close_code(code);
            let text = format!("Error in WebSocket connection to {server}: WebSocket Error: {name}{reason}");
            page.line(&page.look.paint.plain(Some(Colour::Red), &text));
        }
        // Still open when it was recorded.
        (None, _) => {}
    }
}

fn transport<'a>(
    meta: &FlowMeta,
    kind: &str,
    messages: impl Iterator<Item = (bool, &'a [u8])>,
    page: &mut Page<'_>,
) {
    let (client, server) = (socket_address(meta.client_conn.peername), server(meta));
    for (from_client, content) in messages {
        let arrow = arrow(from_client);
        let kind = match meta.client_conn.tls_version {
            Some(TlsVersion::Quic1) => quic(meta, kind, arrow),
            _ => kind.to_owned(),
        };
        page.line(&format!("{client} {arrow} {kind} {arrow} {server}"));
        page.body(Some(content), None);
    }
    if let Some(error) = &meta.error {
        let text = format!("Error in {} connection to {server}: {}", kind.to_uppercase(), safe(&error.msg));
        page.line(&page.look.paint.plain(Some(Colour::Red), &text));
    }
}

fn quic(meta: &FlowMeta, kind: &str, arrow: &str) -> String {
    let kind = if kind == "tcp" { "stream" } else { "dgrams" };
    let id = |key| match meta.noted(key) {
        Some(MetaValue::Int(id)) => id.to_string(),
        _ => String::new(),
    };
    let (client, server) = (id("quic_stream_id_client"), id("quic_stream_id_server"));
    format!("quic {kind} {client} {arrow} ringtap {arrow} quic {kind} {server}")
}

fn arrow(from_client: bool) -> &'static str {
    if from_client { "->" } else { "<-" }
}

/// Who began the flow.
fn client(meta: &FlowMeta, paint: Paint) -> String {
    match meta.is_replay {
        Some(Replay::Request) => paint.bold(Some(Colour::Yellow), "[replay]"),
        _ => socket_address(meta.client_conn.peername),
    }
}

fn socket_address(addr: Option<SocketAddr>) -> String {
    addr.map_or_else(|| NO_ADDRESS.to_owned(), |addr| ip_port(addr.ip(), addr.port()))
}

fn server(meta: &FlowMeta) -> String {
    match &meta.server_conn.address {
        Some((host, port)) => {
            host.parse().map_or_else(|_| format!("{}:{port}", safe(host)), |ip| ip_port(ip, *port))
        }
        None => NO_ADDRESS.to_owned(),
    }
}

const NO_ADDRESS: &str = "<no address>";

fn ip_port(ip: IpAddr, port: u16) -> String {
    match ip.to_canonical() {
        ip if ip.is_unspecified() => format!("*:{port}"),
        ip => SocketAddr::new(ip, port).to_string(),
    }
}

/// What one flow prints.
struct Page<'a> {
    out: &'a mut dyn Write,
    /// Printed once it is long enough: a recorded conversation may be larger than memory allows twice.
    text: String,
    /// The first failure; nothing is printed after it.
    result: io::Result<()>,
    look: Look,
}

impl Page<'_> {
    /// A line of text that is safe already.
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
        if self.text.len() >= SPILL_SIZE {
            self.spill();
        }
    }

    fn spill(&mut self) {
        if self.result.is_ok() {
            self.result = self.out.write_all(self.text.as_bytes());
        }
        self.text.clear();
    }

    fn message(&mut self, headers: &Headers, content: Option<&[u8]>, trailers: Option<&Headers>) {
        if self.look.detail < 2 {
            return;
        }
        self.headers(headers);
        self.body(content, headers.get("content-encoding").as_deref());
        if let Some(trailers) = trailers.filter(|trailers| !trailers.is_empty()) {
            self.line(&format!("    {}", self.look.paint.plain(Some(Colour::Magenta), "--- HTTP Trailers")));
            self.headers(trailers);
        }
    }

    fn headers(&mut self, headers: &Headers) {
        for field in headers.fields() {
            let name = self.look.paint.plain(Some(Colour::Blue), &safe_bytes(&field.name));
            self.line(format!("    {name}: {}", safe_bytes(&field.value)).trim_end());
        }
    }

    /// A body, with an empty line before it and one after; without one, just the latter.
    fn body(&mut self, content: Option<&[u8]>, coding: Option<&str>) {
        if self.look.detail < 3 {
            return;
        }
        let mut first = true;
        let cut = body::view(content, coding, self.look.detail >= 4, |line| {
            if std::mem::take(&mut first) {
                self.line("");
            }
            let offset = self.look.paint.plain(Some(Colour::Blue), &line.offset);
            let text = self.look.paint.plain(line.colour, &line.text);
            self.line(&format!("    {offset}{text}"));
        });
        if cut {
            self.line(&format!("    {}", self.look.paint.dim("(cut off)")));
        }
        self.line("");
    }

    fn error(&mut self, msg: &str) {
        self.line(&self.look.paint.bold(Some(Colour::Red), &format!(" << {}", safe(msg))));
    }
}

#[cfg(test)]
mod tests;
