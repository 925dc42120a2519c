//! Dialogues of HTTP/1.

mod addons;
mod bodies;
mod errors;
mod holds;
mod keepalive;
mod limits;
mod proxying;
mod streams;
mod tunnels;

const ORIGIN: &str = "93.184.216.34:80";
const GET: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A GET for a path of ORIGIN.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n")
}

/// A POST with a body of known length.
fn post(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A response with a body of known length.
fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
