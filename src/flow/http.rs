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
