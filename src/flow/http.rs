//! One HTTP exchange as a record.

use bytes::Bytes;

use super::{BodyStream, FlowMeta, Headers, WebSocketData};

/// HTTP versions a message can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
    /// HTTP/3
    Http3,
}

impl HttpVersion {
    /// The text flow files hold: `HTTP/1.0`, `HTTP/1.1`, `HTTP/2.0`, `HTTP/3`.
    pub fn as_str(self) -> &'static str {
        match self {
            HttpVersion::Http10 => "HTTP/1.0",
            HttpVersion::Http11 => "HTTP/1.1",
            HttpVersion::Http2 => "HTTP/2.0",
            HttpVersion::Http3 => "HTTP/3",
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Target host; what we connect to if the mode leaves the choice to the request.
    pub host: String,
    /// Target port.
    pub port: u16,
    /// Method, case kept.
    pub method: Bytes,
    /// `http`, `https`; empty for CONNECT.
    pub scheme: Bytes,
    /// Authority or absolute form's authority, or `:authority`; empty for origin form.
    pub authority: Bytes,
    /// Path with query.
    pub path: Bytes,
    /// Version as text, e.g. `HTTP/1.1`.
    pub http_version: Bytes,
    /// Header fields.
    pub headers: Headers,
    /// Body without transfer coding, still content-encoded; `None`: missing (streamed past us).
    pub content: Option<Bytes>,
    /// Trailer fields.
    pub trailers: Option<Headers>,
    /// First byte of the head, Unix seconds.
    pub timestamp_start: f64,
    /// Last byte of the body, Unix seconds.
    pub timestamp_end: Option<f64>,
    /// How the body goes through, while the flow is live.
    pub stream: BodyStream,
}

impl Request {
    /// The URL, with the target host. Ports that the scheme implies are left out.
    pub fn url(&self) -> String {
        self.url_with_host(&self.host)
    }

    /// The URL as a person knows it: with the name of the Host header, if there is one.
    pub fn pretty_url(&self) -> String {
        match self.host_header() {
            Some(host) => self.url_with_host(&host),
            None => self.url(),
        }
    }

    /// The name in `:authority` or Host, without a port.
    pub fn host_header(&self) -> Option<String> {
        let raw = if self.http_version.starts_with(b"HTTP/1") || self.authority.is_empty() {
            self.headers.first("host").map(|v| String::from_utf8_lossy(v).into_owned())
        } else {
            Some(String::from_utf8_lossy(&self.authority).into_owned())
        }?;
        let name = match raw.rfind(':') {
            Some(colon) if !raw[colon..].contains(']') && !raw.is_empty() => &raw[..colon],
            _ => &raw,
        };
        Some(name.trim_start_matches('[').trim_end_matches(']').to_owned())
    }

    fn url_with_host(&self, host: &str) -> String {
        let path = String::from_utf8_lossy(&self.path);
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        if self.scheme.is_empty() {
            return format!("{bracketed}:{}", self.port);
        }
        let scheme = String::from_utf8_lossy(&self.scheme);
        let path = if path == "*" { "" } else { &path };
        match (&*scheme, self.port) {
            ("http", 80) | ("https", 443) => format!("{scheme}://{bracketed}{path}"),
            (_, port) => format!("{scheme}://{bracketed}:{port}{path}"),
        }
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Version as text, e.g. `HTTP/1.1`.
    pub http_version: Bytes,
    /// Three-digit status.
    pub status_code: u16,
    /// Reason phrase; empty in HTTP/2.
    pub reason: Bytes,
    /// Header fields.
    pub headers: Headers,
    /// Body without transfer coding, still content-encoded; `None`: missing (streamed past us).
    pub content: Option<Bytes>,
    /// Trailer fields.
    pub trailers: Option<Headers>,
    /// First byte of the head, Unix seconds.
    pub timestamp_start: f64,
    /// Last byte of the body, Unix seconds.
    pub timestamp_end: Option<f64>,
    /// How the body goes through, while the flow is live.
    pub stream: BodyStream,
}

/// One request with its response.
#[derive(Clone, Debug)]
pub struct HttpFlow {
    /// What every flow has.
    pub meta: FlowMeta,
    /// The request.
    pub request: Request,
    /// The response, once there is one.
    pub response: Option<Response>,
    /// The messages that followed, if the exchange became a WebSocket.
    pub websocket: Option<WebSocketData>,
    /// An addon asked for the end of this flow: the connection is closed without an answer.
    pub killed: bool,
}

impl HttpFlow {
    /// Bytes of memory the contents take, roughly.
    pub fn cost(&self) -> usize {
        let request = &self.request;
        let mut cost = size_of::<Self>() + self.meta.cost();
        cost += request.method.len() + request.scheme.len() + request.authority.len();
        cost += request.path.len() + request.host.len() + request.http_version.len();
        cost += message_cost(&request.headers, request.content.as_ref(), request.trailers.as_ref());
        if let Some(response) = &self.response {
            cost += response.reason.len() + response.http_version.len();
            cost += message_cost(&response.headers, response.content.as_ref(), response.trailers.as_ref());
        }
        cost + self.websocket.as_ref().map_or(0, WebSocketData::cost)
    }
}

fn message_cost(headers: &Headers, content: Option<&Bytes>, trailers: Option<&Headers>) -> usize {
    headers.cost() + content.map_or(0, Bytes::len) + trailers.map_or(0, Headers::cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(scheme: &'static str, port: u16, host_header: &str) -> Request {
        Request {
            host: "192.0.2.7".into(),
            port,
            method: Bytes::from_static(b"GET"),
            scheme: Bytes::from_static(scheme.as_bytes()),
            authority: Bytes::new(),
            path: Bytes::from_static(b"/a?b"),
            http_version: Bytes::from_static(b"HTTP/1.1"),
            headers: Headers::from_pairs([("Host", host_header)]),
            content: Some(Bytes::new()),
            trailers: None,
            timestamp_start: 1.0,
            timestamp_end: Some(2.0),
            stream: BodyStream::Auto,
        }
    }

    #[test]
    fn urls_name_the_target_and_pretty_urls_the_host_header() {
        let r = request("https", 443, "example.test:443");
        assert_eq!(r.url(), "https://192.0.2.7/a?b");
        assert_eq!(r.pretty_url(), "https://example.test/a?b");
        assert_eq!(request("http", 8080, "[2001:db8::1]:8080").pretty_url(), "http://[2001:db8::1]:8080/a?b");
    }

    #[test]
    fn a_connect_request_is_shown_as_host_and_port() {
        assert_eq!(request("", 443, "x").url(), "192.0.2.7:443");
    }
}
