//! Metrics over HTTP (`metrics_addr`), for Prometheus and its kin: `GET /metrics`, and nothing else. Served by the
//! control thread; a request is bounded in size and time, and so are those who ask at once.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::control::Control;
use super::measure;

/// Bytes of a request's head.
const HEAD_MAX: usize = 8 * 1024;
/// For a request's head to come, and for an answer to be taken.
const REQUEST_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Connections at once; more are closed.
const PEERS_MAX: usize = 16;
/// After the answer: how long, and for how many bytes, the peer is heard out so that it sees the answer.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_MAX: usize = 64 * 1024;
/// After an accept failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The exposition format, as its specification names it.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, control: Rc<Control>) {
    let peers = std::sync::Arc::new(Semaphore::new(PEERS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = peers.clone().try_acquire_owned() else { continue };
        let control = control.clone();
        tokio::task::spawn_local(async move {
            let _permit = permit;
            talk(stream, async || measure::exposition(&control).await).await;
        });
    }
}

/// One request and its answer; the connection ends with it.
async fn talk(mut stream: TcpStream, page: impl AsyncFnOnce() -> String) {
    let request = match timeout(REQUEST_TIME, read_head(&mut stream)).await {
        Ok(Ok(head)) => judge(&head),
        Ok(Err(Bad::Gone)) => return,
        Ok(Err(Bad::TooLong)) => Asked::Refused(431, "Request Header Fields Too Large"),
        Err(_) => Asked::Refused(408, "Request Timeout"),
    };
    let answer = match request {
        Asked::Metrics { body } => {
            let text = page().await;
            let head = head(200, "OK", CONTENT_TYPE, text.len(), "");
            if body { head + &text } else { head }
        }
        Asked::Refused(status, reason) => {
            let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
            let text = format!("{status} {reason}\n");
            head(status, reason, "text/plain; charset=utf-8", text.len(), allow) + &text
        }
    };
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = timeout(ANSWER_TIME, told).await {
        let _ = timeout(LINGER_TIME, hear_out(&mut stream)).await;
    }
}

fn head(status: u16, reason: &str, content_type: &str, length: usize, more: &str) -> String {
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{more}\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
}

/// Unread bytes at the close would make the kernel reset the connection, and the answer be lost.
async fn hear_out(stream: &mut TcpStream) {
    let mut waste = [0; 4096];
    let mut heard = 0;
    while heard < LINGER_MAX {
        match stream.read(&mut waste).await {
            Ok(n) if n > 0 => heard += n,
            _ => return,
        }
    }
}

enum Bad {
    Gone,
    TooLong,
}

async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, Bad> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let n = stream.read(&mut piece).await.map_err(|_| Bad::Gone)?;
        if n == 0 {
            return Err(Bad::Gone);
        }
        // the end may lie across two pieces
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&piece[..n]);
        let ends = |end: &[u8]| head[from..].windows(end.len()).any(|found| found == end);
        if ends(b"\r\n\r\n") || ends(b"\n\n") {
            return Ok(head);
        }
        if head.len() > HEAD_MAX {
            return Err(Bad::TooLong);
        }
    }
}

#[derive(Debug, PartialEq)]
enum Asked {
    Metrics { body: bool },
    Refused(u16, &'static str),
}

/// What a request's head asks for (RFC 9112 §3).
fn judge(head: &[u8]) -> Asked {
    const BAD: Asked = Asked::Refused(400, "Bad Request");
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return BAD };
    let mut words = line.trim_end_matches('\r').split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return BAD;
    };
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") || method.is_empty() {
        return BAD;
    }
    if target.split('?').next() != Some("/metrics") {
        return Asked::Refused(404, "Not Found");
    }
    match method {
        "GET" => Asked::Metrics { body: true },
        "HEAD" => Asked::Metrics { body: false },
        _ => Asked::Refused(405, "Method Not Allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_metrics_is_served() {
        let refused = |status, reason| Asked::Refused(status, reason);
        let table = [
            ("GET /metrics HTTP/1.1", Asked::Metrics { body: true }),
            ("GET /metrics?x=1 HTTP/1.0", Asked::Metrics { body: true }),
            ("HEAD /metrics HTTP/1.1", Asked::Metrics { body: false }),
            ("POST /metrics HTTP/1.1", refused(405, "Method Not Allowed")),
            ("get /metrics HTTP/1.1", refused(405, "Method Not Allowed")),
            ("GET / HTTP/1.1", refused(404, "Not Found")),
            ("GET /metrics/ HTTP/1.1", refused(404, "Not Found")),
            ("GET http://h/metrics HTTP/1.1", refused(404, "Not Found")),
            ("CONNECT h:1 HTTP/1.1", refused(404, "Not Found")),
            ("GET /metrics HTTP/2.0", refused(400, "Bad Request")),
            ("GET /metrics", refused(400, "Bad Request")),
            ("GET  /metrics HTTP/1.1", refused(400, "Bad Request")),
            (" /metrics HTTP/1.1", refused(400, "Bad Request")),
            ("", refused(400, "Bad Request")),
        ];
        for (line, expected) in table {
            for end in ["\r\n", "\n"] {
                assert_eq!(judge(format!("{line}{end}Host: h{end}{end}").as_bytes()), expected, "{line}");
            }
        }
        assert_eq!(judge(b"\xff\xfe /metrics HTTP/1.1\r\n\r\n"), refused(400, "Bad Request"));
    }

    /// What a peer that sends these pieces, one after the other, is answered.
    async fn answered(pieces: &[&[u8]]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let addr = listener.local_addr().expect("its address");
        let peer = async {
            let mut stream = TcpStream::connect(addr).await.expect("connected");
            stream.set_nodelay(true).expect("an option");
            for piece in pieces {
                // it may have been answered already
                if stream.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer and an end");
            answer
        };
        let us = async {
            let (stream, _) = listener.accept().await.expect("a peer");
            talk(stream, async || "page\n".to_owned()).await;
        };
        tokio::join!(peer, us).0
    }

    #[tokio::test]
    async fn a_request_is_answered_however_it_is_cut() {
        let request = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";
        let whole = answered(&[request]).await;
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{whole}");
        assert!(
            whole
                .ends_with("Content-Length: 5\r\nCache-Control: no-store\r\nConnection: close\r\n\r\npage\n"),
            "{whole}"
        );
        for at in 1..request.len() {
            assert_eq!(answered(&[&request[..at], &request[at..]]).await, whole, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = request.chunks(1).collect();
        assert_eq!(answered(&bytes).await, whole);
    }

    #[tokio::test]
    async fn a_head_request_gets_the_length_and_no_page() {
        let answer = answered(&[b"HEAD /metrics HTTP/1.1\r\n\r\n"]).await;
        assert!(answer.contains("Content-Length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_head_without_end_is_refused_and_the_answer_arrives() {
        let long = vec![b'x'; 3 * HEAD_MAX];
        let answer = answered(&[b"GET /metrics HTTP/1.1\r\nX: ", &long]).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let other =
            answered(&[b"PUT /metrics HTTP/1.1\r\nContent-Length: 20000\r\n\r\n", &long[..20000]]).await;
        assert!(other.starts_with("HTTP/1.1 405 ") && other.contains("Allow: GET, HEAD\r\n"), "{other}");
    }
}
